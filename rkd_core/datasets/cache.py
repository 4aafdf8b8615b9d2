"""The disk cache: entries that appear whole, are checked when opened, and are made once.

    <cache>/entries/<name>/    what was prepared; the name is a digest of its content
    <cache>/sources/<key>.json which entry a listing of source files led to, and notes on them
    <cache>/locks/<key>        so that of two processes one prepares and the other waits

A listing (path, size and time of change of every file) stands in for reading the files again.
"""

from __future__ import annotations

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
from rkd_core.storage.files import expanded, replace_file, sync
from rkd_core.text import json_text

__all__ = ["DamagedError", "default_folder", "key_of", "locked", "open_or_build"]

T = TypeVar("T")
Notes = dict[str, Any]
"""JSON about a source, stored beside its content."""

SETTLED_SECONDS = 2.0
"""Files changed more recently than this may change again without their times showing it."""


class DamagedError(Exception):
    """An entry is not what was written."""


UNSOUND = (DamagedError, OSError, EOFError, ValueError, KeyError, TypeError)
"""What opening a damaged, foreign or missing entry may raise."""


def default_folder() -> Path:
    """``$RKD_CACHE_DIR``, or ``rkd`` in the user's cache folder."""
    if chosen := os.environ.get("RKD_CACHE_DIR"):
        return expanded(chosen)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rkd"


def key_of(location: Location, *options: object) -> str:
    """Digest of where a source is, its listing, and how it is to be read and prepared."""
    listing = [[file.path, file.size, file.mtime_ns] for file in location.files]
    value = json.dumps([str(location.root.resolve()), listing, location.rules, options])
    return hashlib.sha256(value.encode()).hexdigest()[:32]


def locked(cache: Path, name: str) -> FileLock:
    """A lock between processes, to be used in a ``with`` statement."""
    (cache / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(cache / "locks" / name)


def open_or_build(
    cache: Path,
    key: str,
    location: Location,
    open_entry: Callable[[Path, Notes], T],
    build: Callable[[Path], tuple[str, Notes]],
) -> T:
    """Open the entry a key led to before, or build it while others wait.

    Args:
        cache: The cache folder.
        key: Of the source and how it is prepared.
        location: The source, to see whether its listing can be relied on.
        open_entry: Opens an entry's folder, given the notes on this source; raises
            ``DamagedError`` if it is not sound.
        build: Fills a folder and returns the entry's name, and notes on this source: other
            sources may have the same content.

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
            for file in hidden.iterdir():  # else zeros could stand under a sound name one day
                sync(file)
            sync(hidden)
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
    """Give a finished entry its name, unless the same content is there already and sound."""
    if final.exists():
        try:
            return open_entry(final)
        except UNSOUND:
            shutil.rmtree(final)
    hidden.chmod(0o755)
    try:
        hidden.rename(final)
    except OSError:  # the same content, from another place, came first
        if not final.exists():
            raise
    return open_entry(final)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
