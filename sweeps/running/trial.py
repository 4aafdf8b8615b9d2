"""What one trial does: its trainings side by side, and how each of them ended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from rkd_core.datasets import Dataset
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError, StoppedError
from rkd_core.results import ledger
from rkd_core.specs import TrainingSpec, run_id
from rkd_core.teachers.answers import cache_logits
from rkd_core.training import Progress, train
from rkd_core.training.validation_schedule import Looks
from sweeps.running.failures import describe, details, halts

__all__ = ["carry_out"]

log = logging.getLogger(__name__)

Watching = Callable[[Sequence[str]], contextlib.AbstractContextManager[object]]

_REPORTED = (
    "val_average_accuracy",
    "val_worst_class_accuracy",
    "train_loss",
    "train_seconds",
    "epochs",
)


def carry_out(
    specs: Sequence[TrainingSpec],
    students: Sequence[TrainingSpec],
    *,
    dataset: Dataset,
    out: Path,
    execution: Execution,
    report: Callable[[Progress], None],
    checkpoint_every: int | None = None,
    looks: Looks | None = None,
    until: int | None = None,
    stop: Callable[[], bool] | None = None,
    watching: Watching = contextlib.nullcontext,
) -> Iterator[dict[str, Any]]:
    """Train, then have the new teachers asked, and say how each training ended.

    Args:
        specs: What to train side by side.
        students: Specs of students that wait for these trainings, one for each of their arrays.
        dataset: The data of all of them.
        out: Results folder.
        execution: Device, precision and threads.
        report: Called after every epoch of every training.
        checkpoint_every: Epochs between checkpoints; None: one when a minute has passed.
        looks: When validation is looked at on the way; None: a few times, where that costs little.
        until: Epochs after which to stop, for the pruner to look; None: at the end.
        stop: Asked before every step whether to save and stop.
        watching: Callable that takes run ids and returns a context that ends a training that hangs.

    Yields:
        For each spec its ``run_id`` and ``status``: ``completed`` or ``pruned`` with the figures
        of its record, or with ``cause`` and ``details`` ``failed``; ``stopped``; ``halted``, since
        no other training would fare better; or ``dying`` before an error is raised.

    Raises:
        torch.AcceleratorError: The process can use its GPU no more and has to go.
    """
    by_id = {run_id(spec, dataset.fingerprint): spec for spec in specs}
    completed: dict[str, dict[str, Any]] = {}
    failures: dict[str, Exception] = {}
    parts = [list(by_id)]
    try:
        while parts:
            part = parts.pop(0)
            try:
                with watching(part):
                    rows = train(
                        [by_id[identity] for identity in part],
                        out=out,
                        data=dataset,
                        execution=execution,
                        report=report,
                        checkpoint_every=checkpoint_every,
                        looks=looks,
                        until=until,
                        stop=stop,
                    )
            except torch.AcceleratorError:
                raise
            except torch.OutOfMemoryError as error:
                if len(part) > 1:  # side by side they do not fit: each half by itself
                    log.warning("%d trainings side by side: %s", len(part), error)
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
                else:  # a traceback would hold on to the memory
                    failures[part[0]] = error.with_traceback(None)
            except Exception as error:  # whatever it is, it is these trainings', and is recorded
                found = {identity: ledger.find(out, identity) for identity in part}
                completed |= {identity: row for identity, row in found.items() if row}
                failures |= dict.fromkeys(part, error)
            else:
                completed |= dict(zip(part, rows, strict=True))
        if stop is None or not stop():
            taught = [s for s in students if s.teacher and s.teacher.run_id in completed]
            with watching([*by_id]):
                _ask(taught, dataset, out, execution)
    except torch.AcceleratorError as error:
        for identity in by_id:
            yield {"run_id": identity, "status": "dying", "cause": describe(error)}
        raise
    for identity in by_id:
        if identity in completed:
            figures = {name: completed[identity][name] for name in _REPORTED}
            yield {"run_id": identity, "status": completed[identity]["status"]} | figures
            continue
        yield _failure(identity, failures[identity])


def _failure(identity: str, error: Exception) -> dict[str, Any]:
    cause, status = describe(error), "failed"
    if isinstance(error, DivergedError) and identity in error.causes:
        cause = f"DivergedError: {error.causes[identity]}"  # its own, of several
    elif isinstance(error, StoppedError):
        status = "stopped"
    elif halts(error):
        status = "halted"
    return {"run_id": identity, "status": status, "cause": cause, "details": details(error)}


def _ask(
    students: Sequence[TrainingSpec], dataset: Dataset, out: Path, execution: Execution
) -> None:
    """Have teachers asked for what their students will want to know."""
    for student in students:
        try:
            cache_logits(student, dataset, out, execution)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # its students will meet it, and report it as theirs
            log.warning("a teacher is not asked yet: %s", error)
