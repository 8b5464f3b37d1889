"""Ragged lists in Arrow and numpy: their sizes, and where each item belongs.

A column of lists is its items in one flat array, and the size of each list.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def list_sizes(lists: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 of n: the number of items per list; 0 for a null list."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)


def bounds(sizes: np.ndarray) -> np.ndarray:
    """int64 of n + 1: list i is items[bounds[i] : bounds[i + 1]]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def parents(sizes: np.ndarray) -> np.ndarray:
    """int64 per item: the number of its list."""
    return np.asarray(np.repeat(np.arange(len(sizes)), sizes))


def places(sizes: np.ndarray) -> np.ndarray:
    """int64 per item: its place in its list, from 0."""
    return np.asarray(np.arange(np.sum(sizes, dtype=np.int64)) - np.repeat(bounds(sizes)[:-1], sizes))


def to_lists(sizes: np.ndarray, items: pa.Array) -> pa.Array:
    """Cut an array into consecutive lists of these sizes."""
    return pa.ListArray.from_arrays(pa.array(bounds(sizes), pa.int32()), items)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one plain array, dictionaries decoded."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(combined.type):
        combined = combined.dictionary_decode()
    return combined


def struct_array(fields: dict[str, pa.Array]) -> pa.Array:
    """Structs with these fields, all of one length."""
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
