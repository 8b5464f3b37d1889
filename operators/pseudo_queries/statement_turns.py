"""Patterns that turn a statement into the question it answers: English, one lower-case sentence at a time."""

import re

_SUBJECT = (
    r"(?:(?:the|a|an|most|some|all|your|this)\s+)?"
    r"(?P<subject>[a-z0-9][a-z0-9'’/-]*(?:\s+[a-z0-9'’/-]+){0,4}?)"
)
_FOUNDED = "born|founded|built|established|invented|discovered|released|created"
_TIMES = "minutes?|hours?|days?|weeks?|months?|years?"
_UNITS = "percent|minutes|hours|days|weeks|months|years"
_NO_ACTION = "the|a|an|be|have|not|this|that|your|see|which|it|can|should|must|may|might|will|would|are|need|want|do"


def _turn(pattern: str, *questions: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    return re.compile(pattern), questions


TURNS = (
    _turn(
        rf"^{_SUBJECT} is (?:a|an|the|any|one)\b",
        "what is {subject}",
        "what is {subject}",
        "{subject} definition",
        "define {subject}",
        "{subject} meaning",
    ),
    _turn(
        rf"^{_SUBJECT} are\b(?! (?:not|located))",
        "what are {subject}",
        "what are {subject}",
        "types of {subject}",
    ),
    _turn(rf"^{_SUBJECT} (?:was|were) (?:a|an|the)\b", "who was {subject}", "what was {subject}"),
    _turn(
        rf"^{_SUBJECT} (?:means|refers to|stands for|is defined as)\b",
        "what does {subject} mean",
        "{subject} meaning",
        "definition of {subject}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:is|are) (?:located|situated|found)\b",
        "where is {subject} located",
        "where is {subject}",
        "where can you find {subject}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:was|were) (?:{_FOUNDED})\b",
        "when was {subject} founded",
        "who created {subject}",
        "when was {subject} born",
        "history of {subject}",
    ),
    _turn(r"\b(?P<rest>[a-z][a-z' -]{8,50}?) because\b", "why {rest}", "what is the reason {rest}"),
    _turn(
        r"\b(?:caused by|due to|result of) (?P<rest>[a-z][a-z'-]*(?: [a-z'-]+){0,3})",
        "what does {rest} cause",
        "effects of {rest}",
    ),
    _turn(rf"^{_SUBJECT} (?:causes?|leads? to)\b", "what does {subject} cause", "is {subject} dangerous"),
    _turn(
        r"\b(?:causes?|leads? to) (?P<rest>[a-z][a-z'-]*(?: [a-z'-]+){0,2})",
        "what causes {rest}",
        "causes of {rest}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:costs?|is priced|ranges? from|(?:is|are) (?:about |around )?\$)",
        "how much does {subject} cost",
        "{subject} price",
        "average cost of {subject}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:takes?|lasts?|can take|will take)\b.*\b(?:{_TIMES})\b",
        "how long does {subject} take",
        "how long does {subject} last",
    ),
    _turn(
        rf"\b\d[\d,.]* (?P<rest>(?!{_UNITS})"
        r"[a-z]{4,}(?: [a-z]+)? (?:in|of|per) [a-z]+(?: [a-z]+)?)",
        "how many {rest}",
        "number of {rest}",
    ),
    _turn(
        rf"\b(?:to|can|should|you|must) (?P<rest>(?!(?:{_NO_ACTION})\b)"
        r"[a-z]{3,} (?:the |a |an |your )?[a-z'-]{3,}(?: [a-z'-]{3,}){0,2})",
        "how to {rest}",
        "how to {rest}",
        "how do you {rest}",
        "how do i {rest}",
        "should you {rest}",
        "can you {rest}",
    ),
    _turn(
        rf"^{_SUBJECT} can (?P<rest>(?!be\b|also\b)[a-z]+(?: [a-z'-]+){{1,4}})",
        "can {subject} {rest}",
        "does {subject} {rest}",
        "how does {subject} {rest}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:is|are) (?P<rest>(?!a\b|an\b|the\b|located\b)[a-z'-]+(?: [a-z'-]+){{0,3}})$",
        "is {subject} {rest}",
        "are {subject} {rest}",
        "why is {subject} {rest}",
        "why are {subject} {rest}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:contains?|includes?|consists? of)\b",
        "what does {subject} contain",
        "what is in {subject}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:is|are) (?:used|responsible)\b",
        "what is {subject} used for",
        "what does {subject} do",
        "function of {subject}",
    ),
    _turn(
        rf"^{_SUBJECT} (?:has|have) (?P<rest>[a-z0-9'-]+(?: [a-z'-]+){{0,3}})",
        "does {subject} have {rest}",
        "how many {rest} does {subject} have",
    ),
)
"""(pattern, questions): the pattern's named parts, `subject` and `rest`, fill any of the questions."""
