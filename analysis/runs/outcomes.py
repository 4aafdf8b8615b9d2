"""Outcomes of students on single validation images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import IntArray
from analysis.runs.predictions import load_outcomes
from rkd_core.errors import UserError
from rkd_core.metrics.shift_family import ALPHAS
from rkd_core.records import predictions
from rkd_core.storage import files
from rkd_core.text.numbers import plural

if TYPE_CHECKING:
    from analysis.runs.combinations import Combinations
    from analysis.runs.loading import Runs

__all__ = ["Outcomes", "with_outcomes"]

_MOST = 10_000
"""Approximate number of images in a sample; more would not change what is estimated from it."""
_NUMBERS = 20_000_000
"""Approximate product of the numbers of runs and of images in a sample."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Correctness of runs on a sample of the validation images, as bits."""

    bits: NDArray[np.uint8]
    """Bytes of the trained students, shape ``(students, images)``; a bit for the student itself and
    one for each strength of its shift. Images are in the order of their classes."""
    images: IntArray
    """Number of images in the sample of each class that has any, ``(present,)``."""
    row: IntArray
    """Row of each run in ``bits``, ``(runs,)``."""
    bit: IntArray
    """Bit of each run."""

    def part(self, runs: slice | IntArray) -> Outcomes:
        """Return the outcomes of some runs."""
        return replace(self, row=self.row[runs], bit=self.bit[runs])

    def correct(self) -> NDArray[np.bool_]:
        """Return whether each run is correct on each image, shape ``(runs, images)``."""
        return (self.bits[self.row] >> self.bit.astype(np.uint8)[:, None] & 1).astype(np.bool_)


def with_outcomes(combinations: Combinations, runs: Runs) -> tuple[Combinations, str]:
    """Return combinations with the outcomes of their runs on validation images.

    If there are many images, an evenly spaced sample of each class is used. Outcomes only show how
    much the errors of runs have in common; accuracies are those of the counts. The outcomes of a
    shifted student are those with the shift that was fitted to all images.

    Args:
        combinations: Students, shifted or not.
        runs: The runs that they are from, with their results folder.

    Returns:
        The combinations with outcomes and an empty string; or, without predictions of all runs,
        those given, and the reason on one line.

    Raises:
        UserError: Predictions or shifts are damaged, or are of other data.
    """
    c, results = combinations, runs.results
    if results is None:
        return c, ""
    run_ids = list(dict.fromkeys(c.run_id.to_pylist()))
    kept = {*files.names(results / predictions.FOLDER / "val")}
    missing = sum(f"{run_id}.parquet" not in kept for run_id in run_ids)
    if missing:
        return c, (
            f"estimates from counts alone: {plural(missing, 'student')} without predictions, which "
            "python -m sweeps.predict computes"
        )
    of_shifts = (
        {}
        if c.unshifted.all()
        else {
            run_id: runs.shift_vectors[run_id].astype(np.float32)
            for run_id in run_ids
            if run_id in runs.shift_vectors
        }
    )
    found = load_outcomes(results, run_ids, of_shifts)
    places = _sample(found.label, min(_MOST, max(_NUMBERS // len(c.run_id), 1)))
    _, images = np.unique(found.label[places], return_counts=True)
    present = np.flatnonzero(c.class_total[0])
    if not np.array_equal(np.unique(found.label), present):
        raise UserError(
            f"{results / predictions.FOLDER} has predictions for other classes than those counted "
            "in the records; --estimate counts does without predictions"
        )
    row = {run_id: place for place, run_id in enumerate(run_ids)}
    strength = np.repeat(c.shift, c.seeds)
    bit = [0 if np.isnan(s) else 1 + ALPHAS.index(s) for s in strength.tolist()]
    outcomes = Outcomes(
        bits=found.values[:, places],
        images=images,
        row=np.array([row[run_id] for run_id in c.run_id.to_pylist()], dtype=np.int64),
        bit=np.array(bit, dtype=np.int64),
    )
    return replace(c, outcomes=outcomes), ""


def _sample(label: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """Return the positions of a sample of about ``most`` images, at least ten of each class."""
    order = np.argsort(label, kind="stable")
    stride = max(len(label) // most, 1)
    if stride == 1:
        return order
    _, begun = np.unique(label[order], return_index=True)
    parts = np.split(order, begun[1:])
    return np.concatenate([part[:: min(stride, max(len(part) // 10, 1))] for part in parts])
