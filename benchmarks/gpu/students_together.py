"""Compare K ResNet-56 students side by side on a GPU with one eager student.

    python benchmarks/gpu/students_together.py [--quick] [--data-dir DIR]

All students of an array are recorded into one CUDA graph, with a branch for each. The other side
takes eager steps of a single student. Batch 128 on CIFAR-10-LT in bfloat16; the sides take turns.
The row is images per second of 8 students together over eager; ``images_per_second`` has every K,
and the best.

It takes about 3 minutes, and needs a CUDA device. With ``--quick`` the same code runs on a CPU,
where it has no benefit.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.gpu.student_array import FLOOR, Array, arguments
from benchmarks.report import print_row, spread

GOAL = ">= 6 and >= 150,000 images/s"
STUDENTS = (1, 2, 4, 8, 12, 16)
ROW = 8


def main() -> None:
    """Measure in turns, and print the row."""
    small, data_dir = arguments()
    array, pairs = Array(small, data_dir), 1 if small else 5
    counts = (1, 2) if small else STUDENTS
    row = counts[-1] if small else ROW
    eager: list[float] = []
    recorded: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(pairs):
        eager.append(array.speed(1, recorded=False))
        for count in counts:
            recorded[count].append(array.speed(count, recorded=True))
    medians = {count: spread(speeds)["median"] for count, speeds in recorded.items()}
    best = max(medians, key=lambda count: medians[count])
    details = {
        "repetitions": pairs,
        "device": array.execution.device_name,
        "students": row,
        "best_number_of_students": best,
        "images_per_second_eager": spread(eager, 1),
        "images_per_second": {str(k): spread(v, 1) for k, v in recorded.items()},
        "share_of_the_floor": {
            name: round(medians[best] / floor, 4) for name, floor in FLOOR.items()
        },
    }
    ratios = [r / e for r, e in zip(recorded[row], eager, strict=True)]
    print_row("array", spread(ratios), GOAL, details)


if __name__ == "__main__":
    main()
