"""Execution of one trial: trainings side by side, and their outcomes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from rkd_core.datasets import Dataset
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError, StoppedError
from rkd_core.records import Record
from rkd_core.results import ledger
from rkd_core.specs import TrainingSpec, run_id
from rkd_core.storage.files import Location
from rkd_core.teachers.answers import cache_logits
from rkd_core.training import TrainingControls, train
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
    out: Location,
    execution: Execution,
    controls: TrainingControls = TrainingControls(),
    watching: Watching = contextlib.nullcontext,
) -> Iterator[dict[str, Any]]:
    """Train, compute the logits of new teachers, and yield the outcome of each training.

    Args:
        specs: Specs of the trainings to run side by side.
        students: Specs of students that wait for these trainings, one for each of their arrays.
        dataset: Data set of all specs.
        out: Results folder.
        execution: Device, precision and threads.
        controls: Progress reports, checkpoints, validations and stop conditions.
        watching: Function that returns, for run ids, a context that ends hanging trainings.

    Yields:
        The ``run_id`` and ``status`` of each spec. The status is ``completed`` or ``pruned``, with
        figures of the record; or, with ``cause`` and ``details``, ``failed``, ``stopped``,
        ``halted`` if all other trainings would fail, too, or ``dying`` before an error is raised.

    Raises:
        torch.AcceleratorError: The process can no longer use its GPU and has to end.
    """
    by_id = {run_id(spec, dataset.fingerprint): spec for spec in specs}
    completed: dict[str, Record] = {}
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
                        controls=controls,
                    )
            except torch.AcceleratorError:
                raise
            except torch.OutOfMemoryError as error:
                if len(part) > 1:  # too many side by side: retry each half separately
                    log.warning("%d trainings side by side: %s", len(part), error)
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
                else:  # a traceback would keep the memory allocated
                    failures[part[0]] = error.with_traceback(None)
            except Exception as error:  # any error is recorded as the cause of these trainings
                found = {identity: ledger.find(out, identity) for identity in part}
                completed |= {identity: row for identity, row in found.items() if row}
                failures |= dict.fromkeys(part, error)
            else:
                completed |= dict(zip(part, rows, strict=True))
        if controls.stop is None or not controls.stop():
            taught = [s for s in students if s.teacher and s.teacher.run_id in completed]
            with watching([*by_id]):
                _ask(taught, dataset, out, execution)
    except torch.AcceleratorError as error:
        for identity in by_id:
            yield {"run_id": identity, "status": "dying", "cause": describe(error)}
        raise
    for identity in by_id:
        if identity in completed:
            row: Mapping[str, Any] = completed[identity]
            figures = {name: row[name] for name in _REPORTED}
            yield {"run_id": identity, "status": row["status"]} | figures
            continue
        yield _failure(identity, failures[identity])


def _failure(identity: str, error: Exception) -> dict[str, Any]:
    cause, status = describe(error), "failed"
    if isinstance(error, DivergedError) and identity in error.causes:
        cause = f"DivergedError: {error.causes[identity]}"  # its own cause, of several
    elif isinstance(error, StoppedError):
        status = "stopped"
    elif halts(error):
        status = "halted"
    return {"run_id": identity, "status": status, "cause": cause, "details": details(error)}


def _ask(
    students: Sequence[TrainingSpec], dataset: Dataset, out: Location, execution: Execution
) -> None:
    """Compute the logits of teachers for their students."""
    for student in students:
        try:
            cache_logits(student, dataset, out, execution)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # its students will fail in the same way and report it
            log.warning("a teacher is not asked yet: %s", error)
