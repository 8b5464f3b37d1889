"""The one door through which weights and tokenizers are loaded: safetensors only, all of them, and no other code."""

import copy
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ray_rerank.operators.errors import ModelError, reason_of
from ray_rerank.operators.models.checkpoint import POSITIONS_AFTER_PADDING, Checkpoint
from ray_rerank.operators.models.device import is_out_of_memory
from ray_rerank.operators.models.settings import read_list, read_object, shown

_PRETRAINING_HEADS = frozenset(
    {
        *("cls", "lm_head", "lm_predictions", "mask_predictions", "predictions", "sop_classifier", "lm_loss"),
        *("generator_predictions", "generator_lm_head", "discriminator_predictions", "pred_layer", "qa_outputs"),
        *("vocab_transform", "vocab_layer_norm", "vocab_projector", "mlm", "head", "decoder"),
    }
)
"""Heads that training leaves behind: a model that does not have them scores the same without them."""

_HEADS_ON_TOP = _PRETRAINING_HEADS | {"pooler", "classifier", "pre_classifier", "score", "linear", "logits_proj"}
"""What may stand on top of a backbone that is used alone."""

_TOKENIZER = "its tokenizer_config.json and tokenizer.json make no tokenizer"
_WEIGHTS = "cannot be loaded by its config.json and generation_config.json"
_UNKNOWN = "\N{SNOWMAN}"  # a text that few vocabularies have

_MORE_TENSORS = (
    1000  # that a model may have beyond those in its files: tied ones, and those that it will be said to lack
)

_verified: set[tuple[str, str]] = set()
_one_at_a_time = threading.RLock()


def load_tokenizer(model: str, found: Checkpoint) -> Any:
    """A fast tokenizer.

    Args:
        model: what the user calls it, for messages.

    Raises:
        ModelError: there is none that can be loaded, or it pads with another token than the model expects.
    """
    from transformers import AutoTokenizer

    with found.sealed() as folder, explained(model, folder, _TOKENIZER):
        tokenizer = AutoTokenizer.from_pretrained(str(folder / found.part), use_fast=True, trust_remote_code=False)
        tokenizer(_UNKNOWN)
    tokenizer.name_or_path = model
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{model}: has no tokenizer.json; save it with a fast tokenizer")
    check_special_tokens(model, found, tokenizer)
    return tokenizer


def check_special_tokens(model: str, found: Checkpoint, tokenizer: Any) -> None:
    """See that the model has all of the tokenizer's tokens, and that both pad with the same where it matters.

    Raises:
        ModelError: they do not.
    """
    described = found.described()
    size = getattr(described.get_text_config(), "vocab_size", None)
    last, number = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if isinstance(size, int) and number >= size:
        raise ModelError(
            f"{model}: {last!r} is number {number} by its tokenizer.json and tokenizer_config.json, and the model has "
            f"{size} tokens by its config.json (vocab_size); use the tokenizer that belongs to it"
        )
    ours, theirs = tokenizer.pad_token_id, getattr(described, "pad_token_id", None)
    counted = found.kind in POSITIONS_AFTER_PADDING
    if counted and theirs is None:
        raise ModelError(
            f"{model}: counts positions from its padding, and pad_token_id is null in its config.json; set it to {ours}"
        )
    if counted and ours is not None and theirs is not None and ours != theirs:
        raise ModelError(
            f"{model}: counts positions from its padding, which is pad_token_id {theirs} in config.json and {ours} "
            f"({tokenizer.pad_token}) in tokenizer_config.json; correct the one that is wrong"
        )


