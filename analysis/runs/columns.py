"""Columns of a table of records as arrays, with checks that name an invalid record."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rkd_core.errors import UserError
from rkd_core.objectives import OBJECTIVES, on_grid, position

__all__ = [
    "FloatArray",
    "IntArray",
    "array",
    "counts",
    "doubles",
    "effective_alpha",
    "objective_names",
    "objective_places",
    "positions",
    "required",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MOST = 2**40
"""Images that a class can have."""


def counts(table: pa.Table, split: str) -> tuple[IntArray, IntArray]:
    """Return images and correct predictions, both ``(runs, classes)``, after checks."""
    names = [f"{split}_class_total", f"{split}_class_correct"]
    lists = [required(table, name) for name in names]
    if len(table) == 0:
        return np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0), dtype=np.int64)
    classes = lists[0][0].values
    width = len(classes)
    for name, column in zip(names, lists, strict=True):
        wrong = pc.index(pc.equal(pc.list_value_length(column), width), False).as_py()
        if wrong >= 0:
            raise UserError(
                f"record {table['run_id'][wrong]} has {len(column[wrong])} classes in {name}, "
                f"where record {table['run_id'][0]} has {width}"
            )
    shape = len(table), width
    total, correct = (_filled(column.flatten()).reshape(shape) for column in lists)
    broken = (total.sum(axis=-1) <= 0) | (correct < 0).any(axis=-1) | (correct > total).any(axis=-1)
    broken |= (total > _MOST).any(axis=-1)  # a sum of such numbers overflows
    if broken.any():
        run = table["run_id"][int(np.argmax(broken))]
        raise UserError(
            f"record {run} is not sound: {names[1]} must lie between 0 and {names[0]}, "
            "and some class must have images"
        )
    return total, correct


def _filled(values: pa.Array) -> IntArray:
    """Return values with -1 for nulls; copied only if there is one, as there may be millions."""
    return np.asarray((pc.fill_null(values, -1) if values.null_count else values).to_numpy())


def array(table: pa.Table, name: str) -> pa.Array:
    """Return a column in one piece, of a table from ``combine_chunks``."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def required(table: pa.Table, name: str) -> pa.Array:
    """Return a column in which every record must have a value."""
    column = array(table, name)
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise UserError(f"record {table['run_id'][row]} is completed but has no {name}")
    return column


def objective_names() -> tuple[str, ...]:
    """Return the names of the objectives, in the order in which combinations are listed."""
    return tuple(OBJECTIVES)


def objective_places(table: pa.Table, name: str) -> IntArray:
    """Return a column of objectives as places in ``objective_names()``; -1 where null."""
    column = array(table, name)
    known = pa.array(objective_names())
    place = pc.fill_null(pc.index_in(column, value_set=known), -1).to_numpy()
    unknown = np.flatnonzero((place == -1) & column.is_valid().to_numpy(zero_copy_only=False))
    if unknown.size:
        row = int(unknown[0])
        raise UserError(
            f"record {table['run_id'][row]} has {name} {column[row]}; "
            f"known are {', '.join(OBJECTIVES)}"
        )
    return np.asarray(place, dtype=np.int64)


def doubles(table: pa.Table, name: str) -> FloatArray:
    """Return a column of finite settings of 0 or more, trade-offs at most 1; NaN where null."""
    column = array(table, name)
    sound = pc.and_(pc.is_finite(column), pc.greater_equal(column, 0.0))
    what = "a finite number of 0 or more"
    if name.startswith("alpha"):
        sound, what = pc.and_(sound, pc.less_equal(column, 1.0)), "from 0 to 1"
    wrong = pc.index(sound, False).as_py()
    if wrong >= 0:
        raise UserError(
            f"record {table['run_id'][wrong]} has {name} {column[wrong]}; it must be {what}"
        )
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def positions(objective: IntArray, alpha: FloatArray) -> FloatArray:
    """Return where objectives stand on the axis of trade-offs; NaN where there is no objective.

    Args:
        objective: Places in ``objective_names()``; -1 for none.
        alpha: Their alphas, NaN where an objective takes none.

    Returns:
        Positions as of ``rkd_core.objectives.position``.
    """
    start = np.array([position(name) for name in OBJECTIVES])[objective]
    return np.where(objective < 0, np.nan, start + np.where(np.isnan(alpha), 0.0, alpha))


def effective_alpha(objective: IntArray, alpha: FloatArray) -> FloatArray:
    """Return the alphas of the trade-offs that objectives amount to, as ``positions`` takes them.

    Balanced is 0 and robust is 1; NaN stands for objectives that are no trade-off.
    """
    on_axis = np.array([on_grid(name)[0] == "tradeoff" for name in OBJECTIVES])[objective]
    return np.where(on_axis, positions(objective, alpha), np.nan)
