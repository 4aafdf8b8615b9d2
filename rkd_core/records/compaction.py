"""The compaction of a folder of records: one hidden file beside them that holds all records.

Reading thousands of Parquet files takes milliseconds for each; reading this file takes a tenth of
a second in total. It is only a cache, written by readers: a row is valid only while its record file
has the same identity or SHA-256 as when the row was read. A compaction that is missing, damaged, of
another version or not writable costs only time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from rkd_core.storage import files
from rkd_core.storage.files import Location

__all__ = ["NAME", "Compaction", "load", "save"]

NAME = ".compacted"
"""Name of the file; hidden, so that earlier versions and other Parquet readers skip it."""

_VERSION = 1
_IDENTITY, _DIGEST = "file_identity", "file_digest"


@dataclass(frozen=True)
class Compaction:
    """Records with the data that tell whether each still matches its file.

    Attributes:
        table: The records, one chunk, in the columns of ``rkd_core.records.SCHEMA``.
        identities: Identity of each row's file when read (``rkd_core.storage.files.identities``).
        digests: SHA-256 of the content of each row's file.
    """

    table: pa.Table
    identities: tuple[str, ...]
    digests: tuple[str, ...]

    def places(self) -> dict[str, int]:
        """Return the row of each run id."""
        return {run_id: row for row, run_id in enumerate(self.table["run_id"].to_pylist())}


def load(folder: Location, schema: pa.Schema) -> Compaction:
    """Read the compaction of a ``records`` folder; return an empty one if there is none to use."""
    try:
        table = _decoded(files.read(folder / NAME), schema)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return Compaction(schema.empty_table(), (), ())
    identities, digests = (tuple(table[name].to_pylist()) for name in (_IDENTITY, _DIGEST))
    return Compaction(table.select(schema.names), identities, digests)


def save(folder: Location, compaction: Compaction) -> None:
    """Replace the compaction of a ``records`` folder, unless it cannot be written."""
    table = compaction.table.append_column(_IDENTITY, pa.array(compaction.identities, pa.string()))
    table = table.append_column(_DIGEST, pa.array(compaction.digests, pa.string()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_compressed()) as stream:
        stream.write_table(table)
    body = sink.getvalue().to_pybytes()
    try:
        files.replace_file(folder / NAME, _head(body, compaction.table.schema) + body)
    except OSError:
        return


def _decoded(content: bytes, schema: pa.Schema) -> pa.Table:
    """Return the table in a compaction's bytes.

    Raises:
        ValueError: The bytes are damaged, or of another version.
    """
    head, _, body = content.partition(b"\n")
    if head + b"\n" != _head(body, schema):
        raise ValueError("damaged, or of another version")
    table = pa.ipc.open_stream(pa.BufferReader(body)).read_all()
    table.validate(full=True)
    return table


def _head(body: bytes, schema: pa.Schema) -> bytes:
    columns = hashlib.sha256(str(schema).encode()).hexdigest()
    return f"records {_VERSION} {columns} {hashlib.sha256(body).hexdigest()}\n".encode()


def _compressed() -> pa.ipc.IpcWriteOptions:
    available = pa.Codec.is_available("lz4_frame")
    return pa.ipc.IpcWriteOptions(compression="lz4" if available else None)
