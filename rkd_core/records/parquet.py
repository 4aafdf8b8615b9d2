"""Reading and writing of records: one Parquet file per run, written completely or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rkd_core.errors import UserError, first_line
from rkd_core.records import compaction
from rkd_core.records.schema import SCHEMA, Record
from rkd_core.storage import files
from rkd_core.storage.files import Location

__all__ = [
    "digests",
    "parse",
    "read",
    "serialize",
    "write",
]

_RUN_ID = re.compile(r"[\w.-]{1,100}")  # files are named after run ids
_SUM = b"sha256"  # in the metadata of a file, see _checksum
_MANY = 32
"""Minimum number of records to read from a compaction; also of missing records to renew it."""
_SHARE = 32
"""A compaction is renewed only if it lacks at least one in this number of the records."""


def write(folder: Location, record: Record) -> bool:
    """Commit one record as ``<folder>/<run_id>.parquet``, unless a completed one is there.

    Readers see the whole record or none. The record of a failed or pruned run may be replaced,
    because a later run may succeed or continue; a completed record is never replaced.

    Args:
        folder: The ``records`` folder; created if it is missing.
        record: A value for every column of ``SCHEMA``; an unknown column is an error.

    Returns:
        Whether this call committed the record; False if a completed record existed already.
    """
    content = serialize(record)
    path = folder / f"{record['run_id']}.parquet"

    def replaceable(standing: bytes) -> bool:
        return parse(path, standing)["status"][0].as_py() != "completed"

    return files.create(path, content, replaceable)


def serialize(record: Record) -> bytes:
    """Return a record as the content of a Parquet file; missing columns are null.

    Raises:
        ValueError: It has a column that ``SCHEMA`` does not, or no ``run_id``.
    """
    unknown = set(record) - set(SCHEMA.names)
    if unknown or not record.get("run_id"):
        raise ValueError(f"not a record: unknown columns {sorted(unknown)}, or no run_id")
    sink = pa.BufferOutputStream()
    table = pa.table({name: [record.get(name)] for name in SCHEMA.names}, schema=SCHEMA)
    table = table.replace_schema_metadata({_SUM: _checksum(table.to_pylist()[0])})
    # Dictionaries and statistics of a single row only make it slower to read.
    pq.write_table(table, sink, use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue().to_pybytes())


def _checksum(row: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of a record's values; null columns, such as new ones, are left out."""
    values = {name: value for name, value in row.items() if value is not None}
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest().encode()


def read(folder: Location, run_ids: Iterable[str] | None = None) -> pa.Table:
    """Return the records of a folder as one table in the columns of ``SCHEMA``, ordered by run id.

    For many records, those whose files have not changed come from ``rkd_core.records.compaction``.

    Args:
        folder: The ``records`` folder.
        run_ids: Read only these, as far as they exist.

    Raises:
        UserError: A file is not a record of this program, or is damaged; the message names it.
    """
    # No other id can be the name of a file.
    wanted = None if run_ids is None else sorted(filter(_RUN_ID.fullmatch, {*run_ids}))
    if wanted is not None and len(wanted) < _MANY:
        return _table(table for _, _, table in _read_files(folder, wanted, {}))
    present = _present(folder)
    wanted = sorted(present) if wanted is None else [r for r in wanted if r in present]
    if len(wanted) < _MANY:
        return _table(table for _, _, table in _read_files(folder, wanted, {}))
    return _read_compacted(folder, wanted, present)


def digests(folder: Location) -> dict[str, str]:
    """Return the SHA-256 of every record file by run id, empty for files that cannot be read.

    Nothing is parsed, and files that a compaction knows are not read.
    """
    present, standing = _present(folder), compaction.load(folder, SCHEMA)
    found = {
        run_id: standing.digests[row]
        for run_id, row in standing.places().items()
        if standing.identities[row] and present.get(run_id) == standing.identities[row]
    }
    rest = [run_id for run_id in present if run_id not in found]
    contents = files.read_many([folder / f"{run_id}.parquet" for run_id in rest])
    for run_id, content in zip(rest, contents, strict=True):
        found[run_id] = "" if isinstance(content, OSError) else _sha256(content)
    return found


def _present(folder: Location) -> dict[str, str]:
    """Return the identity of every record file by run id, see ``files.identities``."""
    return {
        name.removesuffix(".parquet"): identity
        for name, identity in files.identities(folder).items()
        if name.endswith(".parquet") and name[0] not in "._"
    }


