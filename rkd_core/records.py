"""Records: one row per trained model, one Parquet file per run, written all at once or not at all.

Per-class counts are stored rather than accuracies alone, so that every metric and every interval
can be computed years later. This module imports neither torch nor ray.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rkd_core.errors import UserError
from rkd_core.files import sync, write_synced

if TYPE_CHECKING:
    from rkd_core.specs import TrainingSpec

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "identity",
    "read",
    "read_one",
    "serialize",
    "write",
]

SCHEMA_VERSION = 1

_COUNTS = pa.list_(pa.int64())

SCHEMA = pa.schema(
    [
        # What was trained.
        ("run_id", pa.string()),
        ("teacher_id", pa.string()),  # null for a teacher
        ("family", pa.string()),  # rkd_core.specs.family_id: what one sweep holds fixed
        ("stage", pa.string()),  # teacher, student
        ("method", pa.string()),
        ("teacher_objective", pa.string()),
        ("student_objective", pa.string()),  # null for a teacher
        ("alpha_t", pa.float64()),  # null unless the teacher's objective is tradeoff
        ("alpha_s", pa.float64()),  # null unless the student's objective is tradeoff
        ("temperature", pa.float64()),  # null for a teacher
        ("dataset", pa.string()),
        ("data_fingerprint", pa.string()),
        ("class_names", pa.list_(pa.string())),  # in label order
        ("train_class_total", _COUNTS),
        ("architecture", pa.string()),
        ("parameters", pa.int64()),
        ("seed", pa.int64()),
        ("epochs", pa.int64()),
        # How good it is: images and correct predictions per class, in label order.
        ("val_class_total", _COUNTS),
        ("val_class_correct", _COUNTS),
        ("test_class_total", _COUNTS),
        ("test_class_correct", _COUNTS),
        ("val_average_accuracy", pa.float64()),
        ("val_worst_class_accuracy", pa.float64()),
        ("test_average_accuracy", pa.float64()),
        ("test_worst_class_accuracy", pa.float64()),
        ("multipliers", pa.list_(pa.float64())),  # at the end; null without multipliers
        ("train_loss", pa.float64()),  # mean over the last epoch
        # Cost and place.
        ("train_seconds", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("host", pa.string()),
        ("device", pa.string()),
        ("precision", pa.string()),
        ("versions", pa.string()),  # JSON: this program, python, torch, torchvision, numpy
        # How it ended.
        ("status", pa.string()),  # completed, failed, pruned
        ("cause", pa.string()),  # null unless failed
        ("spec", pa.string()),  # the whole spec as JSON
        ("schema_version", pa.int64()),
    ]
)
"""Names, types and order of a record's columns. Columns may be added; none changes its meaning."""


def identity(spec: TrainingSpec, run_id: str, fingerprint: str) -> dict[str, Any]:
    """The start of every record: what was, or should have been, trained; all else is None."""
    from rkd_core.specs import family_id

    teacher = spec.teacher
    return dict.fromkeys(SCHEMA.names) | {
        "run_id": run_id,
        "teacher_id": None if teacher is None else teacher.run_id,
        "family": family_id(spec, fingerprint),
        "stage": spec.stage,
        "method": spec.method,
        "teacher_objective": spec.objective if teacher is None else teacher.objective,
        "student_objective": None if teacher is None else spec.objective,
        "alpha_t": spec.alpha if teacher is None else teacher.alpha,
        "alpha_s": None if teacher is None else spec.alpha,
        "temperature": spec.temperature,
        "dataset": spec.dataset,
        "data_fingerprint": fingerprint,
        "architecture": spec.architecture,
        "seed": spec.seed,
        "epochs": spec.recipe.epochs,
        "spec": spec.model_dump_json(),
        "schema_version": SCHEMA_VERSION,
    }


def write(folder: Path, record: Mapping[str, Any]) -> bool:
    """Commit one record as ``<folder>/<run_id>.parquet``, put-if-absent.

    The bytes go to a hidden file, are synced, and only then get their name, by a hard link that
    fails where the name is taken. Readers therefore see a whole record or none.

    Args:
        folder: The ``records`` folder; made if it is missing.
        record: A value for every column of ``SCHEMA``; an unknown column is an error.

    Returns:
        True if this call committed the record, False if one was there already.

    A record of a failed run may be replaced (the failure is mended by a later run); a completed
    one never is.
    """
    content = serialize(record)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['run_id']}.parquet"
    hidden = folder / f".{record['run_id']}.{uuid.uuid4().hex}"
    try:
        write_synced(hidden, content)
        try:
            os.link(hidden, path)
            committed = True
        except FileExistsError:
            committed = _status(path) != "completed"
            if committed:
                hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    sync(folder)
    return committed


def serialize(record: Mapping[str, Any]) -> bytes:
    """One record as the bytes of a Parquet file; columns that are left out are null.

    Raises:
        ValueError: It has a column that ``SCHEMA`` does not, or no ``run_id``.
    """
    unknown = set(record) - set(SCHEMA.names)
    if unknown or not record.get("run_id"):
        raise ValueError(f"not a record: unknown columns {sorted(unknown)}, or no run_id")
    sink = pa.BufferOutputStream()
    row = {name: [record.get(name)] for name in SCHEMA.names}
    pq.write_table(pa.table(row, schema=SCHEMA), sink)
    return bytes(sink.getvalue().to_pybytes())


def read(folder: Path, run_ids: Iterable[str] | None = None) -> pa.Table:
    """All records of a folder as one table in the columns of ``SCHEMA``, ordered by run id.

    Args:
        folder: The ``records`` folder.
        run_ids: Read only these, as far as they exist.

    Raises:
        UserError: A file there is not a record of ours, or is damaged; the line names it.
    """
    if run_ids is None:
        paths = sorted(p for p in folder.glob("*.parquet") if not p.name.startswith((".", "_")))
    else:
        paths = [p for r in sorted(set(run_ids)) if (p := folder / f"{r}.parquet").exists()]
    tables = []
    for path in paths:
        tables.append(read_one(path))
        if tables[-1]["run_id"][0].as_py() != path.stem:
            raise UserError(f"{path} holds the record of another run; move it away")
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def _status(path: Path) -> str:
    column = read_one(path, ["status"]).column("status")
    return str(column[0].as_py())


def read_one(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One record file as a table of one row, in the columns of ``SCHEMA`` or those asked for.

    Raises:
        UserError: It is damaged, or not a record of ours.
    """
    try:
        with path.open("rb") as source:
            file = pq.ParquetFile(source)
            missing = {"run_id", "status", "schema_version"} - set(file.schema_arrow.names)
            if missing:
                raise UserError(f"{path} is not a record of this program: it has no {min(missing)}")
            table = file.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as a record: {reason}; move it away") from error
    if table.num_rows != 1:
        raise UserError(f"{path} is not a record of this program: {table.num_rows} rows, not one")
    if columns is not None:
        return table
    try:
        return pa.table(
            [
                table.column(field.name).cast(field.type)
                if field.name in table.column_names
                else pa.nulls(1, field.type)
                for field in SCHEMA
            ],
            schema=SCHEMA,
        )
    except (pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a record of this program: {reason}") from error
