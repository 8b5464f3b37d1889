"""`ray-rerank export`: every form, read back by the loader of the tool that it is for.

sentence-transformers' own trainers, data collators and losses run here. FlagEmbedding 1.4.2, PyLate 1.6.0 and Tevatron
0.1.0 cannot be installed beside our dependencies in full; their loaders alone can:

    pip install --no-deps --target LOADERS flagembedding==1.4.2 peft pylate==1.6.0 tevatron==0.1.0
    PYTHONPATH=.:LOADERS pytest tests/jobs/test_export.py

Without these the three tests named after them are skipped, and the schema tests stand for them. MS MARCO's form has no
loader of its own: scripts read its lines.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from support.command import execute

TEXTS = [("query_id", pa.string()), ("query", pa.string()), ("doc_id", pa.string()), ("text", pa.string())]
SCHEMA = pa.schema(
    [*TEXTS, ("score", pa.float32()), ("rank", pa.int32()), ("label", pa.float32()), ("source", pa.string())]
)
Q, D = "how to water a cactus {}", "the soil should dry out between two drinks {}-{}"


def rows(queries: int = 6, depth: int = 5, judged: bool = True) -> list[dict[str, Any]]:
    """Labels of queries with `depth` documents, the second of which is the positive."""
    return [
        {
            "query_id": f"{query}",
            "query": Q.format(query),
            "doc_id": f"{query}{place}",
            "text": D.format(query, place),
            "score": float(query - 2 * place),
            "rank": place + 1,
            "label": float(place == 1) if judged else None,
            "source": ("positive" if place == 1 else "bm25") if judged else None,
        }
        for query in range(queries)
        for place in range(depth)
    ]


def write(folder: Path, content: list[dict[str, Any]], parts: int = 2) -> Path:
    """Labels in parts, cut between queries."""
    folder.mkdir(parents=True)
    ids = sorted({row["query_id"] for row in content})
    for part in range(parts):
        own = [row for row in content if ids.index(row["query_id"]) * parts // len(ids) == part]
        pq.write_table(pa.Table.from_pylist(own, schema=SCHEMA), folder / f"part-{part:06d}.parquet")
    return folder


def export(tmp_path: Path, form: str, *more: str, code: int = ExitCode.DONE) -> Path:
    if not (tmp_path / "labels").exists():
        write(tmp_path / "labels", rows())
    output = tmp_path / form
    arguments = ["--input", str(tmp_path / "labels"), "--format", form, "--output", str(output), *more]
    assert execute(["export", *arguments]) == code
    return output


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def dataset(path: Path) -> Any:
    from datasets import Dataset

    return Dataset.from_parquet(str(path), cache_dir=str(path.parent.parent / "cache"))


def train_a_step(path: Path, model: Path, loss: str, tmp_path: Path) -> float:
    """One step of CrossEncoderTrainer on the file; the loss."""
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        losses,
    )

    student = CrossEncoder(str(model), device="cpu", max_length=64)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path / "steps"), max_steps=1, per_device_train_batch_size=4, report_to="none",
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = CrossEncoderTrainer(student, arguments, dataset(path), loss=getattr(losses, loss)(student))
        return float(trainer.train().training_loss)


def train_bi_encoder_a_step(path: Path, model: Path, tmp_path: Path) -> float:
    """The same with SentenceTransformerTrainer and MarginMSELoss."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MarginMSELoss

    student = SentenceTransformer(str(model), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "steps"), max_steps=1, per_device_train_batch_size=4, report_to="none",
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = SentenceTransformerTrainer(student, arguments, dataset(path), loss=MarginMSELoss(student))
        return float(trainer.train().training_loss)


@pytest.fixture(scope="module")
def bi_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.models import write_bi_encoder

    return write_bi_encoder(tmp_path_factory.mktemp("bi") / "model")


