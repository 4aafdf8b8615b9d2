"""Multiplier updates and validations of all trainings of an array, which share each batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rkd_core.models.inference import NOT_FINITE
from rkd_core.training.measurement import validate
from rkd_core.training.multiplier_updates import update_all
from rkd_core.training.run import Run

__all__ = ["begin_step", "validate_all"]


def begin_step(runs: Sequence[Run], epoch: int, step: int) -> None:
    """Prepare the next step, counted from 0 in its epoch; update the multipliers that are due."""
    for run in runs:
        run.position = epoch, step
    due = [run for run in runs if run.ascent is not None and run.ascent.due(step)]
    if due:
        ascents = [run.ascent for run in due if run.ascent is not None]
        update_all(ascents, [run.updating for run in due], due[0].data)
        for run in due:
            run.update_costs()


def validate_all(runs: Sequence[Run], epochs: int) -> dict[str, dict[str, Any]]:
    """Measure trainings on validation after ``epochs`` epochs.

    Returns:
        Columns of the record of each, by run id. A training whose logits are not finite is
        abandoned.
    """
    found = {}
    if runs:
        columns = validate([run.evaluated for run in runs], runs[0].data)
        for run, own in zip(runs, columns, strict=True):
            if own is None:
                run.cause = NOT_FINITE
            else:
                run.validated(epochs, own)
                found[run.run_id] = own
    return found
