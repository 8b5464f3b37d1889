"""Training queries out of passages' own text, without a model: what its reader might have typed.

A teacher labels each of them against its neighbours, so a query need not be answered by its passage; it has
to look like a query. Phrases between function words follow RAKE (Rose et al. 2010, "Automatic keyword
extraction from individual documents"); keyword bags take the words of highest inverse document frequency.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.pseudo_queries.function_words import FUNCTION_WORDS
from ray_rerank.operators.pseudo_queries.statement_turns import TURNS

_GLUED = re.compile(r"(?<=[a-z])([.!?])(?=[A-Za-z]{2})")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\s+[-–•|]\s+|:\s+")
_WORD = re.compile(r"[A-Za-z0-9$][A-Za-z0-9$%'’.,/-]*")
_BREAK = re.compile(r"[^\w\s'’$%/-]|(?<=\s)-(?=\s)|\.(?=\s|$)")

_ABOUT = {
    "what is": 6,
    "what are": 3,
    "how does": 2,
    "how do": 1,
    "where is": 2,
    "when was": 1,
    "who is": 1,
    "what does": 1,
    "define": 2,
    "meaning of": 2,
    "types of": 3,
    "symptoms of": 2,
    "causes of": 3,
    "benefits of": 2,
    "difference between": 1,
    "how much does": 2,
    "cost of": 2,
    "how long is": 1,
    "how many": 2,
    "how to use": 1,
    "what causes": 3,
    "is": 2,
    "can": 1,
    "why is": 3,
    "examples of": 2,
    "history of": 2,
    "side effects of": 1,
    "average": 1,
    "best": 2,
    "how to get": 2,
    "what kind of": 1,
    "why do people": 1,
    "purpose of": 2,
    "effects of": 2,
    "how is": 1,
    "who invented": 1,
    "requirements for": 1,
}
_AFTER = {
    "definition": 4,
    "meaning": 2,
    "symptoms": 2,
    "cost": 2,
    "causes": 2,
    "treatment": 2,
    "used for": 2,
    "vs": 1,
    "facts": 1,
    "examples": 2,
    "location": 1,
    "price": 1,
    "name origin": 1,
    "side effects": 1,
    "": 6,
}


@dataclass(frozen=True, slots=True)
class PseudoQuery:
    """One training query, the passage it was made from and the form it was made in."""

    query_id: str
    query: str
    passage_id: str
    form: str


@dataclass(frozen=True, slots=True)
class Form:
    """A way to make queries: `make(text, idf, draw)` returns all it finds in one passage, maybe nothing."""

    name: str
    weight: float
    make: Callable[[str, Mapping[str, float], random.Random], list[str]]


def pseudo_queries(passages: Sequence[tuple[str, str]], count: int, seed: int) -> list[PseudoQuery]:
    """Make up to `count` distinct queries (2 to 14 words, lower-case) from (passage_id, text) pairs.

    Passages are visited in an order drawn from `seed`, as often as the count asks for; at each visit a form
    is drawn by weight, and where the passage yields nothing new in it, the others are tried. Fewer than
    `count` come back only when no passage yields anything new. The same passages and seed give the same
    queries.

    Raises:
        InputError: there is no passage, or `count` is below one.
    """
    if not passages:
        raise InputError("there are no passages to make queries from")
    if count < 1:
        raise InputError(f"count is {count}: ask for one query or more")
    passages = [(passage_id, _GLUED.sub(r"\1 ", text)) for passage_id, text in passages]
    idf = inverse_document_frequency([text for _, text in passages])
    seen: set[str] = set()
    made: list[PseudoQuery] = []
    visit = 0
    while True:
        before = len(made)
        order = sorted(range(len(passages)), key=lambda row: random.Random(f"{seed}/{visit}/{row}").random())
        for row in order:
            passage_id, text = passages[row]
            found = _visit(text, idf, random.Random(f"{seed}/{visit}/{passage_id}"), seen)
            if found is None:
                continue
            form, query = found
            seen.add(query)
            made.append(PseudoQuery(f"{passage_id}-{form}-{visit}", query, passage_id, form))
            if len(made) == count:
                return made
        if len(made) == before:
            return made
        visit += 1


def inverse_document_frequency(texts: Sequence[str]) -> dict[str, float]:
    """log(number of texts / number of texts that hold the word), by lower-case word."""
    holding = Counter(word for text in texts for word in set(_words(text)))
    return {word: math.log(len(texts) / many) for word, many in holding.items()}


def _visit(text: str, idf: Mapping[str, float], draw: random.Random, seen: set[str]) -> tuple[str, str] | None:
    """Draw one query that is not in `seen` from one passage, with its form; None where there is none."""
    forms = list(FORMS)
    while forms:
        form = draw.choices(forms, [form.weight for form in forms])[0]
        forms.remove(form)
        found = [query for query in map(_tidy, form.make(text, idf, draw)) if query and query not in seen]
        if found:
            return form.name, draw.choice(found)
    return None


def _tidy(query: str) -> str:
    """Lower-case, words alone, at most 14 of them; empty where what is left is no query."""
    words = [word.lower().strip(".,'’/-") for word in _WORD.findall(query)]
    words = [word for word in words if word]
    content = [word for word in words if word not in FUNCTION_WORDS and re.search("[a-z]", word)]
    return " ".join(words) if 2 <= len(words) <= 14 and content and query.isascii() else ""


def _words(text: str) -> list[str]:
    return [word.lower().strip(".,'’/-") for word in _WORD.findall(text)]


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]


def _phrases(text: str) -> Iterator[str]:
    """The runs of one to four content words between function words and punctuation."""
    for piece in _BREAK.split(text):
        run: list[str] = []
        for word in [*piece.split(), "the"]:
            if word.lower() not in FUNCTION_WORDS:
                run.append(word)
            elif run:
                if len(run) <= 4 and any(len(part) > 2 and part.isalpha() for part in run):
                    yield " ".join(run)
                run = []


def _topics(text: str, idf: Mapping[str, float]) -> list[str]:
    """The third of a passage's phrases that says most about it, best first.

    A phrase counts by its words' mean inverse document frequency and by how often the passage says it. Words
    that (almost) no other passage has are taken for names or slips, and count as plain ones; so does a single
    word that is said once.
    """
    said = Counter(phrase.lower() for phrase in _phrases(text))
    rare = max(idf.values(), default=0.0) - math.log(4)

    def telling(phrase: str) -> float:
        words = phrase.split()
        worth = sum(idf.get(word, 0.0) if idf.get(word, 0.0) <= rare else rare / 2 for word in words)
        return said[phrase] * worth / len(words) * (0.5 if len(words) == 1 else 1.0)

    ranked = sorted(said, key=lambda phrase: (-telling(phrase), phrase))
    return ranked[: math.ceil(len(ranked) / 3)]


def _content_end(words: str) -> str:
    """The words up to the last one that is no function word."""
    kept = words.split()
    while kept and kept[-1] in FUNCTION_WORDS:
        kept.pop()
    return " ".join(kept)


def _is_pronoun(subject: str) -> bool:
    first = re.split("['’]", subject.split()[0])[0] if subject else ""
    return first in FUNCTION_WORDS


def asked_in_text(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """The passage's own questions."""
    return [sentence for sentence in _sentences(text) if sentence.endswith("?")]