def test_margin_mse_triplets_train_both_kinds_of_student(tmp_path: Path, cross_encoder: Path, bi_encoder: Path) -> None:
    path = export(tmp_path, "margin-mse") / "train.parquet"
    table = pq.read_table(path)
    texts = [(name, pa.string()) for name in ("query", "positive", "negative")]
    assert table.schema.equals(pa.schema([*texts, ("label", pa.float32())]))
    assert table.num_rows == 6 * 4
    assert table.slice(0, 4).to_pylist() == [
        {"query": Q.format(0), "positive": D.format(0, 1), "negative": D.format(0, place), "label": margin}
        for place, margin in ((0, -2.0), (2, 2.0), (3, 4.0), (4, 6.0))
    ]
    assert np.isfinite(train_a_step(path, cross_encoder, "MarginMSELoss", tmp_path))
    assert np.isfinite(train_bi_encoder_a_step(path, bi_encoder, tmp_path))


@pytest.mark.parametrize(("tuples", "label"), [("margins", [-2.0, 4.0, 6.0]), ("scores", [-2.0, 0.0, -6.0, -8.0])])
def test_margin_mse_tuples_hold_n_margins_or_all_scores_and_train_both_kinds_of_student(
    tmp_path: Path, cross_encoder: Path, bi_encoder: Path, tuples: str, label: list[float]
) -> None:
    write(tmp_path / "labels", [row for row in rows() if row["doc_id"] not in {"02", "12", "13"}])
    path = export(tmp_path, "margin-mse", "--tuples", tuples, "--negatives", "3") / "train.parquet"
    table = pq.read_table(path)
    assert table.column_names == ["query", "positive", "negative_1", "negative_2", "negative_3", "label"]
    assert table.num_rows == 5, "query 1 has only two negatives"
    assert table["label"][0].as_py() == label
    assert table["negative_1"][0].as_py() == D.format(0, 0)
    assert np.isfinite(train_a_step(path, cross_encoder, "MarginMSELoss", tmp_path))
    assert np.isfinite(train_bi_encoder_a_step(path, bi_encoder, tmp_path))


def test_mse_holds_every_pair_with_its_score_and_trains(tmp_path: Path, cross_encoder: Path) -> None:
    path = export(tmp_path, "mse") / "train.parquet"
    given = [(row["query"], row["text"], row["score"]) for row in rows()]
    assert [tuple(row.values()) for row in pq.read_table(path).to_pylist()] == given
    assert pq.read_schema(path).names == ["query", "document", "score"]
    assert np.isfinite(train_a_step(path, cross_encoder, "MSELoss", tmp_path))


@pytest.mark.parametrize("loss", ["ListNetLoss", "LambdaLoss", "RankNetLoss", "ADRMSELoss"])
def test_listwise_holds_each_query_with_its_scores_and_trains(tmp_path: Path, cross_encoder: Path, loss: str) -> None:
    write(tmp_path / "labels", rows()[2:])  # lists of different lengths
    path = export(tmp_path, "listwise") / "train.parquet"
    table = pq.read_table(path)
    assert table.column_names == ["query", "docs", "labels"]
    assert table["docs"][1].as_py() == [D.format(1, place) for place in range(5)]
    assert table["labels"].to_pylist()[:2] == [[-4.0, -6.0, -8.0], [1.0, -1.0, -3.0, -5.0, -7.0]]
    assert np.isfinite(train_a_step(path, cross_encoder, loss, tmp_path))


def test_flag_embedding_lines_are_aligned_by_position(tmp_path: Path) -> None:
    lines = jsonl(export(tmp_path, "flag-embedding") / "train.jsonl")
    assert len(lines) == 6
    assert lines[0] == {
        "query": Q.format(0),
        "pos": [D.format(0, 1)],
        "neg": [D.format(0, place) for place in (0, 2, 3, 4)],
        "pos_scores": [-2.0],
        "neg_scores": [0.0, -4.0, -6.0, -8.0],
    }


def test_flag_embeddings_own_dataset_and_collator_take_it(tmp_path: Path, cross_encoder: Path) -> None:
    loaders = pytest.importorskip("FlagEmbedding.abc.finetune.reranker.AbsDataset", reason="see the head of this file")
    arguments = pytest.importorskip("FlagEmbedding.abc.finetune.reranker.AbsArguments")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    folder = export(tmp_path, "flag-embedding")
    settings = arguments.AbsRerankerDataArguments(
        train_data=[str(folder)], cache_path=str(tmp_path / "cache"), train_group_size=3, knowledge_distillation=True
    )
    data = loaders.AbsRerankerTrainDataset(settings, tokenizer)
    assert len(data) == 6, "it reads every .json of the folder: our record may not lie among them"
    batch = loaders.AbsRerankerCollator(tokenizer)([data[0], data[1]])
    assert batch["pair"]["input_ids"].shape[0] == 6
    assert len(batch["teacher_scores"]) == 6 and batch["teacher_scores"][0] == -2.0


