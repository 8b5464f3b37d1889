"""The model that ships inside: small, safetensors, raw logits, and better than chance at what it is for."""

import json

import pytest

from support.paths import STARTER

FOLDER = STARTER / "model"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model.safetensors").is_file(), reason="no embedded model: `make model` makes it"
)


def test_it_is_at_most_40_megabytes() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 40_000_000


def test_it_holds_no_pickle_and_no_code() -> None:
    assert {file.suffix for file in FOLDER.iterdir()} == {".safetensors", ".json"}


def test_its_record_says_what_it_was_made_from() -> None:
    record = json.loads((FOLDER / "training.json").read_text())
    config = json.loads((FOLDER / "config.json").read_text())
    rounds = 1
    while record["started_from"]:
        record, rounds = record["started_from"] | {"started_from": None}, rounds + 1
    assert rounds == 2
    assert record["settings"]["model"] == "ms-marco-minilm-l12"
    assert config["num_hidden_layers"] == len(record["settings"]["layers"])


def test_it_loads_from_safetensors_and_puts_the_answer_first() -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    torch = pytest.importorskip("torch")
    model = sentence_transformers.CrossEncoder(
        str(FOLDER),
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    )
    assert model.num_labels == 1
    query = "how long do you boil an egg"
    answer, off, other = model.predict(
        [
            (query, "For a firm yolk, leave the egg in boiling water for nine to eleven minutes."),
            (query, "The egg came before the chicken in the long history of animals."),
            (query, "The train to the coast leaves at noon from the second platform."),
        ]
    )
    assert answer > off > other
    assert other < 0  # a raw logit: a sigmoid has none below zero
