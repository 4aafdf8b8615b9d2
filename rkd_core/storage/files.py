"""Reading and writing of whole files, on this machine and in object stores."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from rkd_core.errors import UserError
from rkd_core.storage import object_store
from rkd_core.storage.local import Local
from rkd_core.storage.object_store import ObjectPath, ObjectStore

__all__ = [
    "Location",
    "Storage",
    "create",
    "digest",
    "exists",
    "expanded",
    "identities",
    "is_folder",
    "is_leftover",
    "is_old",
    "local_path",
    "location",
    "make_folder",
    "names",
    "read",
    "read_many",
    "remove",
    "replace_file",
    "set_aside",
    "storage_of",
]

Location: TypeAlias = Path | ObjectPath
"""Name of a file or folder, on this machine or in an object store."""

Replaceable = Callable[[bytes], bool]
P_contra = TypeVar("P_contra", contravariant=True)

_OLD = 86400.0  # seconds
_LEFTOVER = re.compile(r"\..+\.(claim|[0-9a-f]{32})")


class Storage(Protocol[P_contra]):
    """Operations on files that appear completely or not at all.

    Methods raise ``OSError`` if the operation fails, ``FileNotFoundError`` if the file is missing.

    Attributes:
        concurrency: Recommended number of files to read at a time.
        poll_seconds: Time between two reads of a file that another process may change.
    """

    concurrency: int
    poll_seconds: float

    def read(self, path: P_contra) -> bytes:
        """Return the content of a file."""
        ...

    def digest(self, path: P_contra) -> str:
        """Return the SHA-256 of a file, in hexadecimal."""
        ...

    def create(self, path: P_contra, content: bytes, replaceable: Replaceable | None) -> bool:
        """Create a file unless it exists, see ``rkd_core.storage.files.create``."""
        ...

    def replace(self, path: P_contra, content: bytes) -> None:
        """Write a file, replacing an existing one."""
        ...

    def commit_folder(
        self,
        path: P_contra,
        contents: Mapping[str, bytes],
        marker: str,
        describe: Callable[[str | None], bytes],
    ) -> bool:
        """Create a folder with all its files, unless it exists.

        Args:
            path: The folder.
            contents: Content by file name.
            marker: Name of a further file.
            describe: Returns the marker's content, given the name of the subfolder that holds the
                other files, or None if they lie beside it.

        Returns:
            Whether this call created it.
        """
        ...

    def is_committed(self, path: P_contra, marker: str) -> bool:
        """Return whether ``commit_folder`` created this folder."""
        ...

    def exists(self, path: P_contra) -> bool:
        """Return whether a file exists, or a folder; in a store, a folder that holds a file."""
        ...

    def is_folder(self, path: P_contra) -> bool:
        """Return whether a folder exists; in a store, one that holds a file."""
        ...

    def names(self, folder: P_contra) -> list[str]:
        """Return the names in a folder, including hidden ones, in order."""
        ...

    def identities(self, folder: P_contra, *, recent: bool) -> dict[str, str]:
        """Return a text by name that changes with the file, see ``rkd_core.storage.files``."""
        ...

    def written_at(self, path: P_contra) -> float | None:
        """Return the time of the last write to a file or into a folder; None if it is missing."""
        ...

    def make_folder(self, path: P_contra) -> None:
        """Make a folder and its parents; a store needs none."""
        ...

    def remove(self, path: P_contra) -> None:
        """Delete a file, or a folder with all its files."""
        ...

    def remove_if_empty(self, folder: P_contra) -> None:
        """Delete a folder if it is empty; a store has no empty folders."""
        ...

    def set_aside(self, path: P_contra, hidden: str) -> None:
        """Give a file or folder, if it exists, another name in the same folder."""
        ...

    def check_writable(self, folder: P_contra) -> None:
        """Refuse a folder that is write-protected, or a store that lets two writers win.

        Raises:
            UserError: Results cannot be written there safely.
        """
        ...

    def free_bytes(self, folder: P_contra) -> float:
        """Return the free space for a folder that need not exist yet."""
        ...

    def lock(self, path: P_contra, seconds: float) -> contextlib.AbstractContextManager[bool]:
        """Return a context that holds a lock file between processes.

        Args:
            path: The lock file.
            seconds: Time to wait for another process that holds it.

        Returns:
            A context that yields whether there is a lock; some file systems and all stores have
            none. Entering it raises ``TimeoutError`` if another process holds the lock.
        """
        ...

    def pyarrow_system(self, path: P_contra) -> tuple[str, Any]:
        """Return the path and the file system, None for the local one, for pyarrow and Ray."""
        ...


_LOCAL, _OBJECTS = Local(), ObjectStore()


def storage_of(path: Location) -> Storage[Any]:
    """Return the storage of a location."""
    return _LOCAL if isinstance(path, Path) else _OBJECTS


def expanded(path: str | Path) -> Path:
    """Return the path with ``~`` or ``~user`` at its start replaced by that home folder.

    All paths from users go through this or ``location``: a shell does not expand a ``~`` that is
    quoted or follows an equals sign.

    Raises:
        UserError: The home folder is unknown, or no file system can hold the path.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UserError(f"{str(path)!a} is not a path: {error.reason}") from error
    if str(path).startswith("./~"):  # a folder with this name, which Path would treat as a home
        return Path(path).absolute()
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: the home folder of {Path(path).parts[0]} is not known") from error


