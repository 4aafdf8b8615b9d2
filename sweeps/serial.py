"""The sweep without Ray: one training after the other in this process, for debugging."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rkd_core.datasets import Dataset
from rkd_core.execution import Execution
from rkd_core.training import Progress, train
from sweeps.cause import describe, details
from sweeps.sweep import Sweep

__all__ = ["run_serially"]


def run_serially(sweep: Sweep, dataset: Dataset, out: Path, execution: Execution) -> None:
    """Train all that a sweep has left; a failure is recorded and the rest goes on."""

    def report(progress: Progress) -> None:
        sweep.progressed(progress.run_id, asdict(progress))

    while (run := sweep.next()) is not None:
        try:
            (row,) = train([run.spec], out=out, data=dataset, execution=execution, report=report)
        except Exception as error:  # whatever it is, it is this training's, and it is recorded
            sweep.failed(run.run_id, describe(error), details(error))
        else:
            sweep.completed(run.run_id, row)
