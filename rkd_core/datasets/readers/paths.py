"""Listings of files, checks of names, and errors for missing or unreadable paths."""

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
"""Lower-case names of files and folders that file servers and operating systems create."""


@dataclass(frozen=True)
class ListedFile:
    """A file below a root: relative path (with ``/``), size and modification time."""

    path: str
    size: int
    mtime_ns: int


Listing = tuple[ListedFile, ...]


def unreadable(error: OSError, path: str | Path) -> UserError:
    """Return the error for the unreadable path that ``error`` names, or else for ``path``."""
    return UserError(f"{error.filename or path} cannot be read: {error.strerror or error}")


def is_ignored(name: str) -> bool:
    """Return whether a name is hidden, or created by a file server or operating system."""
    return name.startswith(".") or name.lower() in _SERVICE_NAMES


def is_plain(name: str) -> bool:
    """Return whether a name is valid Unicode without control characters or line breaks.

    Python represents bytes that are not UTF-8 as surrogates, which cannot be encoded as UTF-8.
    """
    return all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in name)


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8; names with other bytes cannot."""
    return not any(unicodedata.category(c) == "Cs" for c in text)


def escaped(name: str) -> str:
    """Return a name in quotes, with bytes escaped as shells write them: ``'caf\\xe9'``."""
    try:
        return repr(os.fsencode(name))[1:]
    except UnicodeEncodeError:
        return ascii(name)


def missing(path: Path) -> str:
    """Return a message on the first missing part of a path, with a similar existing name."""
    absent = path
    while absent.parent != absent and not absent.parent.exists():
        absent = absent.parent
    close = similar(absent)
    return f"{absent} does not exist" + (f": did you mean {close}?" if close else "")


def similar(path: Path) -> Path | None:
    """Return the path in the same folder whose name is most similar, if any is similar."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return None
    by_lower = {name.lower(): name for name in names if not is_ignored(name)}
    close = difflib.get_close_matches(path.name.lower(), by_lower, n=1)
    return path.parent / by_lower[close[0]] if close else None


def list_files(root: Path) -> Listing:
    """Return all files below a folder, sorted by path, without ignored ones.

    Links are followed, except to a folder that contains the link. A broken link is listed as a
    file that cannot be read.

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
