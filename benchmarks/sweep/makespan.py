"""Measure the wall time of dependent trainings on Ray, which sleep instead of training.

    python benchmarks/sweep/makespan.py [--quick]

8 teachers and 64 students run on 4 slots through the command's own engine: Ray on this machine,
Tune, the searcher and the ledger. Only the function that Tune calls is replaced. It sleeps for a
duration derived from the run id, two seconds plus or minus a fifth, then writes its record. The
lower bound is the larger of all durations over the slots and the longest teacher with one of its
students. The row is the time from the start of the first training to the end of the last one, over
this bound. The times before and after do not depend on the length of a sweep, and are in the
details.

It takes about 4 minutes.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import print_row, quick, spread
from benchmarks.sweep import synthetic_plan

if TYPE_CHECKING:
    from sweeps.planning.plan import PlannedRun

SLOTS = 4
GOAL = "<= 1.10"


def sleep_trial(
    config: dict[str, Any],
    *,
    dataset: Mapping[str, float],
    out: str,
    execution: object,
    controls: object,
    token: str | None,
    hang_timeout: float,
) -> None:
    """Sleep for the durations of the runs; replaces ``trainable.train_trial``."""
    from ray import tune

    from rkd_core import records
    from rkd_core.specs import TrainingSpec

    began = time.time()
    (spec,) = [TrainingSpec.model_validate_json(text) for text in config["specs"]]
    length = dataset[config["run_id"]]
    time.sleep(length)
    figures: dict[str, Any] = {
        "val_average_accuracy": 0.5,
        "val_worst_class_accuracy": 0.5,
        "train_loss": 1.0,
        "train_seconds": length,
        "status": "completed",
    }
    row = records.identity(spec, config["run_id"], "no data") | figures
    records.write(Path(out) / "records", row)
    moments = {"began": began, "ended": time.time()}
    tune.report(figures | moments | {"run_id": config["run_id"]})


class Moments(synthetic_plan.Watcher):
    """A watcher that records the start and end time of each training."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []

    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        self.began.append(row["began"])
        self.ended.append(row["ended"])


def main() -> None:
    """Run the plan on one Ray several times, and print the row."""
    from rkd_core.device.hardware import cpu_count
    from sweeps.cli.options import Machine
    from sweeps.running.on_ray.tuner import connect, run_on_ray
    from sweeps.running.sweep import Sweep

    small = quick()
    mean, repetitions = (0.2, 1) if small else (2.0, 5)
    plan = synthetic_plan.plan(2, 1, seeds=1) if small else synthetic_plan.plan(4, 2, seeds=2)
    lengths = synthetic_plan.lengths(plan, mean)
    bound = synthetic_plan.lower_bound(plan, lengths, SLOTS)

    machine = Machine(cpus_per_trial=cpu_count() / SLOTS, gpus_per_trial=0)
    walls, before, after = [], [], []
    with connect(machine) as ready:
        connected = ready()
        from sweeps.running.on_ray import (
            trainable,  # imports Ray, for which `connect` has made ready
        )

        logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it warns of files that are not used
        trainable.train_trial = sleep_trial  # type: ignore[assignment]
        cluster = replace(connected, slots=SLOTS)
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory(prefix="rkd-makespan-") as folder:
                moments = Moments()
                sweep = Sweep(plan, set(), Path(folder), synthetic_plan.FINGERPRINT, moments)
                start = time.time()
                run_on_ray(sweep, lengths, Path(folder), machine, cluster, None)  # type: ignore[arg-type]
                end = time.time()
            if len(moments.ended) != len(plan):
                raise RuntimeError(f"{len(moments.ended)} of {len(plan)} trainings are completed")
            walls.append(max(moments.ended) - min(moments.began))
            before.append(min(moments.began) - start)
            after.append(end - max(moments.ended))
    details = {
        "trials": len(plan),
        "slots": SLOTS,
        "repetitions": repetitions,
        "lower_bound_seconds": round(bound, 3),
        "seconds": spread(walls),
        "seconds_before_the_first": spread(before),
        "seconds_after_the_last": spread(after),
        "seconds_lost_per_trial_and_slot": spread(
            [(wall - bound) * SLOTS / len(plan) for wall in walls]
        ),
    }
    print_row("makespan", spread([wall / bound for wall in walls]), GOAL, details)


if __name__ == "__main__":
    main()
