"""What is installed: every folder of the three packages, and nothing at the top of site-packages but `ray_rerank`."""

import tomllib

from support.paths import ROOT


def test_every_folder_with_code_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for top in ("jobs", "operators", "cluster") for path in (ROOT / top).rglob("__init__.py")}
    assert sorted(listed) == sorted(".".join(("ray_rerank", *folder.relative_to(ROOT).parts)) for folder in folders)
    assert all(
        (path.parent / "__init__.py").exists()
        for top in ("jobs", "operators", "cluster")
        for path in (ROOT / top).rglob("*.py")
    )
