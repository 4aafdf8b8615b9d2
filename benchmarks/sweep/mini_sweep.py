"""Compare the wall time of a whole small sweep on CIFAR-10-LT with the naive stack's.

    python benchmarks/sweep/mini_sweep.py [--quick] [--data-dir DIR]

The sweep has 3 teachers (standard, balanced, robust) and, on each, the 3 students at 3
temperatures: 27 students, all ResNet-20. A grid of n teachers has n * n students per temperature,
so 24 students on 3 teachers are not a grid. This is the nearest one: Wang et al.'s nine pairs at
their three temperatures. One side is ``sweeps/pareto.py`` with its defaults for a CPU, the other is
``naive.sweep``. Both get the same options and a fresh results folder, and are timed from the start
of the process to its end. They take turns, and the first side alternates. The row is seconds of
naive over seconds of ours.

Trainings are short enough for five pairs in half an hour: 512 images and 3 epochs, where a
real sweep has 12,406 images and hundreds of epochs. Validation and test are cut from the first
2,000 of the 10,000 test images on both sides. Otherwise evaluation would take most of the time,
unlike in a real sweep. Both sides read the same decoded images from a cache that is filled
beforehand, and train on the same number of images in the same number of epochs and updates.

The fixed costs of a training take a larger share here than in a real sweep: the naive stack pays
for a process and its imports every time. ``training_seconds`` leaves that out. It is measured
inside the trainings and summed over them, but in ours the first training of each process includes
some imports. ``val_average_accuracy`` is the mean over the students and shows that the results
agree; after so few epochs they are hardly better than chance.

CIFAR-10 is read from DIR or $RKD_DATA_DIR, as ``cifar10/{train,test}.parquet``.
It takes about half an hour.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import ROOT, print_row, quick_and_data_dir, spread

GOAL = ">= 4.0"
TEST_IMAGES = 2000
FULL = shlex.split(
    "--dataset cifar10-lt --limit-train 512 --epochs 3 --alphas 0 1 --temperatures 1 3 5 "
    "--teacher-architecture resnet20 --student-architecture resnet20 --recipe small-images "
    "--multiplier-step-size 0.5"
)
QUICK = shlex.split(
    "--dataset digits --limit-train 100 --epochs 1 --alphas 1 --temperatures 3 "
    "--teacher-architecture digits_cnn --student-architecture digits_cnn --recipe digits "
    "--multiplier-step-size 0.5"
)


def commands(options: list[str]) -> dict[str, list[str]]:
    """Return the two command lines, without the results folder."""
    ours = shlex.split(
        "--scale small --gpus-per-trial 0 --multiplier-period epoch --no-undistilled"
    )
    return {
        "naive": [sys.executable, "-m", "benchmarks.naive.sweep", *options],
        "ours": [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *ours, *options],
    }


@dataclass(frozen=True)
class Sample:
    """One whole sweep."""

    wall: float
    """Seconds from the start of the command to its end."""
    trainings: int
    training_seconds: float
    """Sum over the trainings, as each side measures them."""
    accuracy: float
    """Mean of the students' average accuracies on validation."""


def sample(command: list[str], out: Path, environment: dict[str, str]) -> Sample:
    """Run a sweep into the fresh folder ``out``."""
    from rkd_core import records
    from rkd_core.metrics import average_accuracy

    wall = timed([*command, "--out", str(out)], environment)
    if (out / "results.json").exists():
        rows = json.loads((out / "results.json").read_text())
    else:
        rows = records.read(out / "records").to_pylist()
    accuracies = [
        float(average_accuracy(row["val_class_correct"], row["val_class_total"]))
        for row in rows
        if row["stage"] == "student"
    ]
    seconds = sum(row["train_seconds"] for row in rows)
    return Sample(wall, len(rows), seconds, statistics.mean(accuracies))


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds from the start of a command to its end.

    Raises:
        RuntimeError: The command failed; the message has the end of its output.
    """
    start = time.perf_counter()
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stdout[-2000:]}")
    return seconds


def smaller(data_dir: Path | None, folder: Path) -> None:
    """Put CIFAR-10 with fewer test images into ``folder / "cifar10"``."""
    import pyarrow.parquet as pq

    named = data_dir or os.environ.get("RKD_DATA_DIR")
    places = [Path(named) / "cifar10", Path(named)] if named else []
    found = [p for p in places if (p / "train.parquet").exists() and (p / "test.parquet").exists()]
    if not found:
        raise SystemExit(
            "mini_sweep.py: --data-dir or $RKD_DATA_DIR must be a folder with "
            "cifar10/train.parquet and cifar10/test.parquet"
        )
    source, target = found[0].resolve(), folder / "cifar10"
    target.mkdir(parents=True)
    (target / "train.parquet").symlink_to(source / "train.parquet")
    test = pq.read_table(source / "test.parquet").slice(0, TEST_IMAGES)
    pq.write_table(test, target / "test.parquet")
    shutil.copystat(source / "test.parquet", target / "test.parquet")  # old, so the cache trusts it


def main() -> None:
    """Run both sweeps in turns, and print the row."""
    small, data_dir = quick_and_data_dir()
    options, repetitions = (QUICK, 1) if small else (FULL, 5)
    samples: dict[str, list[Sample]] = {"naive": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="rkd-mini-sweep-") as name:
        folder = Path(name)
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "RKD_CACHE_DIR": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join(path),
        }
        if not small:
            smaller(data_dir, folder / "data")
            options = [*options, "--data-dir", str(folder / "data")]
            # Decodes the images into the cache that both sides read from.
            dry_run = [*commands(options)["ours"], "--dry-run", "--out", str(folder / "none")]
            timed(dry_run, environment)
        command = commands(options)
        for repetition in range(repetitions):
            for side in sorted(command, reverse=repetition % 2 == 1):
                out = folder / f"{side}-{repetition}"
                samples[side].append(sample(command[side], out, environment))
    naive, ours = samples["naive"], samples["ours"]
    trainings = {s.trainings for s in naive + ours}
    if len(trainings) != 1:
        raise RuntimeError(f"the sweeps have {trainings} trainings")

    def both(field: str) -> dict[str, dict[str, float]]:
        return {
            side: spread([getattr(one, field) for one in taken]) for side, taken in samples.items()
        }

    details = {
        "repetitions": repetitions,
        "options": " ".join(QUICK if small else FULL),
        "trainings": trainings.pop(),
        "seconds": both("wall"),
        "training_seconds": both("training_seconds"),
        "val_average_accuracy": both("accuracy"),
    }
    ratio = spread([n.wall / o.wall for n, o in zip(naive, ours, strict=True)])
    print_row("mini_sweep", ratio, GOAL, details)


if __name__ == "__main__":
    main()
