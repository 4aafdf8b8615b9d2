"""Log of a sweep, ``sweep.log``: all logging, and all output of libraries."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rkd_core.errors import UserError
from rkd_core.storage.files import Location, local_path, read, replace_file
from rkd_core.text import terminal

__all__ = ["logging_to"]

log = logging.getLogger(__name__)

_PERIOD = 60.0  # seconds between copies of the log to an object store


@contextlib.contextmanager
def logging_to(path: Location, notify: Callable[[str], object]) -> Iterator[None]:
    """Redirect all logging and the standard streams to the log file of the sweep.

    The consoles of this command hold the original streams, so their output stays visible.

    Args:
        path: Log file, which is appended to. Object stores cannot append, so a local file is copied
            there every minute and at the end.
        notify: Function that is called with the path of the local file.

    Raises:
        UserError: The log cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            here = local_path(path) or stack.enter_context(_copied(path, notify))
            sink = stack.enter_context(
                here.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
            )
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
        handler = logging.StreamHandler(sink)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        terminal.spill_to(here)
        try:
            with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
                yield
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]


@contextlib.contextmanager
def _copied(path: Location, notify: Callable[[str], object]) -> Iterator[Path]:
    """Yield a local file that continues the log in an object store."""
    descriptor, name = tempfile.mkstemp(prefix="sweep-", suffix=".log")
    os.close(descriptor)
    here, ended, failed = Path(name), threading.Event(), False
    with contextlib.suppress(FileNotFoundError):
        here.write_bytes(read(path))
    copied = here.stat().st_size

    def copy() -> None:
        nonlocal copied, failed
        content = here.read_bytes()
        if len(content) > copied:
            try:
                replace_file(path, content)
            except OSError as error:  # the next copy may succeed
                failed = True
                log.warning("%s is not copied: %s", path, error)
            else:
                copied, failed = len(content), False

    def keep_copying() -> None:
        while not ended.wait(_PERIOD):
            copy()

    notify(f"Log: {here}, copied to {path} every minute")
    thread = threading.Thread(target=keep_copying, name="log", daemon=True)
    thread.start()
    try:
        yield here
    finally:
        ended.set()
        thread.join()
        copy()
        if not failed:
            here.unlink()
