"""sentence-transformers checkpoints: checked before loading, and run in token-budget batches of our own.

The library reads pooling, projection, normalisation, prompts and masks from the checkpoint's own modules; what is
done here is the batching: every text is tokenised once, batches are of like length, and halve when memory runs out.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from operators.batches import TokenBudget, run_in_batches
from operators.checkpoint import Checkpoint, find_checkpoint, find_folder
from operators.device import to_device
from operators.errors import ModelError
from operators.pretrained import quiet_loading
from operators.work import Work

Side = Literal["query", "document"]

_PROMPTS: dict[Side, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
_TRUSTED = ("sentence_transformers.", "pylate.")
_CHUNK = 256  # texts a tokenizer call: padded to their longest, so sorted by length before


def find_sentence_checkpoint(model: str, revision: str | None) -> tuple[Checkpoint, list[dict[str, Any]]]:
    """The files of a sentence-transformers checkpoint and its list of modules (empty where there is none).

    Raises:
        ModelError: files are missing, weights are pickled, or a module would run code from elsewhere.
    """
    root = find_folder(model, revision)
    listing = root / "modules.json"
    modules: list[dict[str, Any]] = []
    if listing.is_file():
        try:
            modules = [dict(module) for module in json.loads(listing.read_text(encoding="utf-8"))]
            kinds = [str(module["type"]) for module in modules]
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{listing}: not a list of modules: {error}") from None
        odd = [kind for kind in kinds if not kind.startswith(_TRUSTED)]
        if odd:
            raise ModelError(f"{model}: module {odd[0]} is not part of sentence-transformers; its code is not run")
    for module in modules:
        folder = root / str(module.get("path", ""))
        if list(folder.glob("*.bin")) and not list(folder.glob("*.safetensors")):
            raise ModelError(f"{folder}: its weights are pickle and not read; convert them to safetensors")
    part = str(modules[0].get("path", "")) if modules else ""
    return find_checkpoint(model, revision, part), modules


def load_sentence_model(cls: Any, model: str, folder: Path, device: Any, dtype: Any) -> Any:
    """Load a model of a sentence-transformers class in evaluation mode.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        with quiet_loading():
            loaded = cls(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"{model}: cannot be loaded: {error}") from error
    return loaded.to(dtype).eval()


def prompt_of(loaded: Any, side: Side, override: str | None) -> str | None:
    """The prompt of a side: the config's, else the checkpoint's for that side, else its default."""
    if override is not None:
        return override
    named = next((name for name in _PROMPTS[side] if name in loaded.prompts), loaded.default_prompt_name)
    prompt = loaded.prompts.get(named) if named else None
    return None if prompt is None else str(prompt)


def run_texts(
    loaded: Any,
    texts: Sequence[str],
    side: Side,
    prompt: str | None,
    fetch: Callable[..., Any],
    budget: TokenBudget,
    work: Work,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Run texts through all modules of a model.

    Args:
        loaded: a model of sentence-transformers.
        texts: n texts.
        fetch: given a batch's text numbers and the features after the last module, on the device, starts what is to
            be kept and returns a call that waits for it.
        budget: tokens a batch may have.
        work: counts are added to it; a text that fills the model's length counts as truncated.

    Yields:
        The text numbers of a batch (int64) and what `fetch` gave for it; every text once.

    Raises:
        ModelError: the model's first module does not make rows of tokens.
    """
    import torch

    rows, scalars = _tokenise(loaded, texts, side, prompt)
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
    yield from run_in_batches(lengths, forward, budget, work)


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
