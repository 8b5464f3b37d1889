"""monoT5, RankT5 and duoT5 give what plain transformers calls give, whatever the batch, and lose no literal."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

from ray_rerank.operators.errors import InputError, ModelError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.registry import scorer_config
from support.models import ragged_pairs, write_t5


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5") / "tied")


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As T5 1.1 and Flan are saved: the decoder's output is not scaled."""
    return write_t5(tmp_path_factory.mktemp("t5") / "untied", seed=4, tie_word_embeddings=False)


class Reference:
    """Plain transformers: the template filled by string formatting, every pair alone, the whole vocabulary."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = T5ForConditionalGeneration.from_pretrained(folder).eval()

    def first_step(self, ids: list[int], prefix: tuple[str, ...] = ()) -> torch.Tensor:
        """Logits of the whole vocabulary for the token behind the prefix, by `generate` itself."""
        start = [0, *self.tokenizer.convert_tokens_to_ids(list(prefix))]
        with torch.no_grad():
            made = self.model.generate(
                torch.tensor([ids]),
                decoder_input_ids=torch.tensor([start]),
                max_new_tokens=1,
                output_logits=True,
                return_dict_in_generate=True,
                do_sample=False,
            )
        return made.logits[0][0]

    def ids(self, template: str, max_length: int, end: bool = True, **texts: str) -> list[int]:
        """The filled template, where the longest text loses its last words' tokens until all fits."""
        parts = {name: self.tokenizer(text, add_special_tokens=False)["input_ids"] for name, text in texts.items()}
        literals = dict.fromkeys(texts, "")
        fixed = len(self.tokenizer(template.format(**literals), add_special_tokens=False)["input_ids"]) + end
        by_length = sorted(parts.values(), key=len)
        while sum(map(len, by_length)) + fixed > max_length:
            longest = max(len(part) for part in by_length)
            next(part for part in by_length if len(part) == longest).pop()
        row: list[int] = []
        for literal, name in zip(template.replace("}", "{").split("{")[::2], [*texts, None], strict=True):
            row += self.tokenizer(literal.strip(), add_special_tokens=False)["input_ids"]
            row += parts[name] if name else []
        return row + [self.tokenizer.eos_token_id] * end

    def token(self, piece: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(piece)
        assert found != self.tokenizer.unk_token_id
        return int(found)


def load(kind: str, folder: Path, **fields: Any) -> Any:
    return scorer_config({"kind": kind, "model": str(folder), "precision": "fp32", **fields}).load()


MONO = "Query: {query} Document: {document} Relevant:"


@pytest.mark.parametrize("max_length", [512, 48])
@pytest.mark.parametrize("which", ["t5", "untied"])
def test_monot5_is_the_log_probability_of_true(which: str, max_length: int, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    reference, pairs = Reference(folder), ragged_pairs(40)
    targets = [reference.token("▁false"), reference.token("▁true")]
    expected = []
    for query, document in pairs:
        ids = reference.ids(MONO, max_length, query=query, document=document)
        whole = reference.tokenizer(MONO.format(query=query, document=document))["input_ids"]
        assert len(ids) == max_length if len(whole) > max_length else ids == whole
        expected.append(torch.log_softmax(reference.first_step(ids)[targets], dim=0)[1].item())
    work = ScoringStats()
    scores = load("monot5", folder, max_length=max_length).score(pairs, work)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.std(expected) > 0.01, "the reference tells nothing apart"
    assert (work.truncated > 0) == (max_length == 48)


def test_rankt5_is_the_raw_logit_of_the_score_token_without_an_end_token(t5: Path) -> None:
    reference, pairs = Reference(t5), ragged_pairs(30)
    expected = []
    for query, document in pairs:
        ids = reference.ids("Query: {query} Document: {document}", 64, end=False, query=query, document=document)
        expected.append(reference.first_step(ids)[reference.token("<extra_id_10>")].item())
    np.testing.assert_allclose(load("rankt5", t5, max_length=64).score(pairs), expected, atol=1e-4)


def test_rankt5_over_digits_is_an_expected_value_read_behind_the_word_start(t5: Path) -> None:
    reference, pairs = Reference(t5), ragged_pairs(30)
    assert reference.tokenizer.tokenize("7") == ["▁", "7"]  # as in T5's own vocabulary for some digits
    digits = [reference.token(digit) for digit in "0123456789"]
    expected = []
    for query, document in pairs:
        ids = reference.ids("Query: {query} Document: {document} Score:", 512, query=query, document=document)
        p = torch.softmax(reference.first_step(ids, ("▁",))[digits], dim=0)
        expected.append(sum(k * p[k].item() for k in range(10)))
    scores = load("rankt5", t5, form="digits").score(pairs)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert ((scores > 0) & (scores < 9)).all()


@pytest.mark.parametrize(
    ("form", "template", "prefix", "loses", "wins"),
    [
        ("true-false", "Query: {q} Document0: {a} Document1: {b} Relevant:", (), "▁false", "▁true"),
        ("document-names", "Query: {q} Document1: {a} Document2: {b} More relevant:", ("▁Document",), "2", "1"),
    ],
)
@pytest.mark.parametrize("max_length", [512, 64])
def test_duot5_sums_the_probabilities_of_all_ordered_pairs(
    t5: Path, form: str, template: str, prefix: tuple[str, ...], loses: str, wins: str, max_length: int
) -> None:
    reference, pairs = Reference(t5), sorted(set(ragged_pairs(14)))
    targets = [reference.token(loses), reference.token(wins)]
    expected = np.zeros(len(pairs))
    comparisons = 0
    for i, j in itertools.permutations(range(len(pairs)), 2):
        if pairs[i][0] == pairs[j][0]:
            ids = reference.ids(template, max_length, q=pairs[i][0], a=pairs[i][1], b=pairs[j][1])
            p = torch.softmax(reference.first_step(ids, prefix)[targets], dim=0)[1].item()
            expected[i] += p
            expected[j] += 1 - p
            comparisons += 1
    work = ScoringStats()
    scores = load("duot5", t5, form=form, max_length=max_length).score(pairs, work)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert (work.evaluations, work.pairs) == (comparisons, len(pairs))
    assert work.batches < comparisons, "queries do not share batches"


def test_duot5_compares_within_the_lists_it_is_given(t5: Path) -> None:
    pairs = [("how to water", document) for document in ("a cactus", "the soil", "bread", "stars shine")]
    scorer = load("duot5", t5)
    apart = scorer.score(pairs, lists=np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(apart[[0, 2]], scorer.score([pairs[0], pairs[2]]), atol=1e-5)
    np.testing.assert_allclose(apart[[1, 3]], scorer.score([pairs[1], pairs[3]]), atol=1e-5)
    assert scorer.score(pairs[:1]).tolist() == [0]


@pytest.mark.parametrize("kind", ["monot5", "rankt5"])
def test_a_score_does_not_depend_on_its_batch(t5: Path, kind: str) -> None:
    pairs = ragged_pairs(20)
    together = load(kind, t5).score(pairs)
    small = load(kind, t5, batch_tokens=100).score(pairs[::-1])[::-1]
    alone = np.concatenate([load(kind, t5).score([pair]) for pair in pairs[:4]])
    np.testing.assert_allclose(together, small, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(together[:4], alone, atol=1e-5, rtol=1e-5)


def inputs_seen(scorer: Any, pairs: list[tuple[str, str]]) -> list[list[int]]:
    """The rows that the model is given, without padding."""
    seen: list[list[int]] = []

    def look(_: Any, arguments: Any, named: dict[str, torch.Tensor]) -> None:
        rows = zip(named["input_ids"], named["attention_mask"], strict=True)
        seen.extend(row[mask.bool()].tolist() for row, mask in rows)

    scorer._model._model.encoder.register_forward_pre_hook(look, with_kwargs=True)
    scorer.score(pairs)
    return seen


@pytest.mark.parametrize(("kind", "behind"), [("monot5", "Relevant:"), ("duot5", "Relevant:")])
def test_literals_and_query_survive_documents_of_ten_thousand_words(t5: Path, kind: str, behind: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(t5)
    query = "how to water a cactus"
    seen = inputs_seen(load(kind, t5), [(query, "soil " * 10_000), (query, "bread " * 10_000)])
    assert len(seen) == 2
    for row in seen:
        assert len(row) == 512
        text = tokenizer.decode(row)
        assert text.startswith(f"Query: {query} Document") and text.endswith(f"{behind}</s>")
        if kind == "duot5":
            documents = text.split("Document0: ")[1].removesuffix(f" {behind}</s>").split(" Document1: ")
            sizes = [len(tokenizer(document, add_special_tokens=False)["input_ids"]) for document in documents]
            assert abs(sizes[0] - sizes[1]) <= 1, "one document took the other's room"


def test_caps_hold_for_each_slot(t5: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(t5)
    seen = inputs_seen(load("monot5", t5, caps={"query": 2, "document": 3}), [("soil " * 50, "dry " * 50)])
    ids = {
        word: tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("Query:", "soil", "Document:", "dry")
    }
    cut = [*ids["Query:"], *(ids["soil"] * 2)[:2], *ids["Document:"], *(ids["dry"] * 3)[:3]]
    assert seen[0] == [*cut, *tokenizer("Relevant:")["input_ids"]]


def test_one_decoder_step_runs_and_only_the_targets_rows_are_multiplied(t5: Path) -> None:
    steps, rows = [], []
    for kind, fields in (("monot5", {}), ("rankt5", {"form": "digits"}), ("duot5", {"form": "document-names"})):
        scorer = load(kind, t5, batch_tokens=10_000, **fields)
        model = scorer._model._model
        model.decoder.register_forward_pre_hook(
            lambda _, __, named: steps.append(tuple(named["input_ids"].shape)), with_kwargs=True
        )
        model.lm_head.register_forward_hook(lambda _, __, out: rows.append(out.shape[-1]))
        scorer.score([("how to water", "a cactus"), ("how to water", "the soil")])
    assert [length for _, length in steps] == [1, 2, 2]  # the start token, and the prefix where there is one
    assert rows == [2, 10, 2]


def test_another_language_and_an_explicit_prefix(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", whole=("▁yes", "▁no", "▁true", "▁false"))
    reference, pairs = Reference(folder), ragged_pairs(8)
    scored = load("monot5", folder, targets=["▁no", "▁yes"]).score(pairs)
    behind = load("monot5", folder, decoder_prefix="▁").score(pairs)
    words = load("monot5", folder, targets=["no", "yes"], template="Frage: {query} Text: {document}").score(pairs)
    for at, (query, document) in enumerate(pairs):
        ids = reference.ids(MONO, 512, query=query, document=document)
        step = reference.first_step(ids)[[reference.token("▁no"), reference.token("▁yes")]]
        assert scored[at] == pytest.approx(torch.log_softmax(step, 0)[1].item(), abs=1e-4)
        step = reference.first_step(ids, ("▁",))[[reference.token("▁false"), reference.token("▁true")]]
        assert behind[at] == pytest.approx(torch.log_softmax(step, 0)[1].item(), abs=1e-4)
    assert not np.allclose(words, scored)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"targets": ["▁irrelevant", "▁true"]}, "'▁irrelevant' is not one token"),
        ({"targets": ["true", "▁true"]}, "share a token"),
        ({"targets": ["cactus roots", "▁true"]}, "'cactus roots' is not one token"),
        ({"max_length": 8}, "no room for texts"),
    ],
)
def test_targets_that_are_not_one_distinct_token_are_refused_with_their_pieces(
    t5: Path, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelError, match=told):
        load("monot5", t5, **fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "monot5", "template": "{query} Relevant:"}, "must hold each of"),
        ({"kind": "monot5", "template": "{query} {document} {document}"}, "must hold each of"),
        ({"kind": "monot5", "template": "{query:>9} {document}"}, "braces are for the slots' names"),
        ({"kind": "monot5", "template": "{{x}} {query} {document}"}, "braces are for the slots' names"),
        ({"kind": "monot5", "template": "{query} {document"}, "expected '}'"),
        ({"kind": "monot5", "targets": [False, True]}, "put them in quotes"),
        ({"kind": "monot5", "caps": {"passage": 3}}, "the slots are"),
        ({"kind": "monot5", "targets": ["▁true"]}, "needs two targets"),
        ({"kind": "duot5", "reduction": "softmax"}, "difference"),
        ({"kind": "duot5", "fraction": 0.5, "comparisons": 3}, "not both"),
        ({"kind": "monoT5"}, "`kind` is one of cross-encoder, monot5"),
        ({"kind": "rankt5", "form": "numbers"}, "form"),
    ],
)
def test_configs_that_cannot_be_meant_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        scorer_config({"model": "x", **fields})


