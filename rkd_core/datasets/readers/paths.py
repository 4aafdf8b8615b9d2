"""Listing of a source's folders and files, and errors for what cannot be read."""

from __future__ import annotations

import difflib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from rkd_core.errors import UserError

__all__ = [
    "ListedFile",
    "Listing",
    "escaped",
    "is_ignored",
    "is_plain",
    "is_unicode",
    "list_files",
    "missing",
    "similar",
    "unreadable",
]

_SERVICE_NAMES = frozenset(
    {
        "@eadir",  # Synology
        "@recycle",  # QNAP
        "#recycle",
        "$recycle.bin",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
"""Lower-case names that file servers and operating systems leave in folders."""


@dataclass(frozen=True)
class ListedFile:
    """A file below a root: its path there (with ``/``), its size and when it was changed."""

    path: str
    size: int
    mtime_ns: int


Listing = tuple[ListedFile, ...]


def unreadable(error: OSError, path: str | Path) -> UserError:
    """Return the error for an unreadable file or folder: the error's, or else ``path``."""
    return UserError(f"{error.filename or path} cannot be read: {error.strerror or error}")


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is hidden, or left by a file server or operating system."""
    return name.startswith(".") or name.lower() in _SERVICE_NAMES


def is_plain(name: str) -> bool:
    """Return whether a name is valid Unicode without control characters or line breaks.

    Python keeps bytes of names that are not UTF-8 as surrogates, which no file or table can hold.
    """
    return all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in name)


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8; names with other bytes cannot."""
    return not any(unicodedata.category(c) == "Cs" for c in text)


def escaped(name: str) -> str:
    """Return a name in quotes, with bytes escaped as shells write them: ``'caf\\xe9'``."""
    try:
        return repr(os.fsencode(name))[1:]
    except UnicodeEncodeError:
        return ascii(name)


def missing(path: Path) -> str:
    """Name the part of a path that does not exist, and the existing name that comes closest."""
    gone = path
    while gone.parent != gone and not gone.parent.exists():
        gone = gone.parent
    close = similar(gone)
    return f"{gone} does not exist" + (f": did you mean {close}?" if close else "")


def similar(path: Path) -> Path | None:
    """Return the file or folder beside a missing path with the closest name, if any is close."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return None
    by_lower = {name.lower(): name for name in names if not is_ignored(name)}
    close = difflib.get_close_matches(path.name.lower(), by_lower, n=1)
    return path.parent / by_lower[close[0]] if close else None


def list_files(root: Path) -> Listing:
    """Return all files below a folder in the order of their paths, without ignored ones.

    Links are followed, but into no folder that the path is in already. A link to nowhere is
    listed as a file, which then cannot be read.

    Raises:
        OSError: A folder cannot be read.
    """
    found: list[ListedFile] = []
    pending: list[tuple[Path, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    while pending:
        folder, prefix, ancestors = pending.pop()
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_ignored(entry.name):
                    continue
                path = prefix + entry.name
                if entry.is_dir():
                    pending.append((folder / entry.name, f"{path}/", ancestors | {identity}))
                elif entry.is_file() or not Path(entry.path).exists():
                    status = entry.stat(follow_symlinks=entry.is_file())
                    found.append(ListedFile(path, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found, key=lambda file: file.path))
