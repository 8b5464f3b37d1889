"""operators run on any machine with torch: neither Ray nor the cluster side is imported."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import operators

PROGRAM = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "cluster", "jobs"}:
            raise ImportError(f"operators may not import {name}")
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_operator_imports_where_ray_cannot_be_imported() -> None:
    names = [f"operators.{module.name}" for module in pkgutil.iter_modules(operators.__path__)]
    assert "operators.cross_encoder" in names
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_cluster_imports_no_operators_and_no_jobs() -> None:
    root = Path(__file__).resolve().parents[2]
    for path in sorted((root / "cluster").glob("*.py")):
        lines = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert not [line for line in lines if line.split()[1].split(".")[0] in {"operators", "jobs"}], path
