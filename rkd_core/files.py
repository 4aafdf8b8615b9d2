"""Files that appear whole or not at all, and stay there when the power goes."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["replace_file", "sync", "write_synced"]


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until its bytes are on the disk."""
    with path.open("wb") as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Give a file its name only when all of it is on the disk, replacing what was there."""
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_synced(hidden, content)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
