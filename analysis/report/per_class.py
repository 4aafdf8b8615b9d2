"""Accuracies of each class: the selected student, standard distillation, and the teacher."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

from analysis.report.pareto import rounded
from analysis.runs.combinations import Combinations, HeldOut
from analysis.selection.intervals import CONFIDENCE
from analysis.selection.outcome import Outcome
from analysis.views.format import readable
from analysis.views.tables import teacher_of

__all__ = ["per_class"]

_MOST_VALUES = 100_000
"""Maximum number of recalls of a split, if all combinations are to have theirs."""


def per_class(outcome: Outcome, indices: Iterable[int]) -> dict[str, Any]:
    """Return recalls per class of the combinations that can be shown, and of their teachers.

    Args:
        outcome: The selection, with its teachers.
        indices: Combinations that the slider may select. They are shown in any case, as is the
            reference, and all combinations if there are not too many.
    """
    c = outcome.selection.combinations
    wanted = sorted({*indices, outcome.selection.reference, outcome.selection.selected})
    if len(c) * c.class_total.shape[1] <= _MOST_VALUES:
        wanted = list(range(len(c)))
    teachers = {index: teacher_of(outcome, index) for index in wanted}
    alone = outcome.teachers
    known = sorted({place for place in teachers.values() if place is not None})
    return {
        "names": [readable(name) for name in outcome.setting.class_names],
        "train": outcome.setting.train_counts,
        "val_images": c.class_total[0].tolist(),
        "deviate": NormalDist().inv_cdf((1 + CONFIDENCE) / 2),
        "test_images": outcome.held_out.class_total[0].tolist(),
        "students": {str(index): _recalls(c, outcome.held_out, index) for index in wanted},
        "teachers": {
            str(place): _recalls(alone.combinations, alone.held_out, place) for place in known
        },
        "teacher_of": {str(i): place for i, place in teachers.items() if place is not None},
    }


def _recalls(c: Combinations, held_out: HeldOut, index: int) -> dict[str, list[Any]]:
    only = c.only(index)
    return {
        "val": rounded(only.mean_recalls(), 4),
        "test": rounded(held_out.mean_recalls(only), 4),
    }
