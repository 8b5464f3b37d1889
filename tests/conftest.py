"""What all tests share: small random models with real tokenizers, candidates made up on the spot, one Ray."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from operators.candidates import CANDIDATE_SCHEMA

settings.register_profile("times are noise", deadline=None)
settings.load_profile("times are noise")

for name, value in {"num_workers_soft_limit": 12, "idle_worker_killing_time_threshold_ms": 600_000}.items():
    os.environ[f"RAY_{name}"] = str(value)  # workers wait for the next test's job: starting one takes seconds

on_ray = pytest.mark.usefixtures("ray_here")
here = pytest.mark.usefixtures("in_process")

SHARED = Path(__file__).resolve().parents[2] / "shared"

WORDS = [
    "how",
    "to",
    "water",
    "a",
    "cactus",
    "in",
    "winter",
    "the",
    "soil",
    "should",
    "dry",
    "out",
    "between",
    "two",
    "drinks",
    "because",
    "roots",
    "rot",
    "when",
    "wet",
    "bread",
    "rises",
    "as",
    "yeast",
    "feeds",
    "on",
    "sugar",
    "and",
    "gives",
    "off",
    "gas",
    "cold",
    "dough",
    "slows",
    "it",
    "down",
    "warm",
    "rooms",
    "speed",
    "it",
    "up",
    "stars",
    "shine",
    "by",
    "fusing",
    "hydrogen",
    "into",
    "helium",
    "what",
    "is",
    "a",
    "shard",
    "of",
    "data",
    "one",
    "worker",
    "reads",
    "alone",
    "naturalisation",
]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections and models, where it is present."""
    if not (SHARED / "data" / "dl20").is_dir():
        pytest.skip(f"the real collections are not at {SHARED}")
    return SHARED


def write_cross_encoder(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A small random BERT cross-encoder with a WordPiece tokenizer that knows WORDS."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *ascii_lowercase,
        *(f"##{letter}" for letter in ascii_lowercase),
    ]
    pieces += [*sorted({*WORDS} - {*ascii_lowercase, "naturalisation"}), "natural", "##isation"]
    pieces += ["[unused0]", "[unused1]", *"!(),.?"]  # as BERT's vocabulary has them, and not as special tokens
    tokenizer = BertTokenizerFast(vocab={piece: place for place, piece in enumerate(pieces)}, model_max_length=128)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {
        "max_position_embeddings": 128,
        "num_labels": 1,
        "vocab_size": len(tokenizer),
        "initializer_range": 0.2,
    }
    BertForSequenceClassification(BertConfig(**(shape | config))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random cross-encoder."""
    return write_cross_encoder(tmp_path_factory.mktemp("model") / "cross-encoder")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models so small that they are slower on many threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sentence(random_: random.Random, longest: int = 40) -> str:
    """Some words, of ragged length."""
    return " ".join(random_.choices(WORDS, k=random_.randint(1, longest)))


def rows(queries: int, depth: int, seed: int = 0) -> list[dict[str, Any]]:
    """Candidate rows with first-stage scores that fall."""
    random_ = random.Random(seed)
    return [
        {
            "query_id": f"q{number}",
            "query": sentence(random_, 8),
            "candidates": [
                {"doc_id": f"d{number}-{place}", "text": sentence(random_), "score": float(depth - place)}
                for place in range(depth)
            ],
        }
        for number in range(queries)
    ]


def write_candidates(path: Path, content: list[dict[str, Any]], row_group_size: int = 4) -> Path:
    """Write rows as one shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content, schema=CANDIDATE_SCHEMA), path, row_group_size=row_group_size)
    return path


@contextmanager
def without_ray() -> Iterator[None]:
    """Jobs without Ray: units one after the other here, by the very steps that actors and tasks would run.

    For what a job makes of its input. How work is spread, lost and done again is tested on Ray: a start of an actor
    takes seconds.
    """
    import torch

    from jobs import compare, label, rerank, vectors

    def serial(units: Any, read: Any, pools: Any, commit: Any, *_: Any, **__: Any) -> Iterator[Any]:
        steps = [pool.load() for pool in pools]
        for unit in units:
            payload, failure = None, None
            try:
                payload = read(unit)
                for step in steps:
                    payload = step(unit, payload)
            except Exception as error:
                payload, failure = None, f"{type(error).__name__}: {error}"
            yield commit(unit, payload, failure)

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for module in (compare, label, rerank, vectors):
            patch.setattr(module, "session", lambda *_, **__: nullcontext({"CPU": 3.0}))
            patch.setattr(module, "stream", serial, raising=False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_process() -> Iterator[None]:
    """A test `without_ray`."""
    with without_ray():
        yield


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One local Ray for all tests of a session."""
    from cluster.session import session

    with session(cpus=3):
        yield
