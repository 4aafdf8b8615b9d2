"""Files that appear whole or not at all, and stay there when the power goes.

The only room that knows a folder of this machine from a prefix of an object store: a location is a
``pathlib.Path``, or a ``upath.UPath``, which is spelt the same; what is done to it is done here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rkd_core.errors import UserError
from rkd_core.storage import object_store

__all__ = [
    "check_exclusive",
    "create",
    "digest",
    "exists",
    "expanded",
    "identities",
    "is_folder",
    "is_leftover",
    "is_local",
    "is_old",
    "location",
    "make_folder",
    "names",
    "pyarrow_system",
    "read",
    "read_many",
    "remove",
    "remove_if_empty",
    "replace_file",
    "set_aside",
    "sync",
    "write_synced",
]

Replaceable = Callable[[bytes], bool]

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_OLD = 86400.0  # seconds
_YOUNG = 2.0  # seconds: the resolution of the coarsest file system clock, FAT's
_AT_ONCE = 32  # objects that are asked for at a time
_LEFTOVER = re.compile(r"\..+\.(claim|[0-9a-f]{32})")


def expanded(path: str | Path) -> Path:
    """Return the path with ``~`` or ``~user`` at its start replaced by that home folder.

    All paths from users go through this or ``location``: a shell does not expand the ``~`` of
    ``--out=~/x`` or of quoted text.

    Raises:
        UserError: The home folder is unknown, or no file system can hold the path.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UserError(f"{str(path)!a} is not a path: {error.reason}") from error
    if str(path).startswith("./~"):  # a folder named so, which Path would take for a home
        return Path(path).absolute()
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: the home folder of {Path(path).parts[0]} is not known") from error


def location(text: str | Path) -> Path:
    """Return a folder of this machine (``~`` is expanded), or of a store (``s3://``, ``gs://``).

    Raises:
        UserError: It is none of these, or the packages for it are not installed.
    """
    if not isinstance(text, str):
        return text
    if re.match(r"[A-Za-z][\w+.-]+:/(?!/)", text):
        raise UserError(f"{text}: two slashes follow the colon, as in s3://bucket/prefix")
    if "://" not in text:
        return expanded(text)
    if not text.startswith("file://"):
        return object_store.location(text)
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UserError(f"{text}: a folder of this machine is written file:///folder")
    return Path(unquote(parts.path))


def is_local(path: Path) -> bool:
    """Whether this machine's file system holds it, a network's that is mounted included."""
    return isinstance(path, Path)


def pyarrow_system(path: Path) -> tuple[str, Any]:
    """The path, and the file system if it is a store's, as pyarrow and Ray want them."""
    if is_local(path):
        return str(path.resolve()), None
    return object_store.pyarrow_system(path)


def check_exclusive(folder: Path) -> None:
    """Refuse a store that would let two processes create the same file.

    Raises:
        UserError: It would.
        OSError: It cannot be written.
    """
    if not is_local(folder):
        object_store.check_exclusive(folder)


def create(path: Path, content: bytes, replaceable: Replaceable | None = None) -> bool:
    """Put if absent: of all who create a file at a time, one does, and readers see all of it.

    Args:
        path: Its folder is made if it is missing.
        content: All of it.
        replaceable: Whether a file of this content may be replaced; by default none may.

    Returns:
        Whether this call put it there.
    """
    if not is_local(path):
        return object_store.create(path, content, replaceable)
    if not _vacant(path, replaceable):
        return False
    # A folder can be renamed onto no other that holds something, on any file system, network's
    # included, and hard links or locks are not needed. So whose folder gets the claim's name may
    # publish what is in it; and whoever finds a claim, may be of one who died, does it for him.
    claim = path.with_name(f".{path.name}.claim")
    mine = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    mine.mkdir(parents=True)
    try:
        write_synced(mine / mine.name, content)
        sync(mine)
        while _vacant(path, replaceable):
            try:
                mine.rename(claim)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                _settle(claim, path, replaceable)
            else:
                # Not in what was published here: somebody else has settled it.
                won = mine.name in _settle(claim, path, replaceable) or _holds(path, content)
                sync(path.parent)
                return won
        return False
    finally:
        shutil.rmtree(mine, ignore_errors=True)


