"""Arrow arrays whose layout is known: lists by their sizes, chunks as one array."""

import numpy as np
import pyarrow as pa


def lists(sizes: np.ndarray, values: pa.Array) -> pa.Array:
    """Cut an array into consecutive lists of the given sizes."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one plain array, dictionaries decoded."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(combined.type):
        combined = combined.dictionary_decode()
    return combined
