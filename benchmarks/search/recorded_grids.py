"""Grids that were trained in full and kept as records, on which searches are replayed.

    python benchmarks/search/recorded_grids.py RESULTS NAME

keeps a finished sweep as benchmarks/worlds/NAME.parquet. A recorded grid (a ``World``) has every
combination with every seed, and the validation results of the epochs on the way
(``--validate-every``). Only columns that a search or a selection reads are kept.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.report import ROOT
from rkd_core import records
from rkd_core.metrics import average_accuracy, worst_class_accuracy
from sweeps.search.strategy import Cell, Point, Space

FOLDER = ROOT / "benchmarks" / "worlds"
COLUMNS = (
    *("run_id", "teacher_id", "family", "stage", "method", "variant", "teacher_objective"),
    *("student_objective", "alpha_t", "alpha_s", "temperature", "dataset", "class_names"),
    *("train_class_total", "architecture", "seed", "epochs", "epochs_trained"),
    *("val_calibration_images", "val_calibration_positives", "val_calibration_probability"),
    *("val_class_total", "val_class_correct", "test_class_total", "test_class_correct"),
    *("val_average_accuracy", "val_worst_class_accuracy", "test_average_accuracy"),
    *("test_worst_class_accuracy", "val_epochs", "val_epoch_class_correct", "train_seconds"),
    *("status", "schema_version"),
)


@dataclass(frozen=True, eq=False)
class World:
    """A grid and all its results."""

    name: str
    table: pa.Table

    @cached_property
    def rows(self) -> dict[Point, dict[str, Any]]:
        """Records of students by combination and seed."""
        students = self.table.filter(pc.equal(self.table["stage"], "student")).to_pylist()
        return {Point(_cell(row), row["seed"]): row for row in students}

    @cached_property
    def teachers(self) -> dict[tuple[float | None, int], dict[str, Any]]:
        """Records of teachers by trade-off and seed."""
        teachers = self.table.filter(pc.equal(self.table["stage"], "teacher")).to_pylist()
        return {(row["alpha_t"], row["seed"]): row for row in teachers}

    @cached_property
    def place(self) -> dict[Point, int]:
        """Row of each student in ``students``."""
        ids = {run: k for k, run in enumerate(self.students["run_id"].to_pylist())}
        return {point: ids[row["run_id"]] for point, row in self.rows.items()}

    @cached_property
    def students(self) -> pa.Table:
        """Records of the students."""
        return self.table.filter(pc.equal(self.table["stage"], "student"))

    @cached_property
    def space(self) -> Space:
        """Space of the grid, from which a strategy chooses."""
        cells, seeds = {p.cell for p in self.rows}, {p.seed for p in self.rows}
        alphas = {a for c in cells for a in (c.alpha_t, c.alpha_s) if a is not None}
        temperatures = {c.temperature for c in cells}
        return Space(*(tuple(sorted(values)) for values in (alphas, temperatures, seeds)))

    @cached_property
    def truth(self) -> dict[Cell, tuple[float, float]]:
        """Mean worst-class and average accuracy on test over all seeds."""
        found: dict[Cell, tuple[float, float]] = {}
        for cell in self.space.cells:
            figures = self.by_seed(cell)
            found[cell] = float(figures[0].mean()), float(figures[1].mean())
        return found

    def by_seed(self, cell: Cell) -> np.ndarray:
        """Return worst-class and average accuracy on test, ``(2, seeds)``."""
        rows = [self.rows[Point(cell, seed)] for seed in self.space.seeds]
        counts = [(row["test_class_correct"], row["test_class_total"]) for row in rows]
        worst = [float(worst_class_accuracy(*c)) for c in counts]
        return np.array([worst, [float(average_accuracy(*c)) for c in counts]])


def names() -> list[str]:
    """Return the names of all recorded grids."""
    return sorted(path.stem for path in FOLDER.glob("*.parquet"))


@cache
def load(name: str) -> World:
    """Return a recorded grid, which is read once per process."""
    table = pq.read_table(FOLDER / f"{name}.parquet")
    missing = [
        pa.nulls(len(table), field.type)
        if field.name not in table.column_names
        else table[field.name].cast(field.type)
        for field in records.SCHEMA
    ]
    return World(name, pa.table(missing, schema=records.SCHEMA))


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["alpha_t"], row["alpha_s"], row["temperature"])


def keep(results: Path, name: str) -> Path:
    """Write a finished sweep as a recorded grid."""
    table = records.read(results / "records")
    on_grid = pc.and_(table["variant"].is_null(), pc.equal(table["status"], "completed"))
    kept = table.filter(on_grid).select(list(COLUMNS))
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.parquet"
    pq.write_table(kept, path, compression="zstd", compression_level=19)
    return path


if __name__ == "__main__":
    print(keep(Path(sys.argv[1]), sys.argv[2]))
