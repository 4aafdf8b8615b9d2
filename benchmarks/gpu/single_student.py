"""Compare a recorded step of one ResNet-56 student on a GPU with an eager step.

    python benchmarks/gpu/single_student.py [--quick] [--data-dir DIR]

Batch 128 on CIFAR-10-LT in bfloat16, channels last, teacher's logits from the table. Batches are
made on the device and count on both sides, which take turns. The row is images per second, recorded
in a CUDA graph over eager. The details have both as shares of the hardware limits.

It takes about a minute, and needs a CUDA device. With ``--quick`` the same code runs on a CPU,
where recording has no benefit.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.gpu.student_array import FLOOR, Array, arguments
from benchmarks.report import print_row, spread

GOAL = ">= 2.5"


def main() -> None:
    """Measure in turns, and print the row."""
    small, data_dir = arguments()
    array, pairs = Array(small, data_dir), 1 if small else 7
    speeds: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(pairs):
        for recorded in sorted(speeds, reverse=pair % 2 == 0):
            speeds[recorded].append(array.speed(1, recorded=recorded))
    details = {
        "repetitions": pairs,
        "device": array.execution.device_name,
        "images_per_second_recorded": spread(speeds[True], 1),
        "images_per_second_eager": spread(speeds[False], 1),
        "share_of_the_floor": {
            name: round(spread(speeds[True])["median"] / floor, 4) for name, floor in FLOOR.items()
        },
    }
    ratios = [r / e for r, e in zip(speeds[True], speeds[False], strict=True)]
    print_row("step", spread(ratios), GOAL, details)


if __name__ == "__main__":
    main()
