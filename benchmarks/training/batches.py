"""Compare the augmented training batches per second of this project with PIL in a DataLoader.

    python benchmarks/training/batches.py [--quick] [--data-dir DIR]

Batches of 128 images of CIFAR-10-LT are shuffled, padded, cropped, flipped and normalized, as
float32 tensors. ``TrainingBatches`` is compared with torchvision's transforms over PIL images made
of uint8 pixels in memory, read by a ``DataLoader`` in the same process (its faster form on one
core). Both take the same number of batches in turns on the same core with one thread, and the
first side alternates. The row is batches per second, ours over naive.

It takes half a minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import fresh, one_core, print_row, quick_and_data_dir, spread

GOAL = ">= 10"
EPOCHS = 2
"""Epochs of 96 batches each that are read for one sample."""


def measure(repetitions: int, small: bool, data_dir: Path | None) -> dict[str, list[float]]:
    """Return batches per second of each side, alternating in this process on one core."""
    one_core()
    import torch

    torch.set_num_threads(1)
    from benchmarks.naive.data import Loaders
    from benchmarks.training.workload import images, recipe
    from rkd_core.datasets.batches.batches import TrainingBatches

    dataset, settings = images(small, data_dir), recipe(1)
    ours = TrainingBatches(dataset.train, settings, seed=0, workers=1)
    naive = Loaders(dataset, settings).training

    def speed(epochs: list[Iterable[Any]]) -> float:
        start = time.perf_counter()
        batches = sum(1 for epoch in epochs for _ in epoch)
        seconds = time.perf_counter() - start
        if batches != EPOCHS * len(naive):
            raise RuntimeError(f"{batches} batches, not {EPOCHS * len(naive)}")
        return batches / seconds

    speeds: dict[str, list[float]] = {"naive": [], "ours": []}
    for repetition in range(repetitions + 1):  # the first only warms up
        first = repetition * EPOCHS
        epochs: dict[str, list[Iterable[Any]]] = {
            "naive": [naive] * EPOCHS,
            "ours": [ours.epoch(first + e) for e in range(EPOCHS)],
        }
        for name in sorted(epochs, reverse=repetition % 2 == 0):
            speeds[name].append(speed(epochs[name]))
    return {name: values[1:] for name, values in speeds.items()}


def main() -> None:
    """Measure in a process of its own, and print the row."""
    small, data_dir = quick_and_data_dir()
    repetitions = 2 if small else 7
    speeds = fresh(measure, repetitions, small, data_dir)
    ratios = [o / n for o, n in zip(speeds["ours"], speeds["naive"], strict=True)]
    details = {
        "repetitions": repetitions,
        "batches_per_second_ours": spread(speeds["ours"], 1),
        "batches_per_second_naive": spread(speeds["naive"], 1),
    }
    print_row("batches", spread(ratios), GOAL, details)


if __name__ == "__main__":
    main()
