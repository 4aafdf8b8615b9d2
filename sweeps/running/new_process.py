"""Trainings in a new process, for a process that can no longer use its GPU fully.

Both processes share a connection. The parent sends the arguments of ``train``, and then a request
to stop, if there is one. The new process sends heartbeats, progress, and the records or an error.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch

from rkd_core.datasets import Dataset
from rkd_core.datasets.batches import heartbeat
from rkd_core.device.execution import Execution
from rkd_core.records import Record
from rkd_core.specs import TrainingSpec
from rkd_core.storage.files import Location
from rkd_core.training import TrainingControls, train

__all__ = ["train_in_new_process"]

_SECONDS = 0.5  # between heartbeats, and between checks whether to stop


def train_in_new_process(
    specs: Sequence[TrainingSpec],
    *,
    out: Location,
    data: Dataset,
    execution: Execution,
    controls: TrainingControls,
) -> list[Record]:
    """Train in a new Python process; see ``rkd_core.training.train``.

    Raises:
        RuntimeError: The process has died.
        Exception: Any error of the trainings.
    """
    remote = replace(controls, report=None, stop=None)
    given = {"out": out, "data": data, "execution": execution, "controls": remote}
    ours, theirs = Pipe()
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches this process, which stops the other
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            with contextlib.suppress(OSError):  # it has died already
                ours.send((list(specs), given))
            return _answer(ours, child, controls)
        finally:
            child.kill()
            child.wait()


def _answer(
    connection: Connection, child: subprocess.Popen[bytes], controls: TrainingControls
) -> list[Record]:
    asked_to_stop = False
    while True:
        stopping = not asked_to_stop and controls.stop is not None and controls.stop()
        try:
            if stopping:
                connection.send("stop")
                asked_to_stop = True
            if not connection.poll(_SECONDS):
                continue
            kind, content = connection.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"its process ended with exit code {child.wait()}") from None
        heartbeat.beat()
        if kind == "progress" and controls.report is not None:
            controls.report(content)
        elif kind == "error":
            raise content
        elif kind == "rows":
            rows: list[Record] = content
            return rows


def _main() -> None:
    """Carry out what the parent process asks for."""
    connection = Connection(int(sys.argv[1]))
    specs, given = connection.recv()
    stopping, one_at_a_time = threading.Event(), threading.Lock()

    def answer(kind: str, content: Any = None) -> None:
        with one_at_a_time:
            connection.send((kind, content))

    def wait_for_a_stop() -> None:
        with contextlib.suppress(EOFError, OSError):  # the parent has died
            connection.recv()
        stopping.set()

    def pass_on_heartbeats() -> None:
        reported = 0
        while not stopping.wait(_SECONDS):
            if heartbeat.beats() != reported:
                reported = heartbeat.beats()
                answer("beat")

    for function in (wait_for_a_stop, pass_on_heartbeats):
        threading.Thread(target=function, daemon=True).start()
    controls = replace(
        given.pop("controls"),
        report=lambda progress: answer("progress", progress),
        stop=stopping.is_set,
    )
    try:
        answer("rows", train(specs, controls=controls, **given))
    except torch.AcceleratorError as error:  # only this process has lost its GPU
        answer("error", RuntimeError(f"{type(error).__name__}: {error}"))
    except Exception as error:
        answer("error", error.with_traceback(None))


if __name__ == "__main__":
    _main()
