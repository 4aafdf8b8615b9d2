"""Reasons to stop, such as Ctrl-C, SIGTERM and SIGHUP, after which trainings save first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["SIGNALS", "Interrupted", "Stop", "farewell"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill`` by a scheduler or a user, and the end of the terminal."""

_GENTLY = 4.5  # seconds for trainings to save
_PATIENCE = 9.0  # seconds until the process ends, even if a library still waits


class Interrupted(KeyboardInterrupt):
    """Interrupt by Ctrl-C, SIGTERM or SIGHUP; its argument is the number of the signal."""


class Stop:
    """Request to stop the sweep, with its reason.

    Args:
        program: Name of the program, for its last line.
        ends_process: Whether this process ends if a library keeps it waiting after a signal;
            False in a process that does other work as well, such as a notebook.

    Attributes:
        cause: The reason; None while the sweep continues.
    """

    def __init__(self, program: str = "pareto.py", *, ends_process: bool = True) -> None:
        self.cause: str | None = None
        self._program = program
        self._ends_process = ends_process
        self._listeners: list[Callable[[], None]] = []
        self._signal: int | None = None
        self._given_up = False
        self._saving = False

    @property
    def asked(self) -> bool:
        """Whether the sweep has to stop."""
        return self.cause is not None

    def ask(self, cause: str) -> None:
        """Stop for this reason; further reasons are ignored."""
        if self.cause is None:
            self.cause = cause
            for listener in self._listeners:
                listener()

    def give_up(self, cause: str) -> None:
        """Stop for this reason immediately, since trainings can no longer be reached."""
        self.ask(cause)
        self._given_up = True
        if self._ends_process:
            _later(_PATIENCE, self._leave)
        self._wake_main_thread(signal.SIGTERM)

    def on_asked(self, listener: Callable[[], None]) -> None:
        """Call this function as soon as the sweep has to stop."""
        self._listeners.append(listener)

    def handle_signals(self) -> None:
        """Handle `SIGNALS`, except those that are ignored, as under `nohup` and `&`."""
        with contextlib.suppress(ValueError):  # not in the main thread: left to the caller
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, self._interrupt)

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Handle `SIGNALS` in this context only."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.handle_signals()
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                for number, handler in before.items():
                    signal.signal(number, handler)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Let trainings save: in this context the first signal only asks to stop.

        It interrupts after a few seconds; a second signal interrupts immediately.

        Raises:
            Interrupted: At the end, after a signal.
            OSError: At the end, after another reason.
        """
        self._saving = True
        try:
            yield
        except KeyboardInterrupt:  # Ray may raise its own instead of the handler's
            if not self._given_up or self._signal is not None:
                raise
        finally:
            self._saving = False
        if self._signal is not None:
            raise Interrupted(self._signal)
        if self.cause is not None:
            raise OSError(self.cause)

    def _interrupt(self, number: int, _: object) -> None:
        if self._given_up and self._signal is None:
            raise Interrupted(number)
        first, self._signal = self._signal is None, number
        if first:
            if self._ends_process:
                _later(_PATIENCE, lambda: os._exit(128 + number))
            if self._saving:
                _later(_GENTLY, lambda: self._wake_main_thread(number))
                self.ask("interrupted")
                return
        if self._ends_process:
            signal.signal(number, signal.SIG_DFL)  # the next signal ends it immediately
        raise Interrupted(number)

    def _wake_main_thread(self, number: int) -> None:
        """Interrupt the main thread, even if it waits in a library."""
        ident = threading.main_thread().ident
        if self._saving and ident is not None:
            signal.pthread_kill(ident, number)

    def _leave(self) -> None:
        print(farewell(self.cause, self._program), file=sys.__stderr__, flush=True)
        os._exit(1)


def farewell(cause: object, program: str) -> str:
    """Return the last line of a sweep that had to stop for a reason other than a signal."""
    return f"{program}: {cause}; nothing finished is lost: continue with the same command"


def _later(seconds: float, what: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()
