"""Disk cache of prepared datasets, with atomic writes, integrity checks and locks.

    <cache>/entries/<name>/     a prepared dataset; the name is a digest of its content
    <cache>/sources/<key>.json  the entry of a listing of source files, and notes on the source
    <cache>/locks/<key>         a lock: one process prepares the entry while others wait

A source counts as unchanged if its listing (path, size and modification time of every file) is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from rkd_core.datasets.readers.base import Location
from rkd_core.storage.files import expanded, replace_file
from rkd_core.storage.local import publish_folder
from rkd_core.text import json_text

__all__ = ["DamagedError", "default_folder", "key_of", "locked", "open_or_build"]

T = TypeVar("T")
Notes = dict[str, Any]
"""JSON data about a source, stored with the name of its entry."""

SETTLED_SECONDS = 2.0
"""Age below which a file could change again without a new modification time."""


class DamagedError(Exception):
    """A cache entry that differs from what was written."""


UNSOUND = (DamagedError, OSError, EOFError, ValueError, KeyError, TypeError)
"""Exceptions that opening a damaged, foreign or missing entry may raise."""


def default_folder() -> Path:
    """Return the cache folder: ``$RKD_CACHE_DIR``, or ``rkd`` in the user's cache folder."""
    if chosen := os.environ.get("RKD_CACHE_DIR"):
        return expanded(chosen)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rkd"


def key_of(location: Location, *options: object) -> str:
    """Return a digest of a source's path, its listing, and the options to read and prepare it."""
    listing = [[file.path, file.size, file.mtime_ns] for file in location.files]
    value = json.dumps([str(location.root.resolve()), listing, location.rules, options])
    return hashlib.sha256(value.encode()).hexdigest()[:32]


def locked(cache: Path, name: str) -> FileLock:
    """Return a lock between processes, for use in a ``with`` statement."""
    (cache / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(cache / "locks" / name)


def open_or_build(
    cache: Path,
    key: str,
    location: Location,
    open_entry: Callable[[Path, Notes], T],
    build: Callable[[Path], tuple[str, Notes]],
) -> T:
    """Open the entry of a key, or build it while other processes wait.

    Args:
        cache: Cache folder.
        key: Digest from ``key_of``.
        location: The source, to check whether its listing is reliable.
        open_entry: Function that opens the folder of an entry, given the notes on this source; it
            raises ``DamagedError`` if the entry is damaged.
        build: Function that fills a folder and returns the name of the entry and the notes on
            this source. Sources with the same content share an entry but not their notes.

    Raises:
        OSError: The cache cannot be written.
    """
    pointer = cache / "sources" / f"{key}.json"
    if (value := _follow(cache, pointer, open_entry)) is not None:
        return value
    with locked(cache, key):
        if (value := _follow(cache, pointer, open_entry)) is not None:
            return value
        entries = cache / "entries"
        entries.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=".", dir=entries))
        try:
            name, notes = build(hidden)
            value = _commit(hidden, entries / name, lambda folder: open_entry(folder, notes))
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        newest = max((file.mtime_ns for file in location.files), default=0)
        if newest / 1e9 < time.time() - SETTLED_SECONDS:
            _write(pointer, json.dumps({"entry": name, "notes": notes}))
        return value


def _follow(cache: Path, pointer: Path, open_entry: Callable[[Path, Notes], T]) -> T | None:
    try:
        found = json_text.parse(pointer.read_text(encoding="utf-8"))
        return open_entry(cache / "entries" / Path(found["entry"]).name, found["notes"])
    except UNSOUND:
        return None


def _commit(hidden: Path, final: Path, open_entry: Callable[[Path], T]) -> T:
    """Move a finished entry to its final name, unless an undamaged entry already has it."""
    if final.exists():
        try:
            return open_entry(final)
        except UNSOUND:
            shutil.rmtree(final)
    hidden.chmod(0o755)
    with contextlib.suppress(FileExistsError):  # the same content, from another source
        publish_folder(hidden, final)
    return open_entry(final)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