def location(text: str | Location) -> Location:
    """Return a folder of this machine (``~`` is expanded), or of a store (``s3://``, ``gs://``).

    Raises:
        UserError: The text is none of these, or the packages for it are not installed.
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


def local_path(path: Location) -> Path | None:
    """Return the path if it is on this machine, else None."""
    return path if isinstance(path, Path) else None


def create(path: Location, content: bytes, replaceable: Replaceable | None = None) -> bool:
    """Create a file unless it exists; if several processes try, one succeeds.

    Args:
        path: The file; its folder is created if it is missing.
        content: Content of the file, which readers see completely or not at all.
        replaceable: Returns whether a file of the given content may be replaced; by default none
            may.

    Returns:
        Whether this call created the file.
    """
    return storage_of(path).create(path, content, replaceable)


def replace_file(path: Location, content: bytes) -> None:
    """Write a file, replacing an existing one; it appears only once it is stored completely."""
    storage_of(path).replace(path, content)


def read(path: Location) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It cannot be read; ``FileNotFoundError`` if it is missing.
    """
    return storage_of(path).read(path)


def digest(path: Location) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: It cannot be read; ``FileNotFoundError`` if it is missing.
    """
    return storage_of(path).digest(path)


def read_many(paths: Sequence[Location]) -> Iterator[bytes | OSError]:
    """Yield, in order, the content of each file, or the error if it cannot be read."""

    def attempt(path: Location) -> bytes | OSError:
        try:
            return read(path)
        except OSError as error:
            return error

    at_once = storage_of(paths[0]).concurrency if paths else 1
    if at_once == 1:
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(at_once, "read") as pool:
        for start in range(0, len(paths), 8 * at_once):  # bounds the files in memory
            yield from pool.map(attempt, paths[start : start + 8 * at_once])


def exists(path: Location) -> bool:
    """Return whether a file or folder exists; in a store, a folder exists if it holds a file."""
    return storage_of(path).exists(path)


def is_folder(path: Location) -> bool:
    """Return whether a folder exists; in a store, one that holds a file."""
    return storage_of(path).is_folder(path)


def names(folder: Location) -> list[str]:
    """Return the names in a folder, including hidden ones, in order; none for a missing folder."""
    return storage_of(folder).names(folder)


def identities(folder: Location, *, recent: bool = False) -> dict[str, str]:
    """Return the names in a folder, each with a text that changes with the entry's content.

    Args:
        folder: The folder.
        recent: Whether to identify local files written within the last seconds, too. Their text may
            stay the same after another change, because a file system's clock may not have advanced.

    Returns:
        Texts by name; empty texts for folders and for other entries that cannot be identified.
    """
    return storage_of(folder).identities(folder, recent=recent)


def is_leftover(name: str) -> bool:
    """Return whether a hidden name belongs to a write in progress, or to one that was cut off."""
    return _LEFTOVER.fullmatch(name) is not None


def is_old(path: Location) -> bool:
    """Return whether a file or folder exists and nothing in it was written for a day."""
    written = storage_of(path).written_at(path)
    return written is not None and time.time() - written > _OLD


def make_folder(path: Location) -> None:
    """Make a folder and its parents; a store needs none."""
    storage_of(path).make_folder(path)


def remove(path: Location) -> None:
    """Delete a file, or a folder with all its files, as far as they can be deleted."""
    with contextlib.suppress(OSError):
        storage_of(path).remove(path)


def set_aside(path: Location) -> None:
    """Rename a damaged file or folder, if it exists, to a hidden name that is never read."""
    storage_of(path).set_aside(path, f".damaged.{path.name}.{uuid.uuid4().hex}")
