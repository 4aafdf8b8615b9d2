"""Compare reading a ResNet-56 teacher's logits from a table with running the teacher live.

    python benchmarks/training/teacher_cache.py [--quick] [--data-dir DIR]

``rkd_core.training.train`` runs on images of CIFAR-10-LT in batches of 128, on one core and one
thread. The logits of each epoch's views come from the teacher's table, or from the live teacher
with its batch norms folded and in bfloat16. A sweep uses both; here the limit on the table's size
decides. Epochs after the first are timed, in turns. A row is seconds live over seconds with
the table, for a ResNet-56 and for a ResNet-20 student. Filling the table is not included. It takes
``seconds_of_asking``, once for all students of the teacher. ``students_to_pay_for_it`` is
the number of students from which the table saves time.

It takes about 3 minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import fresh, one_core, print_row, quick_and_data_dir, spread

STUDENTS = {  # training images, and the goal
    "resnet56": (4 * 128, ">= 1.15"),
    "resnet20": (10 * 128, ">= 1.4"),
}
EPOCHS = 3
"""Epochs of each sample; all but the first are timed."""
Sample = dict[str, list[float]]


def measure(pairs: int, small: bool, data_dir: Path | None) -> dict[str, Sample]:
    """Return seconds of the timed epochs both ways, for each student, alternating."""
    one_core()
    import torch

    torch.set_num_threads(1)
    return {name: _measure(name, pairs, small, data_dir) for name in STUDENTS}


def _measure(architecture: str, pairs: int, small: bool, data_dir: Path | None) -> Sample:
    from benchmarks.training.workload import OURS, images, student, teacher
    from rkd_core.teachers import table_or_live
    from rkd_core.training import train

    dataset = images(small, data_dir, STUDENTS[architecture][0])
    taught_by = "resnet8" if small else "resnet56"
    samples: Sample = {"live": [], "table": [], "asking": []}
    limit = table_or_live.LARGEST_TABLE
    with tempfile.TemporaryDirectory(prefix="rkd-teacher-cache-") as name:
        out = Path(name)
        spec = teacher(taught_by, EPOCHS)
        train([spec], data=dataset, out=out, execution=OURS)
        for pair in range(pairs):
            for way in sorted(("live", "table"), reverse=pair % 2 == 0):
                table_or_live.LARGEST_TABLE = limit if way == "table" else 0
                moments = [time.perf_counter()]
                (row,) = train(
                    # A new temperature each time, so that each student is trained.
                    [student(spec, dataset, architecture, 1.0 + pair + 0.5 * (way == "live"))],
                    data=dataset,
                    out=out,
                    execution=OURS,
                    report=lambda _, moments=moments: moments.append(time.perf_counter()),
                )
                if row["teacher_pass"] != way:
                    raise RuntimeError(f"the logits came from {row['teacher_pass']}, not {way}")
                samples[way].append(moments[-1] - moments[1])
                if way == "table" and not samples["asking"]:
                    # Time until the end of the first epoch, less one epoch.
                    first = moments[1] - moments[0]
                    samples["asking"].append(first - samples[way][0] / (EPOCHS - 1))
    table_or_live.LARGEST_TABLE = limit
    return samples


def main() -> None:
    """Measure in a process of its own, and print the row of each student."""
    small, data_dir = quick_and_data_dir()
    pairs = 1 if small else 5
    measured = fresh(measure, pairs, small, data_dir)
    for architecture, (_, goal) in STUDENTS.items():
        sample = measured[architecture]
        ratio = spread([a / b for a, b in zip(sample["live"], sample["table"], strict=True)])
        saved = spread(sample["live"])["median"] - spread(sample["table"])["median"]
        saved *= EPOCHS / (EPOCHS - 1)
        details = {
            "repetitions": pairs,
            "seconds_live": spread(sample["live"]),
            "seconds_table": spread(sample["table"]),
            "seconds_of_asking": round(sample["asking"][0], 3),
            "students_to_pay_for_it": round(sample["asking"][0] / saved, 2) if saved > 0 else None,
        }
        print_row(f"teacher_cache_{architecture}", ratio, goal, details)


if __name__ == "__main__":
    main()