def test_pylates_three_tables_name_each_query_and_document_once(tmp_path: Path) -> None:
    content = rows()
    for row in content:
        row["doc_id"] = "shared" if row["doc_id"].endswith("4") else row["doc_id"]
        row["text"] = "the same text" if row["doc_id"] == "shared" else row["text"]
    write(tmp_path / "labels", content)
    folder = export(tmp_path, "pylate")
    train, queries, documents = (pq.read_table(folder / f"{n}.parquet") for n in ("train", "queries", "documents"))
    assert train.slice(0, 1).to_pylist() == [
        {"query_id": "0", "document_ids": ["01", "00", "02", "03", "shared"], "scores": [-2, 0, -4, -6, -8]}
    ]
    assert queries.to_pylist() == [{"query_id": str(n), "text": Q.format(n)} for n in range(6)]
    ids = documents["document_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 6 * 4 + 1
    assert {name: table.schema.types for name, table in (("q", queries), ("d", documents))} == {
        "q": [pa.string()] * 2,
        "d": [pa.string()] * 2,
    }


def test_a_document_with_a_second_text_is_counted_not_mixed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rows()
    for row in content:
        row["doc_id"] = "shared" if row["doc_id"].endswith("4") else row["doc_id"]
    write(tmp_path / "labels", content)
    folder = export(tmp_path, "pylate", code=ExitCode.DONE_WITH_ERRORS)
    texts = dict(zip(*pq.read_table(folder / "documents.parquet").to_pydict().values(), strict=True))
    assert texts["shared"] == D.format(0, 4)
    assert "5 x text beside another of the same id" in capsys.readouterr().out


def test_pylates_own_processing_and_collator_take_it(tmp_path: Path, cross_encoder: Path) -> None:
    pylate = pytest.importorskip("pylate.utils", reason="see the head of this file")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    folder = export(tmp_path, "pylate", "--negatives", "2")
    train, queries, documents = (dataset(folder / f"{name}.parquet") for name in ("train", "queries", "documents"))
    train.set_transform(pylate.KDProcessing(queries=queries, documents=documents, n_ways=3).transform)
    sample = train[0]
    assert sample["query"] == Q.format(0) and sample["documents"][0] == D.format(0, 1)
    assert len(sample["documents"]) == len(sample["scores"]) == 3

    def tokenise(texts: list[str], is_query: bool, pad: bool, task: None) -> Any:
        return tokenizer(texts, padding=True, return_tensors="pt")

    batch = pylate.ColBERTCollator(tokenise)([train[0], train[1]])
    assert tuple(batch["label"].shape) == (2, 3) and batch["documents_input_ids"].shape[0] == 6


def test_tevatron_lines_hold_passages_with_docid_title_text_and_score(tmp_path: Path) -> None:
    lines = jsonl(export(tmp_path, "tevatron", "--negatives", "1", "--min-margin", "5") / "train.jsonl")
    assert lines[0] == {
        "query_id": "0",
        "query": Q.format(0),
        "positive_passages": [{"docid": "01", "title": "", "text": D.format(0, 1), "score": -2.0}],
        "negative_passages": [{"docid": "04", "title": "", "text": D.format(0, 4), "score": -8.0}],
    }


def test_tevatrons_own_loader_and_preprocessor_take_it(tmp_path: Path, cross_encoder: Path) -> None:
    loaders = pytest.importorskip("tevatron.datasets", reason="see the head of this file")
    arguments = pytest.importorskip("tevatron.arguments")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    settings = arguments.DataArguments(train_dir=str(export(tmp_path, "tevatron")), dataset_proc_num=1)
    data = loaders.HFTrainDataset(tokenizer, settings, cache_dir=str(tmp_path / "cache"))
    assert len(data.dataset) == 6
    data.preprocessor = loaders.dataset.DEFAULT_PROCESSORS[0]
    processed = data.process()
    assert len(processed[0]["positives"]) == 1 and len(processed[0]["negatives"]) == 4
    expected = tokenizer.encode(D.format(0, 1), add_special_tokens=False)
    assert processed[0]["positives"][0] == expected


def test_ms_marco_files_name_negatives_by_source_and_give_every_margin(tmp_path: Path) -> None:
    folder = export(tmp_path, "ms-marco", "--integer-ids")
    assert jsonl(folder / "hard-negatives.jsonl")[3] == {"qid": 3, "pos": [31], "neg": {"bm25": [30, 32, 33, 34]}}
    lines = (folder / "margins.tsv").read_text().splitlines()
    assert lines[:2] == ["query_id\tpositive_id\tnegative_id\tscore", "0\t1\t0\t-2.0"]
    assert len(lines) == 1 + 6 * 4
    named = export(tmp_path, "ms-marco", "--overwrite") / "hard-negatives.jsonl"
    assert jsonl(named)[0] == {"qid": "0", "pos": ["01"], "neg": {"bm25": ["00", "02", "03", "04"]}}


def test_ms_marco_leaves_out_and_tells_queries_with_ids_that_its_lines_cannot_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {0: "a\tb", 1: "a\x85b", 2: '"a"', 3: " a"}
    write(tmp_path / "labels", [row | {"query_id": odd.get(int(row["query_id"]), row["query_id"])} for row in rows()])
    command = ["export", "--input", str(tmp_path / "labels"), "--format", "ms-marco", "--output", str(tmp_path / "out")]
    assert execute(command) == ExitCode.DONE_WITH_ERRORS
    assert "left out: 4 x query with an id that a line cannot hold" in capsys.readouterr().out
    lines = [line.split("\t") for line in (tmp_path / "out" / "margins.tsv").read_text().splitlines()]
    assert {line[0] for line in lines[1:]} == {"4", "5"} and {len(line) for line in lines} == {4}


@pytest.mark.parametrize("name", ["1_0", "٣", "x"])
def test_an_id_that_is_no_plain_number_is_not_written_as_one(tmp_path: Path, name: str) -> None:
    write(
        tmp_path / "labels", [row | {"query_id": name if row["query_id"] == "3" else row["query_id"]} for row in rows()]
    )
    command = ["export", "--input", str(tmp_path / "labels"), "--format", "ms-marco", "--output", str(tmp_path / "out")]
    assert execute([*command, "--integer-ids"]) == ExitCode.REFUSED


def test_the_teachers_best_is_the_positive_where_nothing_is_judged_or_it_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "labels", [*rows(3, judged=False), *rows()[15:]])
    lines = jsonl(export(tmp_path, "flag-embedding") / "train.jsonl")
    assert [line["pos"] for line in lines] == [[D.format(n, 0 if n < 3 else 1)] for n in range(6)]
    lines = jsonl(export(tmp_path, "flag-embedding", "--positives", "best", "--overwrite") / "train.jsonl")
    assert [line["pos"] for line in lines] == [[D.format(n, 0)] for n in range(6)]


