"""Execution of a sweep without Ray: one trial after the other in this process."""

from __future__ import annotations

from dataclasses import asdict, replace

from rkd_core.datasets import Dataset
from rkd_core.device.execution import Execution
from rkd_core.storage.files import Location
from rkd_core.training import Progress, TrainingControls
from sweeps.running.hangs import watched_here
from sweeps.running.sweep import Sweep
from sweeps.running.trial import carry_out

__all__ = ["run_serially"]


def run_serially(
    sweep: Sweep,
    dataset: Dataset,
    out: Location,
    execution: Execution,
    controls: TrainingControls = TrainingControls(),
    hang_timeout: float = 0,
) -> None:
    """Run the remaining trials of a sweep; a failure is recorded and the others continue."""

    def report(progress: Progress) -> None:
        sweep.progressed(progress.run_id, asdict(progress))

    while (trial := sweep.next()) is not None:
        for outcome in carry_out(
            [run.spec for run in trial.runs],
            trial.students,
            dataset=dataset,
            out=out,
            execution=execution,
            controls=replace(controls, report=report, until=trial.until),
            watching=lambda _: watched_here(hang_timeout),
        ):
            sweep.ended(outcome)
