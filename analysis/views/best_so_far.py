"""Selection among the students trained so far, as two lines for a progress display."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.combinations import combine
from analysis.selection import select
from analysis.selection.by_metric import ByMetric
from analysis.selection.criteria import Criterion
from analysis.selection.outcome import combination_name
from rkd_core.errors import UserError

__all__ = ["best_so_far"]


def best_so_far(students: pa.Table, criterion: Criterion | None = None) -> str | None:
    """Return the selected student beside standard distillation, on validation.

    Args:
        students: Completed student records in the columns of ``rkd_core.records.SCHEMA``; those
            of methods outside the grid are not candidates.
        criterion: The rule; None for ``Constrained()``. One by a metric, which needs
            predictions, is replaced by that by accuracy.

    Returns:
        Two lines, or None while there is no standard distillation to compare with.
    """
    students = students.filter(pc.is_null(students["variant"]))
    if isinstance(criterion, ByMetric):
        criterion = criterion.by_accuracy()
    try:
        selection = select(combine(students), criterion)
    except UserError:
        return None
    c, means = selection.combinations, selection.means

    def figures(index: int) -> str:
        return f"{means.worst_k[index]:6.1%} worst, {means.average[index]:6.1%} average"

    best = selection.selected
    return (
        f"best so far  {figures(best)}: {combination_name(c, best)}\n"
        f"standard     {figures(selection.reference)}: standard distillation"
    )
