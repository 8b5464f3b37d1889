"""When two texts are the same: without case, white space and outer punctuation; or nearly, by the words they share."""

import re
import unicodedata
from collections.abc import Sequence, Set

import numpy as np
import xxhash


def normalised(text: str) -> str:
    """The text without case, runs of white space and the punctuation at its ends; Unicode is composed (NFKC)."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = " ".join(folded.split())
    start, end = 0, len(words)
    while start < end and _at_the_end(words[start]):
        start += 1
    while end > start and _at_the_end(words[end - 1]):
        end -= 1
    return words[start:end] or words


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """uint64 of n: the same for texts that are the same once they are `normalised`."""
    keys = (xxhash.xxh3_64_intdigest(normalised(text).encode("utf-8", "surrogatepass")) for text in texts)
    return np.fromiter(keys, np.uint64, len(texts))


def words_of(text: str) -> frozenset[str]:
    """The distinct words of a text, as they are compared."""
    return frozenset(re.findall(r"\w+", normalised(text)))


def overlap(one: Set[str], other: Set[str]) -> float:
    """The share of all their words that two texts have in common (Jaccard); 0 where neither has any."""
    return len(one & other) / max(len(one | other), 1)


def _at_the_end(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] == "P"
