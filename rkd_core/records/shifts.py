"""Files of the shifts of trained students: one Parquet file per student, a row per strength.

The files are beside the records, not among them: a shifted student is no training of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rkd_core.errors import UserError, first_line
from rkd_core.metrics import average_accuracy, shift_family, worst_class_accuracy
from rkd_core.records.schema import Record
from rkd_core.storage import files
from rkd_core.storage.files import Location

__all__ = [
    "FOLDER",
    "SCHEMA",
    "missing",
    "parse",
    "path_of",
    "read",
    "shifted",
    "table",
    "write",
]

FOLDER = "shifts"
"""Name of the folder in a results folder."""

_COUNTS = pa.list_(pa.int64())
SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),  # of the shifted student
        ("base_run_id", pa.string()),  # of the trained student
        ("version", pa.int64()),  # rkd_core.metrics.shift_family.VERSION
        ("alpha", pa.float64()),  # strength: 0 is balanced, 1 is robust
        ("shift", pa.list_(pa.float64())),  # added to the logits, per class in label order
        ("val_class_total", _COUNTS),
        # Each image with the shift that was fitted to the other half of the images.
        ("val_class_correct", _COUNTS),
        ("val_class_correct_in_sample", _COUNTS),  # with the shift that was fitted to all of them
        ("test_class_total", _COUNTS),
        ("test_class_correct", _COUNTS),
    ]
)
_SUM = b"sha256"


def _shifted_id(base_run_id: str, alpha: float) -> str:
    """Return the run id of a shifted student."""
    fields = {"base": base_run_id, "shift": alpha, "version": shift_family.VERSION}
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def path_of(out: Location, run_id: str) -> Location:
    """Return the file with the shifts of a trained student."""
    return out / FOLDER / f"{run_id}.parquet"


def table(
    run_id: str,
    val: tuple[NDArray[np.floating], NDArray[np.int64]],
    test: tuple[NDArray[np.floating], NDArray[np.int64]],
) -> pa.Table:
    """Fit the shifts of a trained student to validation; return a row for each strength.

    Args:
        run_id: Run id of the student.
        val: Its float32 logits of the validation images, ``(n, classes)``, and the labels.
        test: The same for the test images. The fit does not use them.
    """
    classes = val[0].shape[1]
    shifts = shift_family.fit(*val)
    crossed = shift_family.cross_fitted(*val)
    within = shift_family.correct_counts(*val, shifts)
    tested = shift_family.correct_counts(*test, shifts)
    totals = [np.bincount(labels, minlength=classes).tolist() for _, labels in (val, test)]
    rows = [
        {
            "run_id": _shifted_id(run_id, alpha),
            "base_run_id": run_id,
            "version": shift_family.VERSION,
            "alpha": alpha,
            "shift": shifts[i].tolist(),
            "val_class_total": totals[0],
            "val_class_correct": crossed[i].tolist(),
            "val_class_correct_in_sample": within[i].tolist(),
            "test_class_total": totals[1],
            "test_class_correct": tested[i].tolist(),
        }
        for i, alpha in enumerate(shift_family.ALPHAS)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write(out: Location, shifts: pa.Table) -> bool:
    """Commit the shifts of a student, unless they are there; return whether this call did.

    Readers see the whole file or none.
    """
    (run_id,) = set(shifts["base_run_id"].to_pylist())
    rows = shifts.replace_schema_metadata({_SUM: _checksum(shifts.to_pylist())})
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, use_dictionary=False, write_statistics=False)
    return files.create(path_of(out, run_id), bytes(sink.getvalue().to_pybytes()))


def missing(out: Location, run_ids: Iterable[str]) -> list[str]:
    """Return the students without a file of shifts, in order."""
    standing = {*files.names(out / FOLDER)}
    return [run_id for run_id in run_ids if f"{run_id}.parquet" not in standing]


def read(out: Location, run_ids: Iterable[str]) -> pa.Table:
    """Return the shifts of students, as far as they exist, ordered by student and strength.

    Args:
        out: Results folder.
        run_ids: Run ids of trained students.

    Raises:
        UserError: A file is damaged or holds something else; the message names it.
    """
    standing = {*files.names(out / FOLDER)}
    paths = [path_of(out, r) for r in sorted({*run_ids}) if f"{r}.parquet" in standing]
    tables = [SCHEMA.empty_table()]
    for path, content in zip(paths, files.read_many(paths), strict=True):
        if isinstance(content, FileNotFoundError):  # deleted since the folder was listed
            continue
        if isinstance(content, OSError):
            raise _damaged(path, content) from content
        tables.append(parse(path, content))
    return pa.concat_tables(tables).combine_chunks()


def shifted(out: Location, record: Record, alpha: float) -> tuple[Record, list[float]]:
    """Return the record of a student with the counts of its shift, and the shift of its logits.

    Args:
        out: Results folder.
        record: Record of the trained student.
        alpha: Strength of the shift.

    Raises:
        UserError: There is no such shift, or its file is damaged.
    """
    rows = read(out, [record["run_id"]]).to_pylist()
    row = next((row for row in rows if row["alpha"] == alpha), None)
    if row is None:
        path = path_of(out, record["run_id"])
        raise UserError(f"{path} has no shift {alpha:g}; run the sweep again, which computes it")
    columns: dict[str, Any] = {name: row[name] for name in SCHEMA.names if "_class_" in name}
    del columns["val_class_correct_in_sample"]
    for split in ("val", "test"):
        counts = columns[f"{split}_class_correct"], columns[f"{split}_class_total"]
        columns[f"{split}_average_accuracy"] = float(average_accuracy(*counts))
        columns[f"{split}_worst_class_accuracy"] = float(worst_class_accuracy(*counts))
    return cast(Record, {**record, **columns}), row["shift"]


def parse(path: Location, content: bytes) -> pa.Table:
    """Return the content of a file of shifts.

    Raises:
        UserError: It is damaged or holds something else; the message names the file.
    """
    try:
        found = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        rows = found.select(SCHEMA.names).cast(SCHEMA)
        if (found.schema.metadata or {}).get(_SUM) != _checksum(found.to_pylist()):
            raise ValueError("its values differ from their SHA-256")
        if {*rows["base_run_id"].to_pylist()} != {path.stem}:
            raise ValueError("it holds the shifts of another student")
    except (OSError, UnicodeDecodeError, pa.ArrowException, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return rows.replace_schema_metadata(None)


def _checksum(rows: list[Mapping[str, Any]]) -> bytes:
    text = json.dumps(rows, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest().encode()


def _damaged(path: Location, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read as shifts ({first_line(error)}); delete it, and the sweep or "
        "sweeps.predict computes it again"
    )
