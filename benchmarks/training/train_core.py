"""Compare training images per second on one core with the naive loop, for two ResNets.

    python benchmarks/training/train_core.py [--quick] [--data-dir DIR]

The loop has batches, forward, backward and update, from labels with the standard objective, on
images of CIFAR-10-LT in batches of 128. Ours is ``rkd_core.training.train`` as a sweep runs it on
one core of a CPU (``workload.OURS``), timed by its reports after each epoch. The other side is
``naive.train.train_one_epoch``: PIL and torchvision's transforms in a ``DataLoader``, float32. Both
are pinned to one core with one thread. The first epoch is not timed. The two sides take
turns in one process, and the first side alternates. A row is images per second, ours over naive.

CIFAR-10 is found as in a sweep: in DIR, in $RKD_DATA_DIR, or in the cache. It takes about 3
minutes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import fresh, one_core, print_row, quick_and_data_dir, spread

if TYPE_CHECKING:
    from rkd_core.datasets import Dataset

NETWORKS = {  # training images, and the goal
    "resnet20": (10 * 128, ">= 2.7"),
    "resnet56": (5 * 128, ">= 2.3"),
}
EPOCHS = 3
"""Epochs of each sample; all but the first are timed."""


Speeds = dict[str, list[float]]
"""Images per second of each side, in the order of the pairs."""


def measure(pairs: int, small: bool, data_dir: Path | None) -> dict[str, Speeds]:
    """Return the speeds of both sides for each network, alternating on one core."""
    one_core()
    import torch

    torch.set_num_threads(1)
    from benchmarks.training.workload import BATCH, images

    sides = {"naive": _naive, "ours": _ours}
    speeds: dict[str, Speeds] = {}
    for architecture, (limit, _) in NETWORKS.items():
        dataset = images(small, data_dir, limit)
        counted = len(dataset.train) // BATCH * BATCH * (EPOCHS - 1)
        speeds[architecture] = {name: [] for name in sides}
        for pair in range(pairs):
            for name in sorted(sides, reverse=pair % 2 == 0):
                seconds = sides[name](architecture, dataset)
                speeds[architecture][name].append(counted / seconds)
    return speeds


def _ours(architecture: str, dataset: Dataset) -> float:
    """Return the seconds of all epochs but the first."""
    from benchmarks.training.workload import OURS, teacher
    from rkd_core.training import train

    moments: list[float] = []
    train(
        [teacher(architecture, EPOCHS)],
        data=dataset,
        execution=OURS,
        report=lambda _: moments.append(time.perf_counter()),
    )
    return moments[-1] - moments[0]


def _naive(architecture: str, dataset: Dataset) -> float:
    """Return the seconds of all epochs but the first."""
    import torch
    from torch.nn import functional as F

    from benchmarks.naive.data import Loaders
    from benchmarks.naive.train import network, optimizer_and_schedule, train_one_epoch
    from benchmarks.training.workload import recipe

    settings = recipe(EPOCHS)
    loader = Loaders(dataset, settings).training
    model = network(architecture, dataset, seed=0)
    optimizer, schedule = optimizer_and_schedule(model, settings, len(loader))
    classes, moments = dataset.classes, []
    for _ in range(EPOCHS):
        train_one_epoch(
            model,
            loader,
            optimizer,
            schedule,
            torch.ones(classes),
            lambda _, labels: F.one_hot(labels, classes).float(),
        )
        moments.append(time.perf_counter())
    return moments[-1] - moments[0]


def main() -> None:
    """Measure in a process of its own, and print the row of each network."""
    small, data_dir = quick_and_data_dir()
    pairs = 1 if small else 5
    measured = fresh(measure, pairs, small, data_dir)
    for architecture, (_, goal) in NETWORKS.items():
        ours, naive = measured[architecture]["ours"], measured[architecture]["naive"]
        ratio = spread([o / n for o, n in zip(ours, naive, strict=True)])
        details = {
            "repetitions": pairs,
            "images_per_second_ours": spread(ours, 1),
            "images_per_second_naive": spread(naive, 1),
        }
        print_row(f"train_core_{architecture}", ratio, goal, details)


if __name__ == "__main__":
    main()