def test_the_draw_of_negatives_depends_on_seed_and_ids_alone(tmp_path: Path) -> None:
    def drawn(folder: str, parts: int, *more: str, sign: float = 1) -> list[dict[str, Any]]:
        content = [row | {"score": sign * row["score"]} for row in rows(20, 9)]
        write(tmp_path / folder / "labels", content, parts)
        lines = jsonl(export(tmp_path / folder, "flag-embedding", "--negatives", "3", *more) / "train.jsonl")
        return sorted(lines, key=lambda line: str(line["query"]))

    one = drawn("one", 1)
    assert all(len(line["neg"]) == 3 and line["pos"][0] not in line["neg"] for line in one)
    assert all(len(set(line["neg"])) == 3 for line in one)
    assert drawn("four", 4) == one
    assert drawn("other", 1, "--seed", "1") != one
    other_teacher = drawn("teacher", 1, sign=-0.5)
    assert [set(line["neg"]) for line in other_teacher] == [set(line["neg"]) for line in one]
    assert [line["neg_scores"] for line in other_teacher] != [line["neg_scores"] for line in one]


def test_a_margin_that_no_negative_keeps_is_the_reason_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = rows()
    content[0]["label"] = 1.0
    content[2:5] = [row | {"score": content[1]["score"] - 0.5} for row in content[2:5]]
    write(tmp_path / "labels", content)
    export(tmp_path, "listwise", "--min-margin", "1")
    assert "1 x query without a negative 1 below its lowest positive" in capsys.readouterr().out