def test_the_identity_follows_each_part_of_template_and_readout(t5: Path) -> None:
    kinds = [
        {"kind": "monot5"},
        {"kind": "monot5", "template": "Q: {query} D: {document} Relevant:"},
        {"kind": "monot5", "targets": ["▁true", "▁false"]},
        {"kind": "monot5", "decoder_prefix": "▁"},
        {"kind": "monot5", "reduction": "difference"},
        {"kind": "monot5", "end_token": False},
        {"kind": "monot5", "caps": {"query": 7}},
        {"kind": "monot5", "max_length": 99},
        {"kind": "monot5", "precision": "fp32"},
        {"kind": "rankt5"},
        {"kind": "duot5"},
        {"kind": "duot5", "aggregation": "binary"},
        {"kind": "duot5", "fraction": 0.5},
        {"kind": "duot5", "fraction": 0.5, "seed": 1},
    ]
    identities = [scorer_config({"model": str(t5), **fields}).identity() for fields in kinds]
    assert len({repr(sorted(identity.items())) for identity in identities}) == len(kinds)


def test_a_cross_encoder_is_no_t5(cross_encoder: Path) -> None:
    with pytest.raises(ModelError, match="BertForSequenceClassification"):
        scorer_config({"kind": "monot5", "model": str(cross_encoder)}).identity()


def test_a_checkpoint_that_carries_only_a_sentencepiece_model(tmp_path: Path, t5: Path) -> None:
    """As castorini/monot5-base-msmarco and most T5 checkpoints do."""
    import sentencepiece

    from support.candidates import WORDS

    text = [" ".join(WORDS), "Query: Document: Relevant: true false"] * 5
    symbols = ["▁true", "▁false"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=80,
        user_defined_symbols=symbols,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "spiece.model").rename(folder / "spiece.model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((t5 / name).read_bytes())
    pairs = ragged_pairs(6)
    reference = Reference(folder)
    targets = [reference.token("▁false"), reference.token("▁true")]
    expected = []
    for query, document in pairs:
        ids = reference.tokenizer(MONO.format(query=query, document=document))["input_ids"]
        expected.append(torch.log_softmax(reference.first_step(ids)[targets], dim=0)[1].item())
    np.testing.assert_allclose(load("monot5", folder).score(pairs), expected, atol=1e-4)
