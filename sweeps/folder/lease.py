"""Lease of a results folder, which allows one command at a time to train there.

The file ``.in-use.json`` names the holder of the folder. It is created only if it does not exist,
updated every few seconds as a heartbeat, and removed when the command ends. Workers read it, too:
they save and stop if it requests that or if another command holds the folder, as is possible after
a suspended machine resumes.

The lease avoids duplicate work; the safety of results does not depend on it. Commits are exclusive
by themselves, so even two holders, which a file system without locks may allow for a moment, lose
no data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from rkd_core.errors import UserError
from rkd_core.storage.files import (
    Location,
    create,
    make_folder,
    read,
    remove,
    replace_file,
    storage_of,
)
from rkd_core.text import json_text
from sweeps.stop import Stop

__all__ = ["FILES", "hold", "taken_away"]

log = logging.getLogger(__name__)

FILES = ".in-use"
"""Prefix of the names of the files of a lease."""

_BEAT = 5.0  # seconds between heartbeats
_SILENCE = 20.0  # seconds without a heartbeat after which a holder is considered dead
_LOOK = 1.0  # seconds between reads by a worker, locally and in an object store
_LOOK_FAR = 5.0


@dataclass(frozen=True)
class _Lease:
    token: str
    pid: int
    host: str
    since: str
    beat: int = 0
    stopping: bool = False

    @property
    def who(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextlib.contextmanager
def hold(
    out: Location, stop: Stop, notify: Callable[[str], object] = lambda _: None
) -> Iterator[str]:
    """Hold a results folder, so that no other command trains in it.

    Args:
        out: Results folder; created if it does not exist.
        stop: Request to stop, which is passed on to workers, and is made if the lease is lost.
        notify: Function that is called with a message if this takes a while.

    Yields:
        The token by which workers recognize their sweep.

    Raises:
        UserError: Another command holds the folder, or it cannot be written.
    """
    path = out / f"{FILES}.json"
    mine = _Lease(
        uuid.uuid4().hex, os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")
    )
    with contextlib.ExitStack() as stack:
        try:
            make_folder(out)
            locked = _lock(out, path, stack)
            _take(path, mine, out, locked, notify)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written: {error}") from error
        keeper = _Keeper(path, mine, stop)
        stop.on_asked(keeper.beat)
        stack.callback(keeper.end)
        yield mine.token


def taken_away(out: Location, token: str) -> Callable[[], bool]:
    """Return a function that tells a worker whether its sweep stops or has lost the folder.

    It can be called at every step; it reads the file at most once a second.
    """
    path = out / f"{FILES}.json"
    pause = storage_of(out).poll_seconds
    checked, answer = time.monotonic(), False

    def look() -> bool:
        nonlocal checked, answer
        now = time.monotonic()
        if now - checked >= pause:
            checked = now
            with contextlib.suppress(OSError):  # the next read may succeed
                lease = _read(path)
                answer = lease is None or lease.token != token or lease.stopping
        return answer

    return look


def _lock(out: Location, path: Location, stack: contextlib.ExitStack) -> bool:
    """Lock the folder against other processes of this machine until this process ends.

    Returns:
        Whether that was possible: some file systems have no locks.
    """
    try:
        return stack.enter_context(storage_of(out).lock(out / f"{FILES}.lock", 0))
    except TimeoutError:
        lease = _read(path)
        raise _in_use(out, "it has just begun" if lease is None else lease.who) from None


def _take(
    path: Location, mine: _Lease, out: Location, locked: bool, notify: Callable[[str], object]
) -> None:
    """Become the holder, in place of a dead one if necessary."""
    content = _content(mine)
    while not create(path, content):
        holder = _read(path)
        if holder is None:
            continue  # the holder has just ended
        if not (locked and holder.host == mine.host):  # a live holder would have the lock
            notify(f"--out {out} is held by {holder.who}; waiting for its heartbeat")
            if _alive(path, holder):
                raise _in_use(out, holder.who)
            log.warning("%s was held by %s, which is silent", out, holder.who)
        _remove(path, holder)


def _alive(path: Location, holder: _Lease) -> bool:
    """Return whether the file changes, timed by the local clock, since clocks may differ."""
    began = time.monotonic()
    while time.monotonic() - began < _SILENCE:
        time.sleep(_BEAT / 5)
        if _read(path) != holder:
            return True
    return False


def _remove(path: Location, holder: _Lease) -> None:
    """Remove the file of a dead holder, unless another command has replaced it."""
    if _read(path) == holder:
        remove(path)


def _in_use(out: Location, who: str) -> UserError:
    return UserError(
        f"--out {out} is in use by another command ({who}); wait for its end, or give another "
        "folder"
    )


class _Keeper:
    """Thread that updates the file of a lease until its end."""

    def __init__(self, path: Location, mine: _Lease, stop: Stop) -> None:
        self._path, self._mine, self._stop = path, mine, stop
        self._lock = threading.RLock()  # a signal handler may need it, too
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._ended.wait(_BEAT):
            self.beat()

    def beat(self) -> None:
        """Update the file, or stop if another command holds the folder."""
        with self._lock:
            if self._ended.is_set():
                return
            try:
                found = _read(self._path)
                if found is not None and found.token != self._mine.token:
                    self._ended.set()
                    self._stop.ask(f"{found.who} has taken over")
                    return
                beat = self._mine.beat + 1
                self._mine = replace(self._mine, beat=beat, stopping=self._stop.asked)
                replace_file(self._path, _content(self._mine))
            except OSError as error:  # a full disk, an unreachable server: the next may succeed
                log.info("no heartbeat in %s: %s", self._path, error)

    def end(self) -> None:
        """Release the folder."""
        with self._lock:
            lost = self._ended.is_set()
            self._ended.set()
            if not lost:
                with contextlib.suppress(OSError):
                    _remove(self._path, self._mine)
        self._thread.join()


def _content(lease: _Lease) -> bytes:
    return (json.dumps(asdict(lease), indent=1) + "\n").encode()


def _read(path: Location) -> _Lease | None:
    """Return the holder of the folder; None if there is none.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        return _Lease(**json_text.parse(read(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return _Lease("damaged", 0, "an unknown host", "an unknown time")