def load_weights(auto: Any, model: str, found: Checkpoint, dtype: Any) -> Any:
    """A model in evaluation mode, on the CPU.

    Args:
        auto: the transformers class that loads it, such as AutoModelForSequenceClassification.
        model: what the user calls it, for messages.

    Raises:
        ModelError: it cannot be loaded, or what was loaded is not the checkpoint's: see `checked_loading`.
    """
    verify_weights(auto, model, found)
    with (
        found.sealed() as folder,
        quiet_loading(),
        explained(model, folder, _WEIGHTS),
        checked_loading(model, found),
    ):
        loaded = auto.from_pretrained(
            str(folder / found.part), dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    loaded.config._name_or_path, loaded.config.return_dict = model, True
    return loaded.eval()


def verify_weights(auto: Any, model: str, found: Checkpoint) -> None:
    """See by names and shapes alone that `load_weights` would load all that the model has; no weight is read.

    Raises:
        ModelError: as `load_weights`.
    """
    import torch

    key = (auto.__name__, found.content)
    if key in _verified:
        return
    if odd := found.odd_weight():
        raise ModelError(
            f"{model}: {odd[0]} is of type {odd[1]} in its safetensors; weights are floating-point numbers"
        )
    with (
        found.sealed() as folder,
        quiet_loading(),
        explained(model, folder, _WEIGHTS, lambda: blamed_setting(auto, found)),
        checked_loading(model, found),
    ):
        auto.from_pretrained(
            str(folder / found.part),
            dtype=torch.float32,
            device_map="meta",
            use_safetensors=True,
            trust_remote_code=False,
        )
    _verified.add(key)


@contextmanager
def checked_loading(model: str, found: Checkpoint, backbone: bool = False, new_head: bool = False) -> Iterator[None]:
    """Refuse, in the with-block, whatever transformers loads that is not the checkpoint's own.

    It holds for loads that other libraries make as well, which report nothing.

    Args:
        model: what the user calls it, for messages.
        backbone: whether the encoder is used alone, without what its checkpoint may have on top. Its pooler may be
            missing; it is filled with NaN, which shows in every score if it is used after all.
        new_head: whether what stands on top of the encoder may be missing or of another shape, since it will be
            trained.

    Raises:
        ModelError: weights are missing, unexpected or of another shape, or the class is not the one that config.json
            names.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook
    from transformers import PreTrainedModel

    most, made = found.tensors + _MORE_TENSORS, itertools.count()

    def count(*_: Any) -> None:
        if next(made) > most:
            raise ModelError(
                f"{model}: its config.json asks for more weights than the {found.tensors} that its files hold; see its "
                "numbers of layers"
            )

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        asked = kwargs.pop("output_loading_info", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        loaded, report = original.__func__(cls, *args, **kwargs)
        _check_class(model, loaded, found, backbone or new_head)
        _check_report(model, loaded, report, backbone, new_head)
        return (loaded, report) if asked else loaded

    with _one_at_a_time:
        original = PreTrainedModel.__dict__["from_pretrained"]
        PreTrainedModel.from_pretrained = classmethod(from_pretrained)
        counting = register_module_parameter_registration_hook(count)
        try:
            yield
        finally:
            counting.remove()
            PreTrainedModel.from_pretrained = original


def _check_class(model: str, loaded: Any, found: Checkpoint, backbone: bool) -> None:
    """The class that was loaded is the one that the checkpoint names, or the backbone of that."""
    import transformers

    names = [str(name) for name in found.config.get("architectures") or []]
    if not names or type(loaded).__name__ in names or names == ["HF_ColBERT"]:
        return
    named = getattr(transformers, names[0], None)
    if backbone and getattr(named, "config_class", None) is type(loaded).config_class:
        return
    raise ModelError(
        f"{model}: config.json names {', '.join(names)}, and what transformers loads for it is "
        f"{type(loaded).__name__}, another model; convert the checkpoint, or correct `architectures` where the two are "
        "the same"
    )


def _check_report(model: str, loaded: Any, report: dict[str, Any], backbone: bool, new_head: bool) -> None:
    prefix = f"{loaded.base_model_prefix}."
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    for name, stored, expected in sorted(map(tuple, report["mismatched_keys"])):
        if new_head and not name.startswith(prefix):
            continue  # a head of several outputs: one of one output takes its place
        raise ModelError(
            f"{model}: {name} has the shape {tuple(stored)} in its weights, where {tuple(expected)} is needed: it is "
            "not the model that its config.json describes"
        )
    if new_head:
        missing = {name for name in missing if name.startswith(prefix) and ".pooler." not in name}
    elif backbone:
        unused = {name for name in missing if name.startswith("pooler.")}
        _poison(loaded, unused)
        missing -= unused
    if missing:
        other = f" (they have {_listed(unexpected)})" if unexpected else ""
        raise ModelError(
            f"{model}: its weights lack {_listed(missing)}, which its config.json asks for{other}; it would score at "
            "random"
        )
    known = _HEADS_ON_TOP if backbone or new_head else _PRETRAINING_HEADS
    inside = {name for name, _ in loaded.named_children()}
    odd = {
        name
        for name in unexpected
        if (top := name.removeprefix(prefix).partition(".")[0]) not in known or top in inside
    }
    if odd:
        raise ModelError(
            f"{model}: its weights have {_listed(odd)}, which {type(loaded).__name__} has no place for by its "
            "config.json: they are of another model, or config.json is"
        )
    if problems := [*report.get("error_msgs", ()), *(report.get("conversion_errors") or {}).values()]:
        raise ModelError(f"{model}: cannot be loaded: {problems[0]}")


def _poison(loaded: Any, names: set[str]) -> None:
    import torch

    with torch.no_grad():
        for name in names:
            loaded.get_parameter(name).fill_(torch.nan)


def _listed(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


@contextmanager
def explained(model: str, folder: Path, what: str, blame: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """What a loader raises, with the model's own name and without the sealed folder's.

    Args:
        blame: says which setting it is, where that can be found out.

    Raises:
        ModelError: for anything but a lack of memory.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # loaders raise whatever the first thing raises that they did not expect
        if is_out_of_memory(error):
            raise
        if unreadable := next(_unreadable(folder), None):
            raise ModelError(f"{model}: {unreadable}") from error
        reason = reason_of(error).replace(str(folder), model)
        found = blame()
        raise ModelError(f"{model}: {what}: {f'{found}: ' if found else ''}{reason}") from error


def _unreadable(folder: Path) -> Iterator[str]:
    """What of a folder is not the JSON that it should be."""
    for file in sorted(folder.rglob("*.json")):
        name = file.relative_to(folder)
        try:
            read_list(file) if file.name == "modules.json" else read_object(file)
        except ModelError as error:
            yield str(error).replace(str(file), str(name))
        if file.name == "tokenizer.json":
            try:
                Tokenizer.from_file(str(file))
            except Exception as error:  # the library raises nothing narrower
                yield f"{name}: {reason_of(error)}"


def blamed_setting(auto: Any, found: Checkpoint) -> str | None:
    """The setting of config.json without which, or with 1 in its place, the model could be built."""
    import torch

    def builds(config: dict[str, Any]) -> bool:
        try:
            described = type(found.described()).from_dict(copy.deepcopy(config))
            with torch.device("meta"):
                auto.from_config(described)
        except Exception:  # whatever the first odd value raises
            return False
        return True

    if builds(found.config):
        return None
    for name, value in found.config.items():
        without = {other: kept for other, kept in found.config.items() if other != name}
        if builds(without) or (isinstance(value, int | float) and builds(without | {name: 1})):
            return f"{name} is {shown(value)}"
    return None


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
