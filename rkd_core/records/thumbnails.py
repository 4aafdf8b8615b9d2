"""Small pictures of test images for reports, in one file of a results folder."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from rkd_core.storage import files
from rkd_core.storage.files import Location

__all__ = ["MOST_BYTES", "NAME", "read", "write"]

NAME = "thumbnails.parquet"
MOST_BYTES = 1_400_000
"""Maximum size of all pictures; a report holds them in base64, a third larger."""


def write(results: Location, pictures: Mapping[int, bytes]) -> None:
    """Replace the pictures, PNG or JPEG files by the row of the image in the original test split.

    Raises:
        OSError: The file cannot be written.
    """
    table = pa.table(
        {
            "image": pa.array(pictures.keys(), pa.int64()),
            "picture": pa.array(pictures.values(), pa.binary()),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    files.replace_file(results / NAME, sink.getvalue().to_pybytes())


def read(results: Location) -> dict[int, bytes]:
    """Return the pictures; none if there is no file, or it is damaged."""
    try:
        content = files.read(results / NAME)
        table = pq.read_table(pa.BufferReader(content), use_threads=False)
        images, pictures = (table[name].to_pylist() for name in ("image", "picture"))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}
    found = zip(images, pictures, strict=True)
    return {k: v for k, v in found if isinstance(k, int) and isinstance(v, bytes)}
