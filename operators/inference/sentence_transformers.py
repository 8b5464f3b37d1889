"""sentence-transformers models: loaded whole or not at all, and run in token-budget batches of our own.

The library reads pooling, projection, normalisation, prompts and masks from the checkpoint's own modules; what is
done here is the batching: every text is tokenised once, batches are of like length, and halve when memory runs out.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.batches import TokenBudget, run_in_batches
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.checkpoint import check_attention
from ray_rerank.operators.models.device import to_device
from ray_rerank.operators.models.load import (
    blamed_setting,
    check_special_tokens,
    checked_loading,
    explained,
    load_tokenizer,
    quiet_loading,
)
from ray_rerank.operators.models.sentence_files import SentenceFiles

Side = Literal["query", "document"]

_PROMPTS: dict[Side, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
_CHUNK = 256  # texts a tokenizer call: padded to their longest, so sorted by length before

_WEIGHTS = (
    "cannot be loaded by its config.json and sentence-transformers' settings (modules.json, sentence_bert_config.json, "
    "config_sentence_transformers.json)"
)

_verified: set[tuple[str, str]] = set()


def load_sentence_model(cls: Any, model: str, files: SentenceFiles, device: Any, dtype: Any) -> Any:
    """Load a model of a sentence-transformers class in evaluation mode; on the device "meta" it has no weights.

    Raises:
        ModelError: it cannot be loaded, or what was loaded is not the checkpoint's: see `checked_loading`.
    """
    from transformers import AutoModel

    found = files.checkpoint
    on_meta = str(device) == "meta"
    if not on_meta:
        verify_sentence_model(cls, model, files)
    with (
        found.sealed() as folder,
        quiet_loading(),
        explained(model, folder, _WEIGHTS, lambda: _blamed_module(files) or blamed_setting(AutoModel, found)),
        checked_loading(model, found, backbone=True),
    ):
        loaded = cls(
            str(folder),
            device=None if on_meta else str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": dtype, "use_safetensors": True} | ({"device_map": "meta"} if on_meta else {}),
        )
    _check_reader(model, files, loaded)
    return loaded.to(dtype).eval()


def _blamed_module(files: SentenceFiles) -> str | None:
    """The settings of a module without weights that its class does not take."""
    from sentence_transformers.multi_vector_encoder import modules as late
    from sentence_transformers.sentence_transformer import modules

    for name, folder in zip(files.modules, files.folders, strict=True):
        if name in {"Pooling", "Dropout", "MultiVectorMask", "TokenPooling"}:
            try:
                getattr(modules if hasattr(modules, name) else late, name).load(str(files.checkpoint.folder / folder))
            except Exception:  # whatever the first odd value raises
                return f"{folder}/config.json"
    return None


def verify_sentence_model(cls: Any, model: str, files: SentenceFiles) -> None:
    """See that `load_sentence_model` would load all that the model has; the encoder's weights are not read.

    Raises:
        ModelError: as `load_sentence_model`.
    """
    import torch

    key = (cls.__name__, files.checkpoint.content)
    if key not in _verified:
        load_tokenizer(model, files.checkpoint)
        load_sentence_model(cls, model, files, "meta", torch.float32)
        _verified.add(key)


def set_length(model: str, files: SentenceFiles, loaded: Any, length: int | None) -> None:
    """Set how many tokens of a text are read: as asked for, else what the save says, within the model's positions.

    Raises:
        ModelError: with this length attention would depend on what was read before.
    """
    reader = loaded[0]
    if length is None:
        length = min(loaded.max_seq_length or sys.maxsize, files.checkpoint.positions)
    else:
        reader.document_length = reader.document_length and length
        reader.query_length = reader.query_length and min(reader.query_length, length)
    if length < sys.maxsize:
        loaded.max_seq_length = length
    check_attention(model, files.checkpoint, length)


def prompt_of(loaded: Any, side: Side, override: str | None) -> str | None:
    """The prompt of a side: the config's, else the checkpoint's for that side, else its default."""
    if override is not None:
        return override
    named = next((name for name in _PROMPTS[side] if name in loaded.prompts), loaded.default_prompt_name)
    prompt = loaded.prompts.get(named) if named else None
    return None if prompt is None else str(prompt)


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """How texts of one side are run.

    Attributes:
        model: of sentence-transformers.
        side: whether they are queries or documents.
        prompt: goes before each.
        budget: tokens a batch may have.
    """

    model: Any
    side: Side
    prompt: str | None
    budget: TokenBudget


def run_texts(
    encoder: TextEncoder, texts: Sequence[str], fetch: Callable[..., Any], work: ScoringStats
) -> Iterator[tuple[np.ndarray, Any]]:
    """Run n texts through all modules of a model.

    Args:
        fetch: given a batch's text numbers and the features after the last module, on the device, starts what is to
            be kept and returns a call that waits for it.
        work: counts are added to it; a text that fills the model's length counts as truncated.

    Yields:
        The text numbers of a batch (int64) and what `fetch` gave for it; every text once.

    Raises:
        ModelError: the model's first module does not make rows of tokens.
    """
    import torch

    loaded, side = encoder.model, encoder.side
    rows, scalars = _tokenise(loaded, texts, side, encoder.prompt)
    lengths = np.array([len(row["input_ids"]) for row in rows], dtype=np.int64)
    left = getattr(loaded.tokenizer, "padding_side", "right") == "left"
    fill = {"input_ids": getattr(loaded.tokenizer, "pad_token_id", 0) or 0}

    def forward(batch: np.ndarray) -> Callable[[], Any]:
        width = int(lengths[batch].max())
        padded = {}
        for name, like in rows[batch[0]].items():
            array = np.full((len(batch), width), fill.get(name, 0), dtype=like.dtype)
            for place, text in enumerate(batch):
                row = rows[text][name]
                array[place, width - len(row) :] = row if left else array[place, width - len(row) :]
                if not left:
                    array[place, : len(row)] = row
            padded[name] = array
        with torch.inference_mode():
            features = to_device(padded, loaded.device) | scalars
            return fetch(batch, loaded(features, task=side))  # type: ignore[no-any-return]

    work.evaluations += len(texts)
    most = getattr(loaded[0], f"{side}_length", None) or loaded.max_seq_length or np.inf
    work.truncated += sum(int(row["attention_mask"].sum()) >= most for row in rows)
    yield from run_in_batches(lengths, forward, encoder.budget, work)


def _check_reader(model: str, files: SentenceFiles, loaded: Any) -> None:
    tokenizer = loaded.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{model}: has no tokenizer.json; save it with a fast tokenizer")
    check_special_tokens(model, files.checkpoint, tokenizer)


def _tokenise(
    loaded: Any, texts: Sequence[str], side: Side, prompt: str | None
) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
    """Each text's rows of numbers without padding, and what is the same for all texts."""
    rows: list[dict[str, np.ndarray]] = [{}] * len(texts)
    scalars: dict[str, Any] = {}
    order = sorted(range(len(texts)), key=lambda text: len(texts[text]))
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        features = loaded.preprocess([texts[text] for text in chunk], prompt=prompt, task=side)
        tensors = {name: value for name, value in features.items() if hasattr(value, "shape")}
        scalars = {name: value for name, value in features.items() if name not in tensors}
        if any(value.ndim != 2 or len(value) != len(chunk) for value in tensors.values()):
            raise ModelError("the model's first module does not make one row of tokens a text; not supported")
        arrays = {name: value.numpy() for name, value in tensors.items()}
        used = arrays["attention_mask"] != 0
        if "query_expansion_positions" in arrays:
            used |= arrays["query_expansion_positions"] != 0
        for place, text in enumerate(chunk):
            own = np.flatnonzero(used[place])
            span = slice(own[0], own[-1] + 1) if len(own) else slice(0, 1)
            rows[text] = {name: array[place, span] for name, array in arrays.items()}
    return rows, scalars
