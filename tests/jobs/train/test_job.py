"""`ray-rerank train`: what it learns from, what it refuses, how it resumes, what it writes."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentence_transformers
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.paths import ROOT
from support.training import FILLERS, TOPICS, pairs, train, write_pairs

QUICK = ("--epochs", "1", "--max-length", "32", "--batch-size", "16")


def test_a_decoder_is_refused_before_it_is_trained(tmp_path: Path, checkpoint: Path, capsys: Any) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(20))
    model = Path(shutil.copytree(checkpoint, tmp_path / "llama"))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=400, **sizes)).save_pretrained(model)
    assert train(source, model, tmp_path / "out") == ExitCode.REFUSED
    assert "is a decoder (llama)" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_training_lowers_the_held_out_loss(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(600, low=-4.0, high=4.0))
    flags = ("--epochs", "6", "--learning-rate", "0.003", "--max-length", "32", "--held-out", "0.2")
    assert train(source, checkpoint, tmp_path / "model", *flags) == ExitCode.DONE
    held_out = json.loads((tmp_path / "model" / "training.json").read_text())["held_out"]
    assert held_out["after"]["loss"] < 0.5 * held_out["before"]["loss"]
    assert held_out["after"]["ordered"] > max(0.9, held_out["before"]["ordered"])


def test_the_trained_model_gives_raw_logits_under_sentence_transformers(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64, low=-9.0, high=-7.0))
    flags = ("--epochs", "20", "--learning-rate", "0.01", "--max-length", "32", "--batch-size", "16")
    train(source, checkpoint, tmp_path / "model", *flags)
    model = sentence_transformers.CrossEncoder(
        str(tmp_path / "model"), local_files_only=True, model_kwargs={"use_safetensors": True}
    )
    assert model.num_labels == 1
    assert model.predict([("apple red", "the apple")])[0] < -2  # a sigmoid would lie in [0, 1]


def test_the_trainings_max_length_is_not_the_models(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    train(source, checkpoint, tmp_path / "model", *QUICK, "--max-length", "16")
    long = "apple " * 200
    for folder in (checkpoint, tmp_path / "model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.model_max_length == 64
        assert len(tokenizer(long, truncation=True)["input_ids"]) == 64
        assert len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(long).ids) == 202


def test_half_precision_halves_the_weights(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    train(source, checkpoint, tmp_path / "model", *QUICK, "--save-precision", "fp16")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_only_the_layers_asked_for_are_trained_and_frozen_embeddings_stay(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64))
    train(source, checkpoint, tmp_path / "model", *QUICK, "--layers", "0,2", "--freeze-embeddings")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "model"))
    assert config["num_hidden_layers"] == 2
    assert not any("encoder.layer.2." in name for name in after)
    for name, tensor in after.items():
        if ".embeddings." in name:
            assert torch.equal(tensor, before[name])
    name = "bert.encoder.layer.1.output.dense.weight"
    assert not torch.equal(after[name], before[name.replace("layer.1", "layer.2")])


def test_the_same_seed_trains_the_same_weights(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64))
    for name in ("one", "two"):
        train(source, checkpoint, tmp_path / name, *QUICK)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_killed_training_resumes_and_ends_as_an_uninterrupted_one(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(240))
    flags = (*QUICK, "--epochs", "4", "--checkpoint-every", "3")
    command = [sys.executable, "-m", "ray_rerank.jobs", "train", "--input", str(source), "--model", str(checkpoint)]
    command += ["--threads", "1", *flags]
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, "--output", str(killed)], cwd=ROOT)
    checkpoints = tmp_path / "killed.checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model.safetensors").exists()

    train(source, checkpoint, killed, *flags)
    assert "going on from step" in capsys.readouterr().err
    assert not checkpoints.exists()
    train(source, checkpoint, tmp_path / "whole", *flags)
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (killed, tmp_path / "whole"))
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], atol=1e-6, rtol=1e-5)
    first, second = (json.loads((folder / "training.json").read_text()) for folder in (killed, tmp_path / "whole"))
    assert [point["step"] for point in first["curve"]] == [point["step"] for point in second["curve"]]
    assert [point.get("ordered") for point in first["curve"]] == [point.get("ordered") for point in second["curve"]]
    assert first["kept_step"] == second["kept_step"]


def test_a_training_killed_while_it_saves_goes_on(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    model = tmp_path / "model"
    train(source, checkpoint, model, *QUICK)
    settings = json.loads((model / "training.json").read_text())["settings"]
    (model / "training.json").unlink()  # the record is written last
    assert train(source, checkpoint, model, *QUICK) == ExitCode.REFUSED
    (tmp_path / "model.checkpoints").mkdir()
    (tmp_path / "model.checkpoints" / "training.json").write_text(json.dumps(settings))
    assert train(source, checkpoint, model, *QUICK) == ExitCode.DONE
    assert json.loads((model / "training.json").read_text())["settings"] == settings


def test_the_same_command_again_trains_nothing_and_another_setting_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    model = tmp_path / "model"
    assert train(source, checkpoint, model, *QUICK) == ExitCode.DONE
    written = (model / "model.safetensors").stat().st_mtime_ns
    assert train(source, checkpoint, model, *QUICK) == ExitCode.DONE
    assert train(source, checkpoint, model, *QUICK, "--learning-rate", "0.5") == ExitCode.REFUSED
    assert "learning_rate: 5e-05 -> 0.5" in capsys.readouterr().err
    assert (model / "model.safetensors").stat().st_mtime_ns == written
    assert train(source, checkpoint, model, *QUICK, "--learning-rate", "0.001", "--overwrite") == ExitCode.DONE
    assert (model / "model.safetensors").stat().st_mtime_ns > written
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-1])
    assert train(source, checkpoint, model, *QUICK, "--learning-rate", "0.001") == ExitCode.REFUSED
    assert "the trained weights are gone or damaged; --overwrite trains anew" in capsys.readouterr().err


@pytest.mark.parametrize(("low", "high", "loss"), [(0.0, 1.0, "bce"), (0.2, 0.9, "bce"), (-3.0, 1.0, "mse")])
def test_the_loss_follows_the_labels(tmp_path: Path, checkpoint: Path, low: float, high: float, loss: str) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32, low, high))
    train(source, checkpoint, tmp_path / "model", *QUICK)
    assert json.loads((tmp_path / "model" / "training.json").read_text())["settings"]["loss"] == loss


def test_binary_cross_entropy_on_logits_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32, -3.0, 5.0))
    assert train(source, checkpoint, tmp_path / "model", "--loss", "bce") == ExitCode.REFUSED
    assert "from -3 to 5" in capsys.readouterr().err


def test_unusable_rows_are_counted_and_left_out(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = pa.table({"query": [None, "apple"], "document": ["the apple", "a river"], "label": [1.0, math.nan]})
    source = write_pairs(tmp_path / "pairs.parquet", pa.concat_tables([pairs(32), bad]))
    assert train(source, checkpoint, tmp_path / "model", *QUICK) == ExitCode.DONE_WITH_ERRORS
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["left_out"] == {"empty query": 1, "label is no finite number": 1}
    assert record["pairs"] + record["held_out"]["pairs"] == 32
    assert "1 x empty query" in capsys.readouterr().out


@pytest.mark.parametrize("faulty", ["missing", "empty", "pickled"])
def test_a_folder_that_is_no_model_is_refused(
    tmp_path: Path, checkpoint: Path, faulty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    folder = tmp_path / faulty
    if faulty != "missing":
        folder.mkdir()
    if faulty == "pickled":
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((checkpoint / name).read_bytes())
        torch.save(load_file(checkpoint / "model.safetensors"), folder / "pytorch_model.bin")
    assert train(source, folder, tmp_path / "model", *QUICK) == ExitCode.REFUSED
    assert str(folder) in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("loss", ["bce", "margin-mse", "listnet", "lambda"])  # mse: the test above all others
def test_every_loss_puts_held_out_pairs_in_order(tmp_path: Path, checkpoint: Path, loss: str) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(200))
    flags = ("--epochs", "6", "--learning-rate", "0.003", "--max-length", "32", "--batch-size", "16")
    flags += ("--loss", loss, "--group-size", "4", "--held-out", "0.2")
    assert train(source, checkpoint, tmp_path / "model", *flags) == ExitCode.DONE
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["held_out"]["decides"] == "ordered"
    assert record["held_out"]["after"]["ordered"] > max(0.9, record["held_out"]["before"]["ordered"])


def judged(folder: Path, words: tuple[str, str] = ("evaluation", "query")) -> tuple[str, ...]:
    """Flags of a small candidate shard whose relevant documents name one of the first four topics."""
    rows, lines = [], []
    for number in range(8):
        for place, topic in enumerate(TOPICS):
            doc_id = f"{number}-{place}"
            text = f"{FILLERS[number]} {topic} {topic}"
            query = {"query_id": f"e{number}", "query": f"{words[0]} {words[1]} {number}"}
            rows.append({**query, "doc_id": doc_id, "text": text})
            lines.append(f"e{number} 0 {doc_id} {int(place < 4)}")
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "candidates.parquet")
    (folder / "qrels.txt").write_text("\n".join(lines))
    return ("--evaluation", str(folder / "candidates.parquet"), "--evaluation-qrels", str(folder / "qrels.txt"))


def test_the_best_of_the_curve_by_ndcg_is_saved_and_the_report_shows_it(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(200))
    flags = ("--epochs", "4", "--learning-rate", "0.003", "--max-length", "32", "--batch-size", "16")
    flags += ("--evaluate-every", "10", *judged(tmp_path / "judged"))
    assert train(source, checkpoint, tmp_path / "model", *flags) == ExitCode.DONE
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    measured = {point["step"]: point["nDCG@10"] for point in record["curve"] if "nDCG@10" in point}
    assert sorted(measured) == [0, 10, 20, 30, 40, 50, 52]
    assert any("training_loss" in point for point in record["curve"])
    best = max(value for step, value in measured.items() if step)
    assert measured[record["kept_step"]] == best == record["held_out"]["after"]["nDCG@10"]
    assert record["held_out"]["before"]["nDCG@10"] == measured[0]
    assert record["pairs"] == 200  # nothing is held out of the input
    assert (tmp_path / "model" / "training.svg").read_text().rstrip().endswith("</svg>")


def test_the_last_weights_are_saved_where_asked(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64))
    flags = (*QUICK, "--epochs", "2", "--learning-rate", "0.1", "--evaluate-every", "1", "--keep", "last")
    assert train(source, checkpoint, tmp_path / "model", *flags) == ExitCode.DONE
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["kept_step"] == record["curve"][-1]["step"] == 8
    assert [point["step"] for point in record["curve"] if "training_loss" in point] == list(range(1, 9))


def test_queries_that_are_measured_on_are_refused_in_the_training(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    flags = judged(tmp_path / "judged", ("The", "THE"))  # with its number no query of the training
    assert train(source, checkpoint, tmp_path / "model", *QUICK, *flags) == ExitCode.DONE
    rows = pairs(32).append_column("query_id", pa.array([f"e{row // 4}" for row in range(32)]))
    source = write_pairs(tmp_path / "ids.parquet", rows)
    assert train(source, checkpoint, tmp_path / "other", *QUICK, *flags) == ExitCode.REFUSED
    assert "id 'e0'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_share_of_the_input_and_an_evaluation_are_not_both_taken(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    flags = judged(tmp_path / "judged")
    assert train(source, checkpoint, tmp_path / "model", *flags, "--held-out", "0.1") == ExitCode.REFUSED
    assert train(source, checkpoint, tmp_path / "model", *flags[:2]) == ExitCode.REFUSED
    assert "go together" in capsys.readouterr().err


def test_a_student_of_fewer_layers_and_pieces_is_trained_in_one_flag(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64))
    assert train(source, checkpoint, tmp_path / "model", *QUICK, "--student", "layers=2 vocabulary=70") == ExitCode.DONE
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["vocab_size"]) == (2, 70)
    model = sentence_transformers.CrossEncoder(str(tmp_path / "model"), local_files_only=True)
    assert len(model.tokenizer) == 70
    assert math.isfinite(model.predict([("apple red", "the apple castle")])[0])


def test_a_vocabulary_that_spells_words_out_is_told(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64))
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    pieces = len(tokenizer["model"]["vocab"])
    least = sum(len(piece.removeprefix("##")) == 1 or piece[0] == "[" for piece in tokenizer["model"]["vocab"])
    for size, told in ((pieces - 1, "1.00 times as many tokens\n"), (least, "tokens; that costs speed")):
        output = tmp_path / f"model-{size}"
        assert train(source, checkpoint, output, *QUICK, "--student", f"vocabulary={size}") == ExitCode.DONE
        assert told in capsys.readouterr().out
        record = json.loads((output / "training.json").read_text())
        assert (record["token_growth"] > 1.25) == (size == least)


def test_an_output_that_is_a_file_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    for more in ((), ("--overwrite",)):
        assert train(source, checkpoint, source, *QUICK, *more) == ExitCode.REFUSED
        assert "is a file" in capsys.readouterr().err


def test_layers_that_are_not_there_leave_nothing_behind(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    assert train(source, checkpoint, tmp_path / "model", *QUICK, "--student", "layers=9") == ExitCode.REFUSED
    assert "the model has 3" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.parquet"]


def test_a_second_round_keeps_the_record_of_the_first(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64))
    assert train(source, checkpoint, tmp_path / "first", *QUICK) == ExitCode.DONE
    assert train(source, tmp_path / "first", tmp_path / "second", *QUICK, "--seed", "1") == ExitCode.DONE
    first, second = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("first", "second"))
    assert first["started_from"] is None
    assert second["started_from"] == first


def test_lambda_learns_from_a_teachers_scores_however_large(tmp_path: Path, checkpoint: Path) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64, low=20.0, high=200.0))
    assert train(source, checkpoint, tmp_path / "model", *QUICK, "--loss", "lambda") == ExitCode.DONE
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_training_that_diverges_saves_no_model(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(64, low=-4.0, high=4.0))
    flags = (*QUICK, "--learning-rate", "1e30", "--keep", "last")
    assert train(source, checkpoint, tmp_path / "model", *flags) == ExitCode.REFUSED
    told = capsys.readouterr().err
    assert "the training diverged" in told and "loss nan" in told and "loss 0.0000" not in told
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_a_training_that_diverges_ends_there_and_keeps_the_best_before(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(400, low=-4.0, high=4.0))
    flags = (*QUICK, "--learning-rate", "1e30", "--evaluate-every", "1", "--epochs", "9")
    assert train(source, checkpoint, tmp_path / "model", *flags) == ExitCode.DONE_WITH_ERRORS
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["curve"][-1]["step"] < 30, "nothing is learnt in the 200 steps after"
    told = capsys.readouterr().out
    assert "the training diverged and was stopped" in told and "learning-rate (now 1e+30)" in told
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


LOSSES = ("auto", "bce", "mse", "margin-mse", "listnet", "lambda")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5, -3.0])
def test_labels_that_are_all_equal_teach_nothing_and_are_refused(
    tmp_path: Path, checkpoint: Path, loss: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32, value, value))
    assert train(source, checkpoint, tmp_path / "model", *QUICK, "--loss", loss) == ExitCode.REFUSED
    told = capsys.readouterr().err
    if loss == "bce" and value < 0:
        assert "loss bce takes labels in [0, 1]" in told
    else:
        assert f"labels are {value:g}: nothing tells one pair from another" in told and str(source) in told
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("loss", ["auto", "margin-mse", "listnet", "lambda"])
def test_labels_that_differ_between_queries_alone_are_told_or_refused(
    tmp_path: Path, checkpoint: Path, loss: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"query": f"{word} {n}", "document": word, "label": n % 2} for n in range(8) for word in ("red", "old")]
    source = write_pairs(tmp_path / "pairs.parquet", pa.Table.from_pylist(rows))
    code = train(source, checkpoint, tmp_path / "model", *QUICK, "--loss", loss)
    told = capsys.readouterr()
    pairwise = loss == "auto"
    assert code == (ExitCode.DONE if pairwise else ExitCode.REFUSED)
    assert "different labels" in (told.out if pairwise else told.err)
    assert "`ray-rerank mine`" in (told.out if pairwise else told.err)


def test_labels_of_which_all_others_are_held_out_are_refused_with_the_way_out(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"query": query, "document": word, "label": float(query == "old")}
        for query in ("old", "new")
        for word in TOPICS
    ]
    source = write_pairs(tmp_path / "pairs.parquet", pa.Table.from_pylist(rows))
    assert train(source, checkpoint, tmp_path / "model", *QUICK) == ExitCode.REFUSED
    assert "but for the 8 pairs of held-out queries" in capsys.readouterr().err
    assert train(source, checkpoint, tmp_path / "model", *QUICK, "--held-out", "0") == ExitCode.DONE


@pytest.mark.parametrize(("family", "labels"), [("bert", 1), ("bert", 3), ("roberta", 2)])
def test_a_model_of_several_labels_gets_a_head_of_one(
    tmp_path: Path, checkpoint: Path, family: str, labels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), num_labels=labels, pad_token_id=0, **shape)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "several")
    tokenizer.save_pretrained(tmp_path / "several")
    source = write_pairs(tmp_path / "pairs.parquet", pairs(32))
    assert train(source, tmp_path / "several", tmp_path / "model", *QUICK) == ExitCode.DONE
    assert (f"has {labels} outputs; a new head with one" in capsys.readouterr().out) == (labels > 1)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("several", "model"))
    assert before.keys() == after.keys()
    assert sum(before[name].shape != after[name].shape for name in before) == 2 * (labels > 1)
    assert json.loads((tmp_path / "model" / "training.json").read_text())["curve"]
    scorer = CrossEncoderConfig(model=str(tmp_path / "model"), precision="fp32").load()
    assert np.isfinite(scorer.score([("apple red", "the apple")])).all()


def test_a_folder_of_others_is_no_place_for_checkpoints(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(16))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    for place, told in (
        (tmp_path / "home", "files that train --checkpoints did not write (thesis.tex)"),
        (tmp_path, "lies in the checkpoints"),
    ):
        assert train(source, checkpoint, tmp_path / "model", "--checkpoints", str(place)) == ExitCode.REFUSED
        assert told in capsys.readouterr().err
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    assert train(source, checkpoint, tmp_path / "model", "--checkpoints", "s3://bucket/here") == ExitCode.REFUSED
    assert "a folder on a disk" in capsys.readouterr().err


def test_a_model_that_takes_anothers_place_leaves_nothing_of_it(tmp_path: Path) -> None:
    from ray_rerank.jobs.train.state import finish

    output, fresh, checkpoints = (tmp_path / name for name in ("output", "fresh", "checkpoints"))
    for folder, names in (
        (output, ("model-00001-of-00002.safetensors", "modules.json", "training.json", "README.md")),
        (fresh, ("model.safetensors", "config.json")),
        (checkpoints, ()),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    finish(str(output), checkpoints, fresh, {"settings": {}})
    assert {path.name for path in output.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "training.json",
    }
    assert not checkpoints.exists()


def test_checkpoints_go_though_a_sign_of_life_is_written_there_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray_rerank.jobs.train import state as training_state

    output, fresh, checkpoints = (tmp_path / name for name in ("output", "fresh", "checkpoints"))
    for folder in (output, fresh, checkpoints):
        folder.mkdir()
    beats = iter((True, False))

    def removed(path: Path, *more: Any, **flags: Any) -> None:
        shutil.rmtree(path, *more, **flags)
        if next(beats):
            path.mkdir()
            (path / "lease").write_text("alive")

    monkeypatch.setattr(training_state, "shutil", SimpleNamespace(rmtree=removed, copyfileobj=shutil.copyfileobj))
    training_state.finish(str(output), checkpoints, fresh, {"settings": {}})
    assert not checkpoints.exists() and not any(beats)


def test_two_trainings_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    from ray_rerank.cluster.errors import OutputBusyError
    from ray_rerank.jobs.train.state import claimed

    output, checkpoints = str(tmp_path / "model"), tmp_path / "checkpoints"
    with (
        claimed(output, checkpoints, {}),
        pytest.raises(
            OutputBusyError, match=r"checkpoints: another job is at work here: `ray-rerank train` of .*, pid"
        ),
        claimed(output, checkpoints, {}),
    ):
        pass
    with (
        claimed(output, checkpoints, {}),
        pytest.raises(OutputBusyError, match=r"model: another job is at work here"),
        claimed(output, tmp_path / "others", {}),
    ):
        pass
    with claimed(output, checkpoints, {}):
        pass
