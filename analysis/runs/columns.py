"""Columns of a table of records as arrays, with checks that name an invalid record."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rkd_core.errors import UserError
from rkd_core.objectives import names, on_grid, position

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
"""Maximum number of images of a class."""


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
    """Return values with -1 for nulls; copy them, possibly millions, only if there is a null."""
    return np.asarray((pc.fill_null(values, -1) if values.null_count else values).to_numpy())


def array(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one chunk, from a table returned by ``combine_chunks``."""
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
    return names()


def objective_places(table: pa.Table, name: str) -> IntArray:
    """Return a column of objectives as indices into ``objective_names()``; -1 where null."""
    column = array(table, name)
    known = pa.array(objective_names())
    place = pc.fill_null(pc.index_in(column, value_set=known), -1).to_numpy()
    unknown = np.flatnonzero((place == -1) & column.is_valid().to_numpy(zero_copy_only=False))
    if unknown.size:
        row = int(unknown[0])
        raise UserError(
            f"record {table['run_id'][row]} has {name} {column[row]}; "
            f"known are {', '.join(names())}"
        )
    return np.asarray(place, dtype=np.int64)


def doubles(table: pa.Table, name: str) -> FloatArray:
    """Return a column of finite, nonnegative settings, at most 1 for alphas; NaN where null."""
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
    """Return positions of objectives on the axis of trade-offs; NaN where there is no objective.

    Args:
        objective: Indices into ``objective_names()``; -1 for none.
        alpha: Their alphas; NaN for objectives without alpha.

    Returns:
        Positions as defined by ``rkd_core.objectives.position``.
    """
    start = np.array([position(name) for name in names()])[objective]
    return np.where(objective < 0, np.nan, start + np.where(np.isnan(alpha), 0.0, alpha))


def effective_alpha(objective: IntArray, alpha: FloatArray) -> FloatArray:
    """Return the alphas of objectives as trade-offs: 0 for balanced and 1 for robust.

    Objectives that are not a trade-off have NaN. The arguments are those of ``positions``.
    """
    on_axis = np.array([on_grid(name)[0] == "tradeoff" for name in names()])[objective]
    return np.where(on_axis, positions(objective, alpha), np.nan)