def _read_compacted(
    folder: Location, wanted: Sequence[str], present: Mapping[str, str]
) -> pa.Table:
    """Return records, those of unchanged files from the compaction; renew it if it lacks many.

    Args:
        folder: The ``records`` folder.
        wanted: Run ids, in order.
        present: Identity of each existing file, by run id. It is taken before the file is read, so
            the next reader notices a file that is replaced in between.
    """
    standing = compaction.load(folder, SCHEMA)
    place = standing.places()
    of_file = {r: (standing.identities[i], standing.digests[i]) for r, i in place.items()}
    doubtful = [r for r in wanted if not present[r] or of_file.get(r, ("", ""))[0] != present[r]]
    kept, new = {*wanted} - {*doubtful}, []
    known = {r: digest for r, (_, digest) in of_file.items()}
    for run_id, digest, table in _read_files(folder, doubtful, known):
        of_file[run_id] = present[run_id], digest
        if table is None:
            kept.add(run_id)
        else:
            new.append(table)
    table = _table([_rows(standing, [place[run_id] for run_id in sorted(kept)]), *new])
    if len(doubtful) >= max(_MANY, len(wanted) // _SHARE):
        others = sorted((place.keys() & present.keys()) - {*wanted})
        whole = _table([_rows(standing, [place[run_id] for run_id in others]), table])
        stamps = [of_file[run_id] for run_id in whole["run_id"].to_pylist()]
        compaction.save(folder, compaction.Compaction(whole, *zip(*stamps, strict=True)))
    return table


def _rows(standing: compaction.Compaction, places: Sequence[int]) -> pa.Table:
    if len(places) == len(standing.table):  # copying all rows takes longer than reading them
        return standing.table
    return standing.table.take(pa.array(places, pa.int64()))


def _table(tables: Iterable[pa.Table]) -> pa.Table:
    """Return records as one table, ordered by run id, in one chunk."""
    table = pa.concat_tables([pa.Table.from_batches([], SCHEMA), *tables])
    run_ids = table["run_id"].to_pylist()
    if run_ids != sorted(run_ids):
        table = table.take(pc.sort_indices(table["run_id"]))
    return table.combine_chunks()


def _read_files(
    folder: Location, run_ids: Sequence[str], known: Mapping[str, str]
) -> Iterator[tuple[str, str, pa.Table | None]]:
    """Read the record files that exist.

    Args:
        folder: The ``records`` folder.
        run_ids: Run ids of the files.
        known: SHA-256 of contents that need not be parsed, by run id.

    Yields:
        Run id, SHA-256 of the content, and the record; None in its place if that is known.

    Raises:
        UserError: A file is not a record of this program, or is damaged; the message names it.
    """
    paths = [folder / f"{run_id}.parquet" for run_id in run_ids]

    def parsed(path: Location, content: bytes | OSError) -> tuple[str, str, pa.Table | None] | None:
        if isinstance(content, FileNotFoundError):  # or deleted since it was listed
            return None
        if isinstance(content, OSError):
            raise _unreadable(path, content) from content
        digest = _sha256(content)
        if known.get(path.stem) == digest:
            return path.stem, digest, None
        table = parse(path, content)
        if table["run_id"][0].as_py() != path.stem:
            raise UserError(f"{path} holds the record of another run; move it away")
        return path.stem, digest, table

    # Several threads take longer: files of one row keep the interpreter busy, not Arrow.
    yield from filter(None, map(parsed, paths, files.read_many(paths)))


def parse(path: Location, content: bytes) -> pa.Table:
    """Return the content of a record file as a table of one row, in the columns of ``SCHEMA``.

    Args:
        path: The file, for messages.
        content: All of the file.

    Raises:
        UserError: It is damaged, or not a record of this program.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names, rows = file.schema_arrow.names, file.metadata.num_rows
        missing = {"run_id", "status", "schema_version"} - set(names)
        if missing or rows != 1:
            problem = f"it has no {min(missing)}" if missing else f"{rows} rows, not one"
            raise UserError(f"{path} is not a record of this program: {problem}")
        # A single row does not need Arrow's threads, and a process that ends while they are
        # starting is aborted ("terminate called without an active exception").
        table = file.read(use_threads=False)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    try:
        record = table if table.schema.equals(SCHEMA) else _cast(table)
        # Columns that a later version has added are checked, and then left out.
        added = {name: table.column(name)[0].as_py() for name in set(names) - {*SCHEMA.names}}
        sum_of_values = _checksum(record.to_pylist()[0] | added)
    except (pa.ArrowException, ValueError, KeyError, OverflowError) as error:
        reason = first_line(error)
        raise UserError(f"{path} is not a record of this program: {reason}") from error
    if (table.schema.metadata or {}).get(_SUM, sum_of_values) != sum_of_values:
        raise UserError(f"{path} is damaged: its values differ from their SHA-256; move it away")
    return record


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cast(table: pa.Table) -> pa.Table:
    """Return a record of another version in the columns of ``SCHEMA``."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(1, field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def _unreadable(path: Location, error: Exception) -> UserError:
    reason = first_line(error)
    return UserError(f"{path} cannot be read as a record: {reason}; move it away")
