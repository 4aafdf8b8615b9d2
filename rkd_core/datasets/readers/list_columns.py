"""Columns of lists of numbers, such as embeddings, as float arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rkd_core.datasets.readers.arrays import FloatArrays, values_of
from rkd_core.errors import UserError

__all__ = ["arrays_of", "holds_lists"]


def holds_lists(kind: pa.DataType) -> bool:
    """Return whether a type is a list of numbers, or of such lists."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if not _is_list(kind):
        return False
    inner = kind.value_type
    return pa.types.is_integer(inner) or pa.types.is_floating(inner) or holds_lists(inner)


def arrays_of(column: pa.ChunkedArray, where: str) -> FloatArrays:
    """Return the rows of a column as float arrays of one shape.

    Args:
        column: Column of lists of numbers.
        where: Name of the column, for messages.

    Raises:
        UserError: A row or a value is missing, rows differ in length, or values are not finite.
    """
    parts: list[NDArray[Any]] = []
    row = 0
    for chunk in column.chunks:
        part = _array(chunk, f"{where} from row {row} on" if row else where)
        if parts and part.shape[1:] != parts[0].shape[1:]:
            raise UserError(
                f"{where}: rows have shapes {parts[0].shape[1:]} and, from row {row} on, "
                f"{part.shape[1:]}"
            )
        row += len(part)
        if len(part):
            parts.append(part)
    if not parts:
        return FloatArrays(np.zeros((0, 1), np.float32), where)
    return FloatArrays(values_of(np.concatenate(parts), where), where)


def _array(array: Any, where: str) -> NDArray[Any]:
    """Return nested lists of equal lengths as an array."""
    if isinstance(array.type, pa.FixedShapeTensorType):
        if array.null_count:
            raise UserError(f"{where}: {array.null_count} rows are null")
        tensors: NDArray[Any] = array.to_numpy_ndarray()
        return tensors
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.null_count:
        missing = np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False))
        raise UserError(f"{where}: row or value {missing[0]} is null")
    if not _is_list(array.type):
        numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return numbers
    lengths = np.asarray(pc.list_value_length(array))
    if len(other := np.flatnonzero(lengths != lengths[:1])):
        raise UserError(
            f"{where}: row {other[0]} has {lengths[other[0]]} values, and row 0 has {lengths[0]}"
        )
    inner = _array(array.flatten(), where)
    return inner.reshape(len(array), int(lengths[0]) if len(lengths) else 1, *inner.shape[1:])


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
