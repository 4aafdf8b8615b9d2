"""Value of further seeds: the expected reduction of the regret of the selection.

``analysis.selection.further_seeds.one_more`` computes the effect of one further seed of a
combination on the selection. Only combinations that may still be selected have a positive value,
and none has after the selection is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sweeps.search.strategy import Cell, Goal, Point

__all__ = ["gains"]

_FEWEST = 6
"""Smallest number of combinations for which the posterior is computed."""

_COLUMNS = ("val_class_total", "val_class_correct")


def gains(seen: Mapping[Point, Mapping[str, Any]], goal: Goal) -> dict[Cell, float]:
    """Return the expected gain in accuracy of the selection from one further seed, a fraction.

    Args:
        seen: Records of completed students.
        goal: Selection rule.

    Returns:
        Gains of the combinations in contention; empty if there are too few combinations, or if
        standard distillation is not among them.
    """
    from analysis.runs.combinations import combine
    from analysis.selection.further_seeds import one_more
    from analysis.selection.uncertainty import decide

    cells = {point.cell for point in seen}
    if len(cells) < _FEWEST or not any(cell.is_standard for cell in cells):
        return {}
    combinations = combine(pa.Table.from_pylist([_row(p, r) for p, r in seen.items()], _SCHEMA))
    selection, sure, _ = decide(combinations, goal.criterion)
    if sure is None:
        return {}
    worth = one_more(selection, sure)
    return {Cell.at(selection.combinations, place): gain for place, gain in worth.items()}


_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("run_id", "teacher_id", "variant", "tuned")]
    + [(name, pa.string()) for name in ("teacher_objective", "student_objective")]
    + [(name, pa.float64()) for name in ("alpha_t", "alpha_s", "temperature")]
    + [("seed", pa.int64())]
    + [(name, pa.list_(pa.int64())) for name in _COLUMNS]
)


def _row(point: Point, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the columns that the selection reads."""
    cell = point.cell
    return {
        "run_id": f"{cell} {point.seed}",
        "teacher_id": f"{cell.alpha_t} {point.seed}",
        "teacher_objective": cell.objectives[0][0],
        "student_objective": cell.objectives[1][0],
        "alpha_t": cell.alpha_t,
        "alpha_s": cell.alpha_s,
        "temperature": cell.temperature,
        "seed": point.seed,
        **{name: row[name] for name in _COLUMNS},
    }
