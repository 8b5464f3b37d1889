"""The starter collection is whole and honest, and the demo shows what re-ranking gains on it."""

import json
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.demo import STARTER, Config
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.formats.qrels import read_qrels
from support.command import execute


def lines(name: str) -> dict[str, str]:
    found = dict(line.split("\t", 1) for line in (STARTER / name).read_text(encoding="utf-8").splitlines())
    assert len(found) == len((STARTER / name).read_text(encoding="utf-8").splitlines()), "an id stands twice"
    return found


def test_the_starter_collection_has_what_its_readme_says() -> None:
    passages, queries = lines("passages.tsv"), lines("queries.tsv")
    assert len(passages) >= 300 and len(queries) >= 50
    assert all(30 <= len(text.split()) <= 80 for text in passages.values())
    assert len(set(passages.values())) == len(passages)
    with (STARTER / "qrels.txt").open("rb") as stream:
        qrels = read_qrels(stream, "qrels.txt").grades
    assert set(qrels) == set(queries)
    for grades in qrels.values():
        assert set(grades) <= set(passages)
        assert set(grades.values()) <= {0, 1, 2}
        assert 2 in grades.values()


def test_the_starter_collection_judges_the_whole_pool_of_the_demo(tmp_path: Path) -> None:
    texts = [f"--{name}={STARTER / name}.tsv" for name in ("queries", "passages")]
    depth = str(Config().depth)
    assert execute(["prepare", *texts, "--bm25", depth, "--output", str(tmp_path / "pool")]) == ExitCode.DONE
    with (STARTER / "qrels.txt").open("rb") as stream:
        qrels = read_qrels(stream, "qrels.txt").grades
    rows = pads.dataset(str(tmp_path / "pool")).to_table().to_pylist()
    pool = [(row["query_id"], candidate["doc_id"]) for row in rows for candidate in row["candidates"]]
    assert len(pool) > len(qrels) * 30
    assert not [(query_id, doc_id) for query_id, doc_id in pool if doc_id not in qrels[query_id]]


@pytest.mark.usefixtures("in_process")
def test_the_demo_beats_bm25_and_a_second_one_is_the_first_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    demo = ["demo", "--depth", "15", "--output", str(tmp_path / "demo")]
    assert execute(demo) == ExitCode.DONE
    told = capfd.readouterr().out
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert metrics["MRR@10"]["reranked"] > metrics["MRR@10"]["first_stage"]
    assert metrics["nDCG@10"]["interval"][0] > 0, "the gain in nDCG@10 could be chance"
    assert told.count("first answer at") == 5
    assert execute(demo) == ExitCode.DONE
