"""The sweep without Ray: one trial after the other in this process, for debugging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rkd_core.datasets import Dataset
from rkd_core.device.execution import Execution
from rkd_core.training import Progress
from rkd_core.training.validation_schedule import Looks
from sweeps.running.hangs import watched_here
from sweeps.running.sweep import Sweep
from sweeps.running.trial import carry_out

__all__ = ["run_serially"]


def run_serially(
    sweep: Sweep,
    dataset: Dataset,
    out: Path,
    execution: Execution,
    checkpoint_every: int | None = None,
    looks: Looks | None = None,
    stop: Callable[[], bool] | None = None,
    hang_timeout: float = 0,
) -> None:
    """Train all that a sweep has left; a failure is recorded and the rest goes on."""

    def report(progress: Progress) -> None:
        sweep.progressed(progress.run_id, asdict(progress))

    while (trial := sweep.next()) is not None:
        for outcome in carry_out(
            [run.spec for run in trial.runs],
            trial.students,
            dataset=dataset,
            out=out,
            execution=execution,
            report=report,
            checkpoint_every=checkpoint_every,
            looks=looks,
            until=trial.until,
            stop=stop,
            watching=lambda _: watched_here(hang_timeout),
        ):
            sweep.ended(outcome)
