"""A student cut from a teacher: these layers, their very weights, and a config that says so."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)

from ray_rerank.operators.errors import InputError, ModelError
from ray_rerank.operators.training.student import Student, keep_layers, parse_student, spaced_layers


def teacher(layers: int = 5) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=20,
            num_labels=1,
        )
    ).eval()


def test_the_students_layers_are_the_teachers(tmp_path: Path) -> None:
    whole, student = teacher(), teacher()
    keep_layers(student, [0, 2, 4])
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, use_safetensors=True)
    assert loaded.config.num_hidden_layers == 3
    before, after = whole.state_dict(), loaded.state_dict()
    moved = {"layer.0.": "layer.0.", "layer.1.": "layer.2.", "layer.2.": "layer.4."}
    for name, tensor in after.items():
        layer = next((part for part in moved if part in name), None)
        assert torch.equal(tensor, before[name.replace(layer, moved[layer]) if layer else name]), name


def test_keeping_every_layer_changes_no_score() -> None:
    ids = torch.tensor([[1, 5, 9, 2]])
    whole, student = teacher(), teacher()
    keep_layers(student, range(5))
    assert torch.equal(whole(ids).logits, student(ids).logits)


def test_a_cut_model_scores_as_the_chain_of_its_layers() -> None:
    ids = torch.tensor([[1, 5, 9, 2]])
    whole, student = teacher(), teacher()
    keep_layers(student, [1, 3])
    hidden = whole.bert.embeddings(ids)
    for layer in (1, 3):
        out = whole.bert.encoder.layer[layer](hidden, attention_mask=None)
        hidden = out[0] if isinstance(out, tuple) else out
    expected = whole.classifier(whole.bert.pooler(hidden))
    torch.testing.assert_close(student(ids).logits, expected)


def test_kinds_of_attention_go_with_their_layers() -> None:
    config = ModernBertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    )
    student = ModernBertForSequenceClassification(config)
    kinds = list(student.config.layer_types)
    keep_layers(student, [1, 3])
    assert student.config.layer_types == [kinds[1], kinds[3]]
    assert student(torch.tensor([[1, 5, 9, 2]])).logits.shape == (1, 1)


@pytest.mark.parametrize("layers", [[], [0, 0], [2, 1], [0, 5], [-1, 2]])
def test_layers_that_are_not_there_or_not_rising_are_refused(layers: list[int]) -> None:
    with pytest.raises(ModelError, match="0 to 4"):
        keep_layers(teacher(), layers)


@pytest.mark.parametrize(
    ("text", "student"),
    [
        ("layers=4", Student(4, None)),
        ("layers=0,4,8,11", Student((0, 4, 8, 11), None)),
        ("layers=3,", Student((3,), None)),
        ("vocabulary=16000 layers=4", Student(4, 16000)),
        ("vocabulary=16000", Student(None, 16000)),
    ],
)
def test_a_student_is_spelled_in_one_line(text: str, student: Student) -> None:
    assert parse_student(text) == student


@pytest.mark.parametrize(
    "text", ["", "4", "layers=", "layers=0", "layers=a", "layers=1 layers=2", "heads=4", "vocabulary=1,2"]
)
def test_a_student_spelled_otherwise_is_refused_with_the_spelling(text: str) -> None:
    with pytest.raises(InputError, match="layers=0,4,8,11"):
        parse_student(text)


def test_so_many_layers_are_spaced_evenly_from_the_first_to_the_last() -> None:
    assert spaced_layers(4, 12) == (0, 4, 7, 11)
    assert spaced_layers(6, 6) == (0, 1, 2, 3, 4, 5)
    assert spaced_layers(1, 12) == (0,)
    with pytest.raises(ModelError, match="the model has 12"):
        spaced_layers(13, 12)


@given(st.integers(1, 40), st.integers(0, 40))
def test_spaced_layers_are_distinct_and_rising(count: int, more: int) -> None:
    layers = spaced_layers(count, count + more)
    assert len(layers) == count
    assert list(layers) == sorted(set(layers))
