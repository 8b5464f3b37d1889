"""Ids that stood before, over many files."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.cluster.duplicates import Values

KINDS = st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.binary_view()])


@given(st.lists(st.lists(st.one_of(st.none(), st.sampled_from("abcde")), max_size=6), max_size=5), KINDS)
def test_it_equals_a_dictionary(files: list[list[str | None]], kind: pa.DataType) -> None:
    seen, first, expected = Values(), dict[str, tuple[str, int]](), dict[str, list[int]]()
    for number, ids in enumerate(files):
        name = f"f{number}"
        seen.add(name, np.arange(len(ids)), pa.array(ids, pa.string()).cast(kind))
        for row, value in enumerate(ids):
            if value is not None and first.setdefault(value, (name, row)) != (name, row):
                expected.setdefault(name, []).append(row)
    found = seen.repeats()
    assert {name: rows.tolist() for name, rows in found.rows.items()} == expected
    assert (found.example is None) == (not expected)
    if found.example:
        file, row, *before = found.example
        value = files[int(file[1:])][row]
        assert value is not None and first[value] == tuple(before)


def test_numbers_and_strings_of_one_id_are_one() -> None:
    seen = Values()
    seen.add("a", np.array([7]), pa.array([12]))
    seen.add("b", np.array([9]), pa.array(["12"]).dictionary_encode())
    assert seen.repeats().example == ("b", 9, "a", 7)
