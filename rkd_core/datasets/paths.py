"""Folders and files of a source: their listing, and what cannot be read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rkd_core.errors import UserError

__all__ = ["ListedFile", "Listing", "list_files", "unreadable"]


@dataclass(frozen=True)
class ListedFile:
    """A file below a root: its path there (with ``/``), its size and when it was changed."""

    path: str
    size: int
    mtime_ns: int


Listing = tuple[ListedFile, ...]


def unreadable(error: OSError, path: str | Path) -> UserError:
    """The error for a file or folder that cannot be read; ``path`` if the error names none."""
    return UserError(f"{error.filename or path} cannot be read: {error.strerror or error}")


def list_files(root: Path) -> Listing:
    """All files below a folder in the order of their paths, hidden ones left out.

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
                if entry.name.startswith("."):
                    continue
                path = prefix + entry.name
                if entry.is_dir():
                    pending.append((folder / entry.name, f"{path}/", ancestors | {identity}))
                elif entry.is_file() or not Path(entry.path).exists():
                    status = entry.stat(follow_symlinks=entry.is_file())
                    found.append(ListedFile(path, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found, key=lambda file: file.path))
