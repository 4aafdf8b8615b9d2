"""Measure whether bfloat16 changes accuracies by more than the seed does.

    python benchmarks/training/precision.py [--quick] [--data-dir DIR]

For each of five seeds a robust ResNet-8 teacher and a robust student (multipliers, so that
small errors could accumulate) are trained on 4,000 images of CIFAR-10-LT for 8 epochs, in float32
and in bfloat16, with the same initial weights, batches and views. Average and worst-class accuracy
are measured on the whole test set (validation and test together, 10,000 images). A row is the
absolute mean difference between the precisions, over the standard deviation between the seeds in
float32. Below 1, the precision matters less than the seed. ``per_seed`` has all accuracies.

It takes about 5 minutes on two cores.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import print_row, quick_and_data_dir, spread

SEEDS, IMAGES, EPOCHS = 5, 4000, 8
PRECISIONS = ("float32", "bfloat16")
GOAL = "< 1"


def measure(seed: int, precision: str, small: bool, data_dir: Path | None) -> dict[str, float]:
    """Return the accuracies of a teacher and its student, by ``stage metric``."""
    import numpy as np

    from benchmarks.training.workload import images, made_images, recipe, robust, student, teacher
    from rkd_core.device.execution import Execution
    from rkd_core.metrics import average_accuracy, worst_class_accuracy
    from rkd_core.training import train

    dataset = made_images(16, 256) if small else images(False, data_dir, IMAGES, whole=True)
    settings = recipe(1 if small else EPOCHS)
    spec = robust(teacher("resnet8", settings.epochs, seed))
    pupil = robust(student(spec, dataset, "resnet8", 2.0))
    execution = Execution("cpu", "float32" if precision == "float32" else "bfloat16", 1)
    with tempfile.TemporaryDirectory(prefix="rkd-precision-") as out:
        rows = train([spec, pupil], data=dataset, out=out, execution=execution)
    found = {}
    for row in rows:
        total, correct = (
            np.add(row[f"val_class_{part}"], row[f"test_class_{part}"])
            for part in ("total", "correct")
        )
        found[f"{row['stage']} average"] = float(average_accuracy(correct, total))
        found[f"{row['stage']} worst-class"] = float(worst_class_accuracy(correct, total))
    return found


def main() -> None:
    """Train everything, two trainings at a time, and print the rows."""
    small, data_dir = quick_and_data_dir()
    seeds = range(2 if small else SEEDS)
    jobs = [(seed, precision) for seed in seeds for precision in PRECISIONS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=2, mp_context=context) as pool:
        futures = {job: pool.submit(measure, *job, small, data_dir) for job in jobs}
        found = {job: future.result() for job, future in futures.items()}
    for metric in ("average", "worst-class"):
        shares, details = [], {}
        for stage in ("teacher", "student"):
            name = f"{stage} {metric}"
            exact = [found[seed, "float32"][name] for seed in seeds]
            rough = [found[seed, "bfloat16"][name] for seed in seeds]
            between = max(statistics.stdev(exact), 1e-4)  # at least one of 10,000 images
            difference = statistics.mean(r - e for r, e in zip(rough, exact, strict=True))
            shares.append(abs(difference) / between)
            details[stage] = _described(exact, rough, difference, between)
        ratio = spread([max(share, 1e-4) for share in shares])
        print_row(
            f"precision_{metric.replace('-', '_')}",
            ratio,
            GOAL,
            {"repetitions": len(seeds), **details},
        )


def _described(
    exact: list[float], rough: list[float], difference: float, between: float
) -> dict[str, Any]:
    return {
        "mean_float32": round(statistics.mean(exact), 4),
        "mean_bfloat16": round(statistics.mean(rough), 4),
        "difference": round(difference, 4),
        "deviation_between_seeds": round(between, 4),
        "per_seed": [[round(e, 4), round(r, 4)] for e, r in zip(exact, rough, strict=True)],
    }


if __name__ == "__main__":
    main()
