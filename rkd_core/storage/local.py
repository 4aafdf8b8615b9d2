"""Local files and folders that appear completely or not at all and survive a loss of power."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rkd_core.errors import UserError

__all__ = ["Local", "hidden_name", "publish_folder"]

log = logging.getLogger(__name__)

Replaceable = Callable[[bytes], bool]

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_YOUNG = 2.0  # seconds: the resolution of the coarsest file system clock, that of FAT


class Local:
    """The file systems of this machine, mounted network file systems included."""

    concurrency = 1
    poll_seconds = 1.0

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        return path.read_bytes()

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file, without holding the file in memory."""
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()

    def create(self, path: Path, content: bytes, replaceable: Replaceable | None) -> bool:
        """Create a file unless it exists.

        A folder cannot be renamed onto another that holds files, on any file system, including
        network file systems, and neither hard links nor locks are needed. So the process whose
        folder gets the name of the claim may publish the file in it. A process that finds a claim
        publishes it too, because the process that made it may have died.
        """
        if not _vacant(path, replaceable):
            return False
        claim = path.with_name(f".{path.name}.claim")
        mine = hidden_name(path)
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
                    # If it was not published here, another process has settled the claim.
                    won = mine.name in _settle(claim, path, replaceable) or _holds(path, content)
                    sync(path.parent)
                    return won
            return False
        finally:
            shutil.rmtree(mine, ignore_errors=True)

    def replace(self, path: Path, content: bytes) -> None:
        """Write a file under a hidden name and rename it."""
        hidden = hidden_name(path)
        try:
            write_synced(hidden, content)
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)

    def commit_folder(
        self,
        path: Path,
        contents: Mapping[str, bytes],
        marker: str,
        describe: Callable[[str | None], bytes],
    ) -> bool:
        """Commit a folder by one rename."""
        hidden = hidden_name(path)
        hidden.mkdir(parents=True)
        try:
            for name, content in (*contents.items(), (marker, describe(None))):
                (hidden / name).write_bytes(content)
            publish_folder(hidden, path)
        except FileExistsError:
            if not (path / marker).exists():
                raise
            return False
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        return True

    def is_committed(self, path: Path, marker: str) -> bool:
        """Return whether the folder exists, since it appears with all its files."""
        return path.is_dir()

    def exists(self, path: Path) -> bool:
        """Return whether a file or folder exists."""
        return path.exists()

    def is_folder(self, path: Path) -> bool:
        """Return whether a folder exists."""
        return path.is_dir()

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, in order."""
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def identities(self, folder: Path, *, recent: bool) -> dict[str, str]:
        """Return size, times and inode of each file."""
        if not folder.is_dir():
            return {}
        with os.scandir(folder) as entries:
            return dict(sorted((entry.name, _identity(entry, recent)) for entry in entries))

    def written_at(self, path: Path) -> float | None:
        """Return the latest modification time in a file or folder, in seconds since 1970."""
        times = []
        for each in (path, *path.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                times.append(each.lstat().st_mtime)
        return max(times, default=None)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        """Delete a file, or a folder with all its files."""
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()

    def remove_if_empty(self, folder: Path) -> None:
        """Delete a folder if it is empty."""
        with contextlib.suppress(OSError):
            folder.rmdir()

    def set_aside(self, path: Path, hidden: str) -> None:
        """Rename a file or folder, and delete a claim on its name."""
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(hidden))
        shutil.rmtree(path.with_name(f".{path.name}.claim"), ignore_errors=True)

    def check_writable(self, folder: Path) -> None:
        """Raise a UserError if the folder, or the one to create it in, is write-protected."""
        existing = _existing(folder)
        if not os.access(existing, os.W_OK) or existing.is_relative_to("/proc"):
            raise UserError(f"{folder}: {existing} cannot be written; give another folder")

    def free_bytes(self, folder: Path) -> float:
        """Return the free space of the disk."""
        return shutil.disk_usage(_existing(folder)).free

    @contextlib.contextmanager
    def lock(self, path: Path, seconds: float) -> Iterator[bool]:
        """Hold a lock file, which the operating system releases if this process dies."""
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(path, timeout=seconds))
            except Timeout:
                raise
            except (OSError, NotImplementedError) as error:
                log.info("%s cannot be locked: %s", path, error)
                yield False
                return
            yield True

    def pyarrow_system(self, path: Path) -> tuple[str, Any]:
        """Return the absolute path, and None."""
        return str(path.resolve()), None


def publish_folder(hidden: Path, final: Path, *, replace: bool = False) -> None:
    """Rename a finished folder once all its files are on the disk.

    Args:
        hidden: The finished folder, beside ``final``.
        final: Its new name.
        replace: Whether to replace an existing folder; if the rename fails, it stays.

    Raises:
        FileExistsError: Another folder with this name contains files.
        OSError: The folder cannot be renamed.
    """
    for file in (*hidden.iterdir(), hidden):  # a loss of power could otherwise leave zeros
        sync(file)
    old = hidden_name(final)
    if replace:
        final.rename(old)
    try:
        hidden.rename(final)
    except OSError as error:
        if replace:
            old.rename(final)
        if error.errno in _TAKEN:
            raise FileExistsError(errno.EEXIST, "it holds files already", str(final)) from error
        raise
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def hidden_name(path: Path) -> Path:
    """Return a new hidden name beside a path, see ``rkd_core.storage.files.is_leftover``."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until its bytes are on the disk."""
    with path.open("wb") as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(claim: Path, path: Path, replaceable: Replaceable | None) -> list[str]:
    """Publish the file in a claim, or delete it if its name is taken; return what was published.

    While a claim holds a file, nothing else is published. So a name that is found vacant stays so
    until the file in the claim, whose own name is unique, is renamed.
    """
    published = []
    with contextlib.suppress(FileNotFoundError):  # another process was faster
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


def _identity(entry: os.DirEntry[str], recent: bool) -> str:
    try:
        found = entry.stat()
    except OSError:
        return ""
    young = not recent and time.time() - max(found.st_mtime, found.st_ctime) < _YOUNG
    if young or not stat.S_ISREG(found.st_mode):
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest parent that exists."""
    whole = folder.absolute()
    return next(path for path in (whole, *whole.parents) if path.exists())
