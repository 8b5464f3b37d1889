"""The pages hold: their Python runs, their commands and job files parse, their links and paths lead somewhere."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_rerank.jobs.cli.command import JOBS, parse
from support.paths import ROOT

README, CONTRIBUTING, GUIDE = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "jobs" / "guide"
FOLDERS = ("jobs", "operators", "cluster", "tests")
PAGES = [README, CONTRIBUTING, *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]
EXAMPLES = sorted((ROOT / "jobs" / "examples").glob("*.yaml"))

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|\s|/)(?:ray-rerank|python -m ray_rerank\.jobs) (.+)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./-])(?:\.ci|" + "|".join(FOLDERS) + r")/[\w./*-]*")
MODULE = re.compile(r"\bray_rerank(?:\.\w+)+")
FLAGS = re.compile(r"`(?:([a-z]+) )?--([a-z][\w-]*)")
FLAGS_OF_OTHERS = {"working-dir"}
LONGEST_README = 150


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def find_blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(page, text[: match.start()].count("\n") + 1, *match.groups()) for match in FENCE.finditer(text)]
    return [block for block in found if block.language in languages]


def find_commands(shell: str) -> list[list[str]]:
    """The arguments of each `ray-rerank` in a shell block."""
    lines = [shlex.split(line, comments=True) for line in shell.replace("\\\n", " ").splitlines()]
    matches = [COMMAND.search(shlex.join(line)) for line in lines]
    return [shlex.split(match[1].partition(" '||'")[0]) for match in matches if match]


def file_of(block: Block) -> str | None:
    """The name that a YAML block gives itself in its first line."""
    match = re.match(r"# ([\w-]+\.yaml)\n", block.text)
    return match[1] if match else None


def parse_command(arguments: list[str], folder: Path) -> Any:
    """Parse arguments as the command line does; job files are in the folder, or else in the repository."""
    job, *rest = arguments
    assert job in JOBS, f"there is no job {job}"
    rest = [str(folder / word) if word.endswith(".yaml") and (folder / word).exists() else word for word in rest]
    return parse(importlib.import_module(f"ray_rerank.jobs.{job}").Config, rest)


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def find_links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link that stays in the repository."""
    for target in LINK.findall(prose_of(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def find_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosting sites make them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def flags_of(job: str) -> set[str]:
    fields = importlib.import_module(f"ray_rerank.jobs.{job}").Config.model_fields
    names = {(field.alias or name).replace("_", "-") for name, field in fields.items()}
    return names | {f"no-{name}" for name in names}


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


SHELL = [block for page in PAGES for block in find_blocks(page, "sh")]
YAML = [block for page in PAGES for block in find_blocks(page, "yaml")]
PYTHON = [page for page in PAGES if find_blocks(page, "python")]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_commands_of_a_page_parse(block: Block, tmp_path: Path) -> None:
    for written in find_blocks(block.page, "yaml"):
        if name := file_of(written):
            (tmp_path / name).write_text(written.text, encoding="utf-8")
    if not (tmp_path / "job.yaml").exists():  # pages that explain what goes for all jobs
        (tmp_path / "job.yaml").write_text("{input: candidates/, output: reranked/, model: my-model/}")
    for command in find_commands(block.text):
        parse_command(command, tmp_path)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_make_has_the_targets_of_a_page(block: Block) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", block.text, re.MULTILINE)) <= targets


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("block", YAML, ids=str)
def test_the_job_files_of_a_page_fit_their_job(block: Block, tmp_path: Path) -> None:
    if name := file_of(block):
        commands = [command for shell in find_blocks(block.page, "sh") for command in find_commands(shell.text)]
        used = [command for command in commands if name in command]
        assert used, f"no command of the page runs {name}"
        (tmp_path / name).write_text(block.text, encoding="utf-8")
        parse_command(used[0], tmp_path)
        return
    rest = {"input": "candidates/", "output": "reranked/"}  # a part of a rerank job
    if "stages" not in yaml.safe_load(block.text):
        rest["model"] = "my-model/"
    (tmp_path / "part.yaml").write_text(block.text + yaml.safe_dump(rest), encoding="utf-8")
    parse_command(["rerank", "part.yaml"], tmp_path)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_by_the_command_in_its_first_line(example: Path, tmp_path: Path) -> None:
    (command,) = find_commands(example.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))
    assert command[1:] == [name_of(example)]
    parse_command(command, tmp_path)


@pytest.mark.usefixtures("root")
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["model", "loop", "demo"])
def test_the_commands_of_make_parse(target: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "--dry-run", "--always-make", target, "ENCODER=encoder"]
    printed = subprocess.run(make, check=True, capture_output=True, text=True, env=environment).stdout
    commands = find_commands(printed)
    assert commands
    for command in commands:
        parse_command(command, tmp_path)


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    blocks = find_blocks(page, "python")
    if any("import ray\n" in block.text for block in blocks):
        request.getfixturevalue("ray_here")
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile("\n" * block.line + block.text, str(block), "exec"), names)
    scores = names["scores"] if "scores" in names else [row["score"] for row in names["rows"]]
    assert len(scores) and all(map(float, scores))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, anchor in find_links(page):
        assert target.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in find_anchors(target), f"{name_of(page)}: {target.name} has no #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_paths_and_modules_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = {path.rstrip(".") for path in PATH.findall(text) if "NAME" not in path}
    assert not [path for path in paths if not any(ROOT.glob(path))]
    for name in MODULE.findall(text):
        importlib.import_module(name)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_flags_of_a_page_exist(page: Path) -> None:
    every = {flag for job in JOBS for flag in flags_of(job)} | FLAGS_OF_OTHERS
    for job, flag in FLAGS.findall(prose_of(page)):
        job = job or (page.stem if page.parent == GUIDE else "")
        assert flag in (flags_of(job) if job in JOBS else every), f"{name_of(page)}: {job} has no --{flag}"


def test_the_tree_in_contributing_is_the_tree() -> None:
    tree = find_blocks(CONTRIBUTING, "text")[0].text
    top = ""
    for line in tree.splitlines():
        names = re.findall(r"(?<!\S)(\w+)/(?!\S)", line[:30])
        top = top if line.startswith(" ") else names.pop(0)
        assert not [name for name in names if not (ROOT / top / name).is_dir()], line


def test_every_job_has_a_page_and_every_page_is_linked_from_the_readme() -> None:
    assert {page.stem for page in GUIDE.glob("*.md")} == set(JOBS)
    linked, open_pages = {README}, [README]
    while open_pages:
        for target, _ in find_links(open_pages.pop()):
            if target.suffix == ".md" and target not in linked:
                linked.add(target)
                open_pages.append(target)
    assert not [name_of(page) for page in PAGES if page not in linked]


def test_every_example_is_named_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [name_of(example) for example in EXAMPLES if name_of(example) not in text]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_README