def topical_question(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """A question opening or a keyword around one of the passage's phrases: what its reader may want to know,
    answered here or not."""
    topics = _topics(text, idf)
    if not topics:
        return []
    topic = draw.choice(topics)
    if draw.random() < 0.7:
        return [f"{draw.choices(list(_ABOUT), list(_ABOUT.values()))[0]} {topic}"]
    return [f"{topic} {draw.choices(list(_AFTER), list(_AFTER.values()))[0]}"]


def turned_statement(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """Statements turned into the question they answer: definitions, places, reasons, amounts, means."""
    found: list[str] = []
    for sentence in _sentences(text):
        lowered = sentence.lower().rstrip(".!;")
        for pattern, questions in TURNS:
            match = pattern.search(lowered)
            if match is None:
                continue
            parts = {name: _content_end(value) for name, value in match.groupdict().items() if value}
            if all(parts.values()) and not _is_pronoun(parts.get("subject", "")):
                found.append(draw.choice(questions).format(**parts))
    return found


def keyword_bag(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """Two to five of the passage's ten rarest words, in the order the passage has them."""
    words = [
        word for word in dict.fromkeys(_words(text)) if word.isalpha() and word not in FUNCTION_WORDS and len(word) > 2
    ]
    rarest = sorted(words, key=lambda word: (-idf.get(word, 0.0), word))[:10]
    chosen = set(draw.sample(rarest, min(len(rarest), draw.randint(2, 5))))
    return [" ".join(word for word in words if word in chosen)]


def phrase(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """The passage's telling phrases, alone or two together."""
    topics = _topics(text, idf)
    pairs = [" ".join(draw.sample(topics, 2))] if len(topics) > 1 else []
    return topics + pairs


def sentence(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """Whole sentences of 4 to 14 words."""
    return [part for part in _sentences(text) if 4 <= len(part.split()) <= 14]


def fragment(text: str, idf: Mapping[str, float], draw: random.Random) -> list[str]:
    """Three to eight words in a row out of one sentence."""
    long_enough = [words for words in (part.split() for part in _sentences(text)) if len(words) >= 3]
    if not long_enough:
        return []
    words = draw.choice(long_enough)
    length = draw.randint(3, min(8, len(words)))
    start = draw.randint(0, len(words) - length)
    return [" ".join(words[start : start + length])]


FORMS: tuple[Form, ...] = (
    Form("turned", 0.42, turned_statement),
    Form("topical", 0.22, topical_question),
    Form("asked", 0.12, asked_in_text),
    Form("phrase", 0.07, phrase),
    Form("keywords", 0.06, keyword_bag),
    Form("fragment", 0.06, fragment),
    Form("sentence", 0.05, sentence),
)
"""Every way to make a query, with how often it is drawn."""
