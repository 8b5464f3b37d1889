"""Weights and tokenizers from a checked model directory: safetensors only, never code from the directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from operators.device import is_out_of_memory
from operators.errors import ModelError


def load_tokenizer(model: str, folder: Path) -> Any:
    """A fast tokenizer.

    Raises:
        ModelError: there is none that can be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"{model}: its tokenizer cannot be loaded: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{model}: has no tokenizer.json; save it with a fast tokenizer")
    return tokenizer


def load_weights(auto: Any, model: str, folder: Path, dtype: Any) -> Any:
    """A model in evaluation mode, on the CPU.

    Args:
        auto: the transformers class that loads it, such as AutoModelForSequenceClassification.
        model: what the user calls it, for messages.

    Raises:
        ModelError: it cannot be loaded, or weights are missing and would be drawn at random.
    """
    try:
        with quiet_loading():
            loaded, report = auto.from_pretrained(
                str(folder), output_loading_info=True, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{model}: cannot be loaded: {error}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"{model}: its weights lack {missing}; it would score at random")
    return loaded.eval()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' progress bars and reports of weights that a model has and does not need."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
