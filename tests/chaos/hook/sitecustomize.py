"""On a sweep's PYTHONPATH: keeps a journal of every epoch trained, and makes faults on request.

Python imports this in the driver and in each of Ray's workers before anything else. It is told
what to do by the environment (see ``Command`` in ``tests/chaos/sweeping.py``) and, for what
begins in the middle of a sweep, by files that appear in the folder ``CHAOS_FOLDER``:

- ``journal``: written here, a line ``<run id> <epoch from 0> <pid> <time>`` for each epoch trained.
- ``die-<run id>-<epoch>``: the process that ends this epoch removes the file and raises SIGKILL.
- ``die-always-<run id>``: the process that ends an epoch of this run raises SIGKILL, each time.
- ``hang-<run id>-<epoch>``: the process that ends this epoch removes the file and sleeps.
- ``fault``: holds a name of ``errno``; opening a file for writing, making, linking or renaming
  below ``CHAOS_OUT`` raises it in every process.
- ``clock``: holds the seconds that ``time.time`` is ahead; it is looked for as a process begins.
"""

import contextlib
import errno
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from pathlib import Path

FOLDER, OUT = os.environ.get("CHAOS_FOLDER"), os.environ.get("CHAOS_OUT", "")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def set_clock(path):
    seconds, nanoseconds, ahead = time.time, time.time_ns, [0]

    def offset():
        with contextlib.suppress(ValueError):  # it is being written
            ahead[0] = int(path.read_text())
        return ahead[0]

    time.time = lambda: seconds() + offset()
    time.time_ns = lambda: nanoseconds() + offset() * 10**9


if FOLDER and Path(FOLDER, "clock").exists():
    set_clock(Path(FOLDER, "clock"))


def journal(run_id, epoch):
    line = f"{run_id} {epoch} {os.getpid()} {time.time():.3f}\n".encode()
    descriptor = os.open(f"{FOLDER}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line)  # one call, so that lines of several processes stay whole
    finally:
        os.close(descriptor)
    if Path(f"{FOLDER}/die-always-{run_id}").exists():
        signal.raise_signal(signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError):
        Path(f"{FOLDER}/die-{run_id}-{epoch}").unlink()
        signal.raise_signal(signal.SIGKILL)  # what the kernel's OOM killer sends
    with contextlib.suppress(FileNotFoundError):
        Path(f"{FOLDER}/hang-{run_id}-{epoch}").unlink()
        time.sleep(3600)


def instrument(runs):
    original = runs.Run.end_epoch

    def end_epoch(self, epoch, losses):
        original(self, epoch, losses)
        journal(self.run_id, epoch)

    runs.Run.end_epoch = end_epoch


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ``rkd_core.training.run`` as usual, and instruments it once it has been executed."""

    def find_spec(self, name, path=None, target=None):
        if name != "rkd_core.training.run":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            instrument(module)

        spec.loader.exec_module = exec_module
        return spec


def faulty(event, arguments):
    """An audit hook: what it raises, the audited call raises."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & WRITING:
            return
    elif event in ("os.mkdir", "os.link", "os.rename", "os.truncate"):
        path = arguments[1] if event in ("os.link", "os.rename") else arguments[0]
    else:
        return
    with contextlib.suppress(TypeError, ValueError):
        path = os.fspath(path)
        if isinstance(path, str) and path.startswith(OUT) and Path(f"{FOLDER}/fault").exists():
            number = getattr(errno, Path(f"{FOLDER}/fault").read_text().strip())
            raise OSError(number, os.strerror(number), path)


if FOLDER:
    sys.meta_path.insert(0, _Finder())
    if OUT:
        sys.addaudithook(faulty)