def test_queries_without_a_positive_or_a_negative_and_bad_rows_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rows()
    content = [row for row in content if row["query_id"] != "0" or row["label"] == 1]
    for row in content:
        row["label"] = 0.0 if row["query_id"] == "2" else row["label"]
    content[-1]["score"], content[-2]["text"], content[-3]["score"] = float("nan"), None, None
    content[-7]["query"] = "another text"
    write(tmp_path / "labels", content)
    lines = jsonl(export(tmp_path, "flag-embedding", code=ExitCode.DONE_WITH_ERRORS) / "train.jsonl")
    assert [len(line["neg"]) for line in lines] == [4, 4, 3, 1]
    told = capsys.readouterr().out
    assert "1 x row of another query text" in told
    assert "1 x query without a negative" in told and "1 x query without a positive" in told
    assert "2 x row whose score is not a finite number" in told and "1 x row without a query or a text" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--format", "pickle"], "none of margin-mse, mse"),
        (["--format", "mse", "--tuples", "scores"], "`tuples` is an option of margin-mse"),
        (["--format", "margin-mse", "--tuples", "scores"], "`tuples` needs `negatives`"),
        (["--format", "tevatron", "--min-margin", "100"], "nothing can be exported"),
        (["--format", "mse", "--input", "nowhere"], "there is no such file or folder"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    write(tmp_path / "labels", rows())
    arguments = ["--input", str(tmp_path / "labels"), "--output", str(tmp_path / "out"), *more]
    assert execute(["export", *arguments]) == ExitCode.REFUSED
    assert told in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.*"))


def test_what_no_teacher_scored_is_not_exported_as_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "labels", rows())
    (tmp_path / "labels" / "_mine.json").write_text('{"complete": true}')
    assert not export(tmp_path, "mse", code=ExitCode.REFUSED).exists()
    assert "`ray-rerank mine` wrote this" in capsys.readouterr().err


def test_another_export_and_strangers_files_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path, "pylate")
    before = {path.name: path.read_bytes() for path in (tmp_path / "pylate").glob("*.parquet")}
    arguments = ["--input", str(tmp_path / "labels"), "--format", "mse", "--output", str(tmp_path / "pylate")]
    assert execute(["export", *arguments]) == ExitCode.REFUSED
    assert 'format: "pylate" -> "mse"' in capsys.readouterr().err
    export(tmp_path, "pylate")
    assert {path.name: path.read_bytes() for path in (tmp_path / "pylate").glob("*.parquet")} == before
    assert execute(["export", *arguments, "--overwrite"]) == ExitCode.DONE
    assert [path.name for path in (tmp_path / "pylate").glob("*.*")] == ["train.parquet"]

    kept = (tmp_path / "pylate" / "train.parquet").read_bytes()
    nothing = [*arguments[:2], "--format", "margin-mse", *arguments[4:], "--min-margin", "1000", "--overwrite"]
    assert execute(["export", *nothing]) == ExitCode.REFUSED
    assert "nothing can be exported" in capsys.readouterr().err
    assert (tmp_path / "pylate" / "train.parquet").read_bytes() == kept

    for damaged in ("{bro", "{}"):
        (tmp_path / "pylate" / "_export" / "export.json").write_text(damaged)
        assert execute(["export", *arguments]) == ExitCode.REFUSED
        assert "export.json: is damaged" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    arguments[-1] = str(tmp_path / "mine")
    assert execute(["export", *arguments, "--overwrite"]) == ExitCode.REFUSED
    assert "holds files that export did not write (thesis.txt)" in capsys.readouterr().err
