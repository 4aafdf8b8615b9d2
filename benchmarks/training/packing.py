"""Compare two trainings at a time with one thread each with one at a time with two threads.

    python benchmarks/training/packing.py [--quick] [--data-dir DIR]

The work is the same: two trainings of ResNet-20 on images of CIFAR-10-LT in batches of 128, by
``rkd_core.training.train`` in the precision of ``workload.OURS``. On one side two processes run one
training each, with one thread. On the other side one process runs both in turn, with two threads.
The processes are started and warmed up before the timing, and the first side alternates. The row is
the throughput of the two processes over that of the one. The default ``--cpus-per-trial 1`` is
based on this result.

It takes about 2 minutes, and needs two cores.
"""

from __future__ import annotations

import functools
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import print_row, quick_and_data_dir, spread

if TYPE_CHECKING:
    from rkd_core.datasets import Dataset

GOAL = ">= 1.1"
LIMIT, EPOCHS = 10 * 128, 6


def train_one(threads: int, small: bool, data_dir: Path | None) -> int:
    """Train once in this process; return the number of images trained on."""
    from dataclasses import replace

    from benchmarks.training.workload import BATCH, OURS, teacher
    from rkd_core.training import train

    dataset, epochs = _dataset(small, data_dir), 1 if small else EPOCHS
    execution = replace(OURS, threads=threads)
    train([teacher("resnet20", epochs)], data=dataset, execution=execution)
    return len(dataset.train) // BATCH * BATCH * epochs


@functools.cache
def _dataset(small: bool, data_dir: Path | None) -> Dataset:
    """Return the data, which are read while this process warms up."""
    from benchmarks.training.workload import images

    return images(small, data_dir, LIMIT)


def throughput(
    processes: Sequence[ProcessPoolExecutor], threads: int, small: bool, data_dir: Path | None
) -> float:
    """Return images per second of two trainings, distributed among the processes."""
    start = time.perf_counter()
    trainings = [
        processes[i % len(processes)].submit(train_one, threads, small, data_dir) for i in range(2)
    ]
    return sum(training.result() for training in trainings) / (time.perf_counter() - start)


def main() -> None:
    """Warm up three processes, let them train in turns, and print the row."""
    small, data_dir = quick_and_data_dir()
    repetitions = 1 if small else 5
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(max_workers=1, mp_context=context) for _ in range(3)]
    ways = {"packed": (pools[:2], 1), "alone": (pools[2:], 2)}
    speeds: dict[str, list[float]] = {"packed": [], "alone": []}
    try:
        for repetition in range(repetitions + 1):  # the first only warms up
            for name in sorted(ways, reverse=repetition % 2 == 0):
                speeds[name].append(throughput(*ways[name], small, data_dir))
    finally:
        for pool in pools:
            pool.shutdown()
    packed, alone = speeds["packed"][1:], speeds["alone"][1:]
    details = {
        "repetitions": repetitions,
        "images_per_second_two_of_one_thread": spread(packed, 1),
        "images_per_second_one_of_two_threads": spread(alone, 1),
    }
    print_row("packing", spread([p / a for p, a in zip(packed, alone, strict=True)]), GOAL, details)


if __name__ == "__main__":
    main()
