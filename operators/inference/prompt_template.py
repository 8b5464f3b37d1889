"""A template such as `Query: {query} Document: {document} Relevant:`, whose literals no truncation can take."""

from string import Formatter
from typing import Any

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.row_layout import Fixed, RowLayout, Slot

_PROBE = "two words"


def template_slots(template: str) -> list[str]:
    """The names of a template's slots, left to right.

    Raises:
        ValueError: it is not a template.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}") from None
    if "{{" in template or "}}" in template or any(spec or how for _, _, spec, how in parts):
        raise ValueError(f"template {template!r}: braces are for the slots' names alone")
    return [name for _, name, _, _ in parts if name is not None]


def template_layout(
    tokenizer: Any, template: str, texts: dict[str, int], caps: dict[str, int], end_token: bool
) -> RowLayout:
    """The row that a template makes, as the tokenizer itself would encode the filled template.

    Args:
        tokenizer: a fast one, whose tokens do not reach across the spaces around a slot.
        template: literal text with slots in braces.
        texts: which text of a row (0 the query, 1 and 2 documents) each slot name takes.
        caps: the most tokens that a slot may have, by name.
        end_token: whether what the tokenizer puts behind a text, `</s>` for T5, ends the row.

    Raises:
        ModelError: the tokenizer cannot be used part by part.
    """

    def ids(text: str, special: bool = False) -> list[int]:
        return list(tokenizer(text, add_special_tokens=special)["input_ids"])

    def fixed(tokens: list[int]) -> Fixed:
        return Fixed(tuple(tokens), (0,) * len(tokens))

    inner, whole = ids(_PROBE), ids(_PROBE, special=True)
    start = next((at for at in range(len(whole)) if whole[at : at + len(inner)] == inner), 0)
    before, after = whole[:start], whole[start + len(inner) :] if end_token else []
    parts: list[Fixed | Slot] = [fixed(before)]
    probe = list(before)
    for literal, name, _, _ in Formatter().parse(template):
        tokens = ids(literal.strip())
        parts.append(fixed(tokens))
        probe += tokens
        if name is not None:
            parts.append(Slot(texts[name], cap=caps.get(name)))
            probe += inner
    parts.append(fixed(after))
    probe += after
    expected = ids(template.format(**dict.fromkeys(texts, _PROBE)), special=True)
    if probe != expected[: len(expected) if end_token else len(probe)]:
        raise ModelError(
            f"{tokenizer.name_or_path}: a text is tokenised differently alone and inside {template!r}; not supported"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    kept = tuple(part for part in parts if isinstance(part, Slot) or part.ids)
    return RowLayout(kept, pad, tokenizer.padding_side == "left")
