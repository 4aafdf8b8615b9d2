"""Limits of a machine under which Ray does not start, and Ray's resources within them.

The bounds are below the measured use of Ray 2.60 on two cores (docs/reliability.md), so that no
machine is refused on which Ray would work. ``--serial`` needs none of the checked resources.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import resource
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rkd_core.errors import UserError

__all__ = ["Allowance", "Limits", "allow", "explain"]

_MIB = 2**20
_STORE_SLACK = 96 * _MIB  # Ray's object store beyond the images; Ray's minimum is 75 MiB
_RAYLET = 320 * _MIB  # address space, without the object store, which a raylet maps twice
_WORKER = 2048 * _MIB  # address space of a training process, without the store and PyTorch
_TORCH = 1.5  # address space of PyTorch, times the size of its libraries; 3 with CUDA's
_COMFORT = 6656 * _MIB  # address space that was measured to suffice, without the store
_THREADS = 120  # of Ray's own processes
_THREADS_OF_WORKER = 12
_OPEN_FILES = 60  # of the raylet, without workers
_OPEN_FILES_OF_WORKER = 2
_MEMORY = 768 * _MIB
_TEMPORARY = 16 * _MIB  # logs and sockets of a short session
_LONGEST = 34  # length of a temporary folder: the path of a socket in it may have 107 characters

_AMPLE = 4 * 2**30  # of shared memory

_SERIAL = "--serial trains without Ray"


@dataclass(frozen=True)
class Limits:
    """Limits of this process on its machine; None if there is no limit.

    Attributes:
        address_space: Bytes that each process may map (``ulimit -v``).
        processes: Processes and threads that may still be started.
        processes_name: Name of the limit on processes.
        open_files: Files that each process may have open.
        memory: Bytes of all processes (a container's limit).
        shared_memory: Bytes free in ``/dev/shm``; None where it cannot be written.
        temporary: Bytes free in each folder for temporary files, the usual one first; 0 if it
            cannot be written.
    """

    address_space: int | None
    processes: int | None
    processes_name: str
    open_files: int | None
    memory: int | None
    shared_memory: int | None
    temporary: Mapping[Path, int]

    @classmethod
    def of_this_machine(cls) -> Limits:
        """Read the limits of this process."""
        own, group = _processes_left(), _group("pids")
        left = None if group is None else group - (_group("pids", "current") or 0)
        name = (
            "ulimit -u" if left is None or (own or math.inf) <= left else "pids.max of the cgroup"
        )
        usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # Ray's order
        folders = [Path(usual), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
        return cls(
            _limit(resource.RLIMIT_AS),
            min((n for n in (own, left) if n is not None), default=None),
            name,
            _limit(resource.RLIMIT_NOFILE, hard=True),  # Ray raises the soft limit to the hard one
            _group("memory"),
            _free(Path("/dev/shm")),
            {path: _free(path) or 0 for path in folders},
        )


@dataclass(frozen=True)
class Allowance:
    """Settings for a Ray that is started here; None leaves the choice to Ray.

    Attributes:
        object_store: Bytes of its object store.
        few_arenas: Whether address space is limited. Each thread's memory arena takes 64 MiB of it.
        store_folder: Folder in which the store's memory is mapped.
        folder: Folder for temporary files.
    """

    object_store: int | None = None
    few_arenas: bool = False
    store_folder: Path | None = None
    folder: Path | None = None


def allow(limits: Limits, images: int, workers: int) -> Allowance:
    """Return settings for Ray within the limits.

    Args:
        limits: Limits of this machine.
        images: Bytes of decoded images, which go into the object store once.
        workers: Number of concurrent trainings.

    Raises:
        UserError: Ray would not start; the message names the limit and how to raise it.
    """
    store = images + images // 8 + _STORE_SLACK
    space = limits.address_space
    if space is not None:
        training = _WORKER + int(_TORCH * _torch_bytes()) + store
        if space < (needed := max(_RAYLET + 2 * store, training)):
            raise _refusal(
                f"a process may map {_size(space)} of address space (ulimit -v), and Ray needs "
                f"{_size(needed)} or more",
                f"ulimit -v {(_COMFORT + 2 * store) // 1024} is enough",
            )
    threads = _THREADS + workers * _THREADS_OF_WORKER
    if limits.processes is not None and limits.processes < threads:
        raise _refusal(
            f"{max(0, limits.processes)} more processes and threads may be started "
            f"({limits.processes_name}), and Ray needs {threads} or more",
            "fewer at a time may fit (--max-concurrent)" if workers > 1 else "raise that limit",
        )
    files = _OPEN_FILES + workers * _OPEN_FILES_OF_WORKER
    if limits.open_files is not None and limits.open_files < files:
        raise _refusal(
            f"a process may open {limits.open_files} files (ulimit -n), and Ray needs {files}",
            "ulimit -n 1024 is enough",
        )
    if limits.memory is not None and limits.memory < _MEMORY:
        raise _refusal(
            f"all processes may use {_size(limits.memory)} of memory (a container's limit), and "
            f"Ray needs {_size(_MEMORY)} or more",
            "raise that limit",
        )
    folder = _temporary(limits.temporary)
    return Allowance(
        # By default Ray takes 30 % of the machine's memory, which a raylet then maps twice.
        store if space is not None or (limits.shared_memory or 0) < _AMPLE else None,
        space is not None,
        folder if limits.shared_memory is None else None,
        None if folder == next(iter(limits.temporary)) else folder,
    )


def explain(failure: str, limits: Limits | None = None) -> str:
    """Return a failure together with this machine's limits that may have caused it."""
    limits = limits or Limits.of_this_machine()
    suspects = []
    if limits.address_space is not None:
        suspects.append(f"{_size(limits.address_space)} of address space (ulimit -v)")
    if limits.processes is not None and limits.processes < 4 * _THREADS:
        suspects.append(f"{limits.processes} more threads ({limits.processes_name})")
    if limits.open_files is not None and limits.open_files < 4 * _OPEN_FILES:
        suspects.append(f"{limits.open_files} open files (ulimit -n)")
    if limits.memory is not None and limits.memory < 4 * _MEMORY:
        suspects.append(f"{_size(limits.memory)} of memory (a container's limit)")
    if limits.shared_memory is None:
        suspects.append("/dev/shm cannot be written")
    if not any(free >= 8 * _TEMPORARY for free in limits.temporary.values()):
        suspects.append("little room for temporary files")
    return f"{failure}; limits here: {', '.join(suspects)}" if suspects else failure


def _refusal(line: str, instead: str) -> UserError:
    return UserError(f"{line}: {instead}, or {_SERIAL}")


def _temporary(folders: Mapping[Path, int]) -> Path:
    """Return the first folder with room whose path is short enough for sockets.

    Raises:
        UserError: There is no such folder.
    """
    for folder, free in folders.items():
        if free >= _TEMPORARY and len(str(folder)) <= _LONGEST:
            return folder
    found = ", ".join(f"{folder} has {_size(free)}" for folder, free in folders.items())
    raise _refusal(
        f"Ray needs {_size(_TEMPORARY)} for temporary files, and {found} free",
        f"set TMPDIR to a folder with room (a path of at most {_LONGEST} characters)",
    )


def _torch_bytes() -> int:
    """Return the size of PyTorch's own libraries, without importing it."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return 0
    return sum(file.stat().st_size for file in Path(found.origin).parent.glob("lib/*.so*"))


def _limit(which: int, *, hard: bool = False) -> int | None:
    value = resource.getrlimit(which)[1 if hard else 0]
    return None if value == resource.RLIM_INFINITY else value


def _processes_left() -> int | None:
    """Return the number of threads that the user may still start; None without a limit."""
    limit = _limit(resource.RLIMIT_NPROC)
    if limit is None or os.getuid() == 0:  # no limit applies to root
        return None
    used = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # the process has ended
            lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
            fields = dict(line.split(":", 1) for line in lines)
            if int(fields["Uid"].split()[0]) == os.getuid():
                used += int(fields["Threads"])
    return limit - used


def _group(controller: str, what: str = "max") -> int | None:
    """Return a limit of this container's control group (version 2 or 1), or None."""
    files = {
        ("pids", "max"): ("pids.max", "pids/pids.max"),
        ("pids", "current"): ("pids.current", "pids/pids.current"),
        ("memory", "max"): ("memory.max", "memory/memory.limit_in_bytes"),
    }[controller, what]
    for name in files:
        with contextlib.suppress(OSError, ValueError):  # "max" means no limit
            value = int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
            return value if value < 2**60 else None
    return None


def _free(folder: Path) -> int | None:
    """Return the bytes free in a folder; None if it cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="rkd-"):
            return shutil.disk_usage(folder).free
    except OSError:
        return None


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / _MIB:.0f} MiB"
