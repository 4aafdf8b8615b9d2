"""Detection and termination of trainings that hang, as with a stuck data loader or a lost mount.

A thread counts the batches of the process. If no batch is completed for too long, the thread saves
the stacks of all threads for the log and ends the training, which is retried like any failure. On
Ray, it ends the process of the training. Without Ray, it interrupts the main thread, which ends any
wait that Python can interrupt.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from rkd_core.datasets.batches import heartbeat
from rkd_core.storage import files
from rkd_core.storage.files import Location

__all__ = ["HangError", "ending_the_process", "note_of", "watched", "watched_here"]

log = logging.getLogger(__name__)

_TIMES = 20
"""Factor on the usual time between batches after which a training counts as hanging."""

_FOLDER = ".hangs"  # in the results folder, until the sweep reads it
_PATIENCE = 10.0  # seconds allowed for keeping the stacks, or for an interrupted training to end

Ended = Callable[[str, str], None]
"""Callback for a training that hangs, with cause and stacks; runs in another thread."""


class HangError(Exception):
    """Error for a training that completed no batch for too long; its message states the time."""


@contextlib.contextmanager
def watched(timeout: float, ended: Ended) -> Iterator[None]:
    """Watch the training that runs in this context.

    Args:
        timeout: Least number of seconds without a batch that counts as a hang; 0 turns this off.
        ended: Callback that ends the training. It is called once for each hang.
    """
    if timeout <= 0:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(timeout, ended, done), name="hang-watch", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()


def _watch(timeout: float, ended: Ended, done: threading.Event) -> None:
    # Silence is measured in iterations of this loop, so that time in a stopped process is excluded.
    period = min(1.0, timeout / 10)
    seen, silent = heartbeat.beats(), 0.0
    while not done.wait(period):
        now = heartbeat.beats()
        silent = silent + period if now == seen else 0.0
        seen = now
        if silent >= max(timeout, _TIMES * heartbeat.usual_seconds()):
            ended(f"no step for {silent:.0f} seconds, so it was ended", _stacks())
            silent = 0.0


def _stacks() -> str:
    """Return the stack of each thread of this process."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"Thread {names.get(identity, identity)}:\n{''.join(traceback.format_stack(frame))}"
        for identity, frame in sys._current_frames().items()
        if identity != threading.get_ident()
    ]
    return "\n".join(parts)


def ending_the_process(out: Location, run_ids: Sequence[str]) -> Ended:
    """Return a callback that saves cause and stacks for the sweep, and ends this process.

    Args:
        out: Results folder.
        run_ids: Runs that are trained side by side.
    """

    def keep(text: str) -> None:
        for run_id in run_ids:
            files.make_folder(out / _FOLDER)
            files.replace_file(out / _FOLDER / run_id, text.encode())

    def ended(cause: str, stacks: str) -> None:
        print(f"{cause}\n{stacks}", file=sys.stderr, flush=True)
        # In a thread, since access to the results folder may be the cause of the hang.
        keeping = threading.Thread(target=keep, args=(f"{cause}\n{stacks}",), daemon=True)
        keeping.start()
        keeping.join(_PATIENCE)
        os._exit(1)

    return ended


def note_of(out: Location, run_id: str) -> tuple[str, str] | None:
    """Return and delete cause and stacks of a training that was ended as hanging, or None."""
    path = out / _FOLDER / run_id
    try:
        cause, _, stacks = files.read(path).decode().partition("\n")
        files.remove(path)
    except OSError:
        return None
    files.storage_of(out).remove_if_empty(path.parent)
    return cause, stacks


@contextlib.contextmanager
def watched_here(timeout: float) -> Iterator[None]:
    """Watch the training that runs in this context and thread; raise HangError if it hangs.

    A signal interrupts the wait, and the stacks go to the log. If that does not help, the process
    prints a line and ends with exit code 1. Outside the main thread, this does nothing.

    Args:
        timeout: As in ``watched``.

    Raises:
        HangError: The training completed no batch for too long.
    """
    main = threading.main_thread().ident
    if timeout <= 0 or main is None or threading.get_ident() != main:
        yield
        return
    cause, delivered = "", threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        delivered.set()
        raise HangError(cause)

    def ended(said: str, stacks: str) -> None:
        nonlocal cause
        cause = said
        delivered.clear()
        log.error("%s\n%s", said, stacks)
        signal.pthread_kill(main, signal.SIGUSR1)
        if not delivered.wait(_PATIENCE):
            log.error("it cannot be interrupted: run the same command again")
            os._exit(1)

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with watched(timeout, ended):
            yield
    finally:
        signal.signal(signal.SIGUSR1, previous)
