"""Measure the seconds and the memory of a selection among 1,000,000 records.

    python benchmarks/selection/million_records.py [--quick]

100 teacher objectives, 100 student objectives, 10 temperatures and 10 seeds are written in shuffled
order as one Parquet file, in the columns of the record schema that selection needs. Each repetition
is a process of its own. It reads the file, groups the records into combinations and selects one, as
``analysis.select`` and the best-so-far line do. The row is seconds of grouping and
selecting, not a ratio. The seconds of reading the file and the largest resident memory
of the whole process are in the details. A results folder has one file per run; opening a million of
them is not measured here.

It takes a quarter of a minute.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import fresh, peak_mib, print_row, quick, spread

GOAL = "< 2 s, in < 1024 MiB"
CLASSES = 10
IMAGES = 500
"""Validation images per class."""


def write(path: Path, objectives: int, temperatures: int, seeds: int) -> int:
    """Write the records of a full grid in shuffled order; return their number."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rkd_core.records import SCHEMA

    rng = np.random.default_rng(0)
    axes = np.indices((objectives, objectives, temperatures, seeds)).reshape(4, -1)
    teacher, student, temperature, seed = axes[:, rng.permutation(axes.shape[1])]
    runs = len(seed)

    def objective(place: np.ndarray) -> pa.Array:
        return pa.array(np.where(place == 0, "standard", "tradeoff"))

    def alpha(place: np.ndarray) -> pa.Array:  # the first objective is the standard one
        return pa.array((place - 1) / max(objectives - 2, 1), mask=place == 0)

    def lists(counts: np.ndarray) -> pa.Array:
        offsets = np.arange(0, runs * CLASSES + 1, CLASSES, dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, counts.ravel())

    # A trade-off towards the worst class raises it and lowers the others a little.
    lean = (teacher + student) / (2 * objectives)
    recall = np.full((runs, CLASSES), 0.9) - 0.05 * lean[:, None]
    recall[:, -1] = 0.6 + 0.2 * lean
    columns = {
        "run_id": pa.array([f"{i:020x}" for i in range(runs)]),
        "teacher_id": pa.array([f"{i:020x}" for i in teacher * seeds + seed]),
        "seed": pa.array(seed),
        "variant": pa.nulls(runs, pa.string()),
        "tuned": pa.nulls(runs, pa.string()),
        "teacher_objective": objective(teacher),
        "alpha_t": alpha(teacher),
        "student_objective": objective(student),
        "alpha_s": alpha(student),
        "temperature": pa.array(1.0 + temperature),
        "val_class_total": lists(np.full((runs, CLASSES), IMAGES)),
        "val_class_correct": lists(rng.binomial(IMAGES, recall)),
    }
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    pq.write_table(pa.table(columns, schema=schema), path)
    return runs


def select(path: Path) -> dict[str, float]:
    """Read the file and select; return seconds of both, combinations, and peak memory in MiB."""
    import pyarrow.parquet as pq

    from analysis.runs.combinations import combine
    from analysis.selection import select

    memory_before = peak_mib()
    began = time.perf_counter()
    tables = [pq.read_table(path)]
    read = time.perf_counter()
    selection = select(combine(tables.pop()))  # frees the columns
    ended = time.perf_counter()
    if not selection.feasible:
        raise RuntimeError("nothing keeps the constraint, so not all of the selection was measured")
    return {
        "read": read - began,
        "select": ended - read,
        "combinations": len(selection.combinations),
        "mib_before": memory_before,
        "mib": peak_mib(),
    }


def main() -> None:
    """Write the file once, select in turn, and print the row."""
    (objectives, temperatures, seeds), repetitions = (
        ((10, 5, 2), 2) if quick() else ((100, 10, 10), 5)
    )
    with tempfile.TemporaryDirectory(prefix="rkd-select-") as folder:
        path = Path(folder) / "records.parquet"
        runs = fresh(write, path, objectives, temperatures, seeds)
        samples = [fresh(select, path) for _ in range(repetitions)]
    details = {
        "records": runs,
        "combinations": int(samples[0]["combinations"]),
        "repetitions": repetitions,
        "seconds_with_reading": spread([s["read"] + s["select"] for s in samples]),
        "seconds_reading": spread([s["read"] for s in samples]),
        "peak_mib": spread([s["mib"] for s in samples]),
        "mib_before": spread([s["mib_before"] for s in samples]),
    }
    print_row("select_million", spread([s["select"] for s in samples]), GOAL, details)


if __name__ == "__main__":
    main()
