"""Compare students on embeddings that take their steps together with one student after the other.

    python benchmarks/training/stacked.py [--quick]

18 students of a teacher, 6 objectives at 3 temperatures, are trained by ``rkd_core.training.train``
on made-up embeddings in one thread: in one call, which stacks them, and in 18 calls. Both ways
alternate; the row is the median of the ratios of their CPU times, with measurement, predictions and
files in both. The sums of float32 products differ in their last bits, so that an image between two
classes may be counted differently; the row has the number of such images over all students.

It takes about 6 minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from benchmarks.report import one_core, print_row, quick, spread
from rkd_core import datasets
from rkd_core.device.execution import Execution
from rkd_core.records import Record
from rkd_core.specs import MultiplierOptions, TeacherRef, TrainingSpec, recipes
from rkd_core.training import train

GOAL = ">= 5"
FEATURES, CLASSES, OF_CLASS = 64, 10, 200
ALPHAS = (None, 0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (1.0, 3.0, 5.0)
_FEW = 9  # of 18 x 500 validation images


def embeddings() -> datasets.Dataset:
    """Return made-up embeddings of ten classes."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLASSES, FEATURES)) / 4

    def part(count: int) -> tuple[object, object]:
        labels = np.repeat(np.arange(CLASSES), count)
        return centers[labels] + rng.normal(size=(len(labels), FEATURES)), labels

    splits = {"train": part(OF_CLASS), "val": part(50), "test": part(50)}
    return datasets.from_data(splits, name="embeddings")


def planned(data: datasets.Dataset, out: Path, student: str, epochs: int) -> list[TrainingSpec]:
    """Train the teacher; return the specs of its students."""
    recipe = recipes.get("arrays").model_copy(update={"epochs": epochs})
    common = {"dataset": data.name, "recipe": recipe}
    teacher = TrainingSpec(stage="teacher", architecture="mlp", objective="standard", **common)
    (row,) = train([teacher], data=data, out=out, execution=Execution("cpu", "float32", 1))
    ref = TeacherRef(
        run_id=row["run_id"],
        family=row["family"],
        objective="standard",
        alpha=None,
        architecture="mlp",
    )
    return [
        TrainingSpec(
            stage="student",
            architecture=student,
            teacher=ref,
            temperature=temperature,
            objective="standard" if alpha is None else "tradeoff",
            alpha=alpha,
            multipliers=MultiplierOptions(period=None, batch=None) if alpha else None,
            **common,
        )
        for alpha in ALPHAS
        for temperature in TEMPERATURES
    ]


def trained(
    data: datasets.Dataset, student: str, epochs: int, *, together: bool
) -> tuple[float, Sequence[Record]]:
    """Train the students; return the seconds of CPU time and the records."""
    with tempfile.TemporaryDirectory() as folder:
        specs = planned(data, Path(folder), student, epochs)
        calls = [specs] if together else [[spec] for spec in specs]
        execution, rows = Execution("cpu", "float32", 1), []
        start = time.process_time()
        for call in calls:
            rows += train(call, data=data, out=folder, execution=execution)
        return time.process_time() - start, rows


def main() -> None:
    """Train in turns and print a row for each network."""
    repetitions, epochs = (1, 2) if quick() else (3, 40)
    one_core()
    data = embeddings()
    students = {"linear": "linear", "mlp": "mlp(hidden=(32,), norm='layer')"}
    for name, student in students.items():
        ratios, changed = [], 0
        for repetition in range(repetitions):
            order = (True, False) if repetition % 2 else (False, True)
            found = {way: trained(data, student, epochs, together=way) for way in order}
            together, alone = (
                np.array([row["val_class_correct"] for row in found[way][1]])
                for way in (True, False)
            )
            changed = max(changed, int(np.abs(together - alone).sum()))
            assert changed <= _FEW, f"{changed} other counts together than alone"
            ratios.append(found[False][0] / found[True][0])
        details = {"repetitions": repetitions, "epochs": epochs, "counted_differently": changed}
        print_row(f"stacked_{name}", spread(ratios), GOAL, details)


if __name__ == "__main__":
    main()
