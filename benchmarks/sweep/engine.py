"""Measure the share of slot time that 64 short real trainings on Ray spend in training.

    python benchmarks/sweep/engine.py [--quick]

64 teachers, one per seed, of about two seconds each (ResNet-20 on random 32 x 32 images, augmented)
run through the command's own Tune, searcher, trainable and ledger, with one training per core.
Useful seconds are the ``train_seconds`` of the records. The row is useful seconds over wall time
times slots, from the start of the first training to the end of the last one. This leaves out the
start, which does not depend on the length of a sweep. ``useful_with_the_start`` is the same ratio
from the call on a started Ray until it returns, including Tune's start, worker processes and their
imports. Ray itself took ``seconds_of_starting_ray`` before that.

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

GOAL = ">= 0.93"
IMAGES = 6 * 128


class Moments(synthetic_plan.Watcher):
    """A watcher that records the start and end times of trainings."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self.useful = 0.0

    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        now = time.time()
        self.began.append(now - row["train_seconds"])
        self.ended.append(now)
        self.useful += row["train_seconds"]


def main() -> None:
    """Run the plan on one Ray several times, and print the row."""
    from benchmarks.training.workload import made_images, recipe
    from rkd_core.device.execution import Execution
    from sweeps.cli.options import Machine
    from sweeps.planning.plan import Plan
    from sweeps.running.on_ray.tuner import connect, run_on_ray
    from sweeps.running.sweep import Sweep

    small = quick()
    dataset = replace(
        made_images(8 if small else 32, 128 if small else IMAGES),
        fingerprint=synthetic_plan.FINGERPRINT,
    )
    network, seeds, repetitions = ("resnet8", 4, 1) if small else ("resnet20", 64, 3)
    made = synthetic_plan.plan(1, 1, seeds, architecture=network, recipe=recipe(1 if small else 2))
    plan = Plan(made.teachers)
    machine, execution = Machine(gpus_per_trial=0), Execution("cpu", "auto", 1)
    shares, warm, starts = [], [], []
    seconds: list[float] = []
    start = time.perf_counter()
    with connect(machine) as ready:
        cluster = ready()
        ray_start = time.perf_counter() - start
        logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it warns of files that are not used
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory(prefix="rkd-engine-") as folder:
                moments = Moments()
                sweep = Sweep(
                    plan, set(), Path(folder), dataset.fingerprint, moments, slots=cluster.slots
                )
                began = time.time()
                run_on_ray(sweep, dataset, Path(folder), machine, cluster, execution)
                wall = time.time() - began
            if len(moments.ended) != len(plan):
                raise RuntimeError(f"{len(moments.ended)} of {len(plan)} trainings are completed")
            shares.append(moments.useful / (wall * cluster.slots))
            span = max(moments.ended) - min(moments.began)
            warm.append(moments.useful / (span * cluster.slots))
            starts.append(min(moments.began) - began)
            seconds.append(moments.useful / len(plan))
    details = {
        "trials": len(plan),
        "slots": cluster.slots,
        "repetitions": repetitions,
        "seconds_of_a_training": spread(seconds),
        "useful_with_the_start": spread(shares),
        "seconds_lost_per_trial": spread(
            [s * (1 / w - 1) for s, w in zip(seconds, warm, strict=True)]
        ),
        "seconds_before_the_first": spread(starts),
        "seconds_of_starting_ray": round(ray_start, 2),
    }
    print_row("engine", spread(warm), GOAL, details)


if __name__ == "__main__":
    main()