def _settle(claim: Path, path: Path, replaceable: Replaceable | None) -> list[str]:
    """Publish what is claimed, or drop it if its name is taken; returns what this call published.

    While a claim holds something nothing else is published. So what is found vacant then stays so
    until the very file in the claim, whose name is its alone, is renamed.
    """
    published = []
    with contextlib.suppress(FileNotFoundError):  # somebody else was faster
        for held in sorted(claim.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if _vacant(path, replaceable):
                    held.rename(path)
                    published.append(held.name)
                else:
                    held.unlink()
    with contextlib.suppress(OSError):
        claim.rmdir()
    return published


def _vacant(path: Path, replaceable: Replaceable | None) -> bool:
    if replaceable is None:
        return not path.exists()
    try:
        return replaceable(path.read_bytes())
    except FileNotFoundError:
        return True


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes() == content
    return False


def write_synced(path: Path, content: bytes) -> None:
    """Write a local file and wait until its bytes are on the disk."""
    with path.open("wb") as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Give a file its name only when all of it is on the disk, replacing what was there."""
    if not is_local(path):
        object_store.put(path, content)
        return
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_synced(hidden, content)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until what was written to a local file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes:
    """All of a file.

    Raises:
        OSError: It cannot be read; ``FileNotFoundError`` if it is not there.
    """
    return path.read_bytes() if is_local(path) else object_store.read(path)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: It cannot be read; ``FileNotFoundError`` if it is not there.
    """
    if not is_local(path):
        return hashlib.sha256(object_store.read(path)).hexdigest()
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def read_many(paths: Sequence[Path]) -> Iterator[bytes | OSError]:
    """All of each file, or why it cannot be read, in order; from a store many at a time."""

    def attempt(path: Path) -> bytes | OSError:
        try:
            return read(path)
        except OSError as error:
            return error

    if not paths or is_local(paths[0]):
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(_AT_ONCE, "read") as pool:
        for start in range(0, len(paths), 8 * _AT_ONCE):  # no more than these in memory
            yield from pool.map(attempt, paths[start : start + 8 * _AT_ONCE])


def exists(path: Path) -> bool:
    """Whether there is a file or a folder; in a store, a folder is there if it holds something."""
    return path.exists() if is_local(path) else object_store.exists(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; in a store, one that holds something."""
    return path.is_dir() if is_local(path) else object_store.is_folder(path)


def names(folder: Path) -> list[str]:
    """Names of all that a folder holds, hidden ones too, in order; of no folder, none."""
    if not is_local(folder):
        return object_store.names(folder)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def identities(folder: Path) -> dict[str, str]:
    """Return the names in a folder, each with a text that changes with the entry's content.

    The text is empty if it cannot be told: for folders, and for local files written within the last
    seconds, because a file system's clock may not have advanced since.
    """
    if not is_local(folder):
        return object_store.identities(folder)
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return dict(sorted((entry.name, _identity(entry)) for entry in entries))


def _identity(entry: os.DirEntry[str]) -> str:
    try:
        found = entry.stat()
    except OSError:
        return ""
    young = time.time() - max(found.st_mtime, found.st_ctime) < _YOUNG
    if young or not stat.S_ISREG(found.st_mode):
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def is_leftover(name: str) -> bool:
    """Whether it is a hidden name of this module, of a process that writes or died writing."""
    return _LEFTOVER.fullmatch(name) is not None


def is_old(path: Path) -> bool:
    """Whether nothing in a file or folder was written for a day; a missing one is not old."""
    written = _written_at(path) if is_local(path) else object_store.written_at(path)
    return written is not None and time.time() - written > _OLD


def _written_at(path: Path) -> float | None:
    times = []
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            times.append(each.lstat().st_mtime)
    return max(times, default=None)


def make_folder(path: Path) -> None:
    """Make a folder and those that hold it; a store has none to make."""
    if is_local(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Delete a file, or a folder and all in it; what cannot be deleted stays."""
    with contextlib.suppress(OSError):
        if not is_local(path):
            object_store.remove(path)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def remove_if_empty(folder: Path) -> None:
    """Delete a folder that holds nothing; in a store there is none."""
    if is_local(folder):
        with contextlib.suppress(OSError):
            folder.rmdir()


def set_aside(path: Path) -> None:
    """Give a damaged file or folder, if it is there, a hidden name that nobody reads."""
    hidden = path.with_name(f".damaged.{path.name}.{uuid.uuid4().hex}")
    if not is_local(path):
        object_store.move(path, hidden)
        return
    with contextlib.suppress(FileNotFoundError):
        path.rename(hidden)
    remove(path.with_name(f".{path.name}.claim"))
