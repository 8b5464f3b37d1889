"""The row that a model's own tokenizer makes of a query and a passage, read off one encoded pair."""

from typing import Any

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.row_layout import Fixed, RowLayout, Slot

_PROBE = ("what is a shard", "a part of a data set that one worker reads")


def pair_layout(tokenizer: Any) -> RowLayout:
    """Read a tokenizer's pair layout off one encoded pair.

    Raises:
        ModelError: the tokenizer cannot be taken apart this way.
    """
    encoded = tokenizer(*_PROBE)
    ids = encoded["input_ids"]
    types = encoded.get("token_type_ids", [0] * len(ids))
    owner = encoded.sequence_ids()
    first = [i for i, sequence in enumerate(owner) if sequence == 0]
    second = [i for i, sequence in enumerate(owner) if sequence == 1]
    if not first or not second or first[-1] > second[0]:
        raise ModelError(f"{tokenizer.name_or_path}: its tokenizer does not put a query before a passage")

    def fixed(start: int, stop: int) -> Fixed:
        return Fixed(tuple(ids[start:stop]), tuple(types[start:stop]))

    prefix, middle, suffix = fixed(0, first[0]), fixed(first[-1] + 1, second[0]), fixed(second[-1] + 1, len(ids))
    alone = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in _PROBE]
    if [*prefix.ids, *alone[0], *middle.ids, *alone[1], *suffix.ids] != ids:
        raise ModelError(
            f"{tokenizer.name_or_path}: a text is tokenised differently alone and in a pair; not supported"
        )
    query, document = Slot(0, types[first[0]]), Slot(1, types[second[0]])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return RowLayout((prefix, query, middle, document, suffix), pad, tokenizer.padding_side == "left")
