"""Execution of one trial: trainings side by side, and their outcomes."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from rkd_core.training.steps import RecordingError, RecordingMemoryError
from sweeps.running.failures import describe, details, halts
from sweeps.running.new_process import train_in_new_process

__all__ = ["carry_out", "spoiled"]

log = logging.getLogger(__name__)

Watching = Callable[[Sequence[str]], contextlib.AbstractContextManager[object]]

_REPORTED = (
    "val_average_accuracy",
    "val_worst_class_accuracy",
    "train_loss",
    "train_seconds",
    "epochs",
)

_spoiled = False


def spoiled() -> bool:
    """Return whether a recording has failed in this process, so that it trains no more itself."""
    return _spoiled


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
    try:
        completed, failures = _train_in_parts(by_id, dataset, out, execution, controls, watching)
        if not _spoiled and (controls.stop is None or not controls.stop()):
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


def _train_in_parts(
    by_id: Mapping[str, TrainingSpec],
    dataset: Dataset,
    out: Location,
    execution: Execution,
    controls: TrainingControls,
    watching: Watching,
) -> tuple[dict[str, Record], dict[str, Exception]]:
    """Train all at once, or in parts if they do not fit; return records and errors by run id.

    Raises:
        torch.AcceleratorError: See ``carry_out``.
    """
    global _spoiled  # noqa: PLW0603 - one state per process
    completed: dict[str, Record] = {}
    failures: dict[str, Exception] = {}
    parts = [list(by_id)]
    while parts:
        part = parts.pop(0)
        try:
            with watching(part):
                rows = (train_in_new_process if _spoiled else train)(
                    [by_id[identity] for identity in part],
                    out=out,
                    data=dataset,
                    execution=execution,
                    controls=controls,
                )
        except torch.AcceleratorError:
            raise
        except torch.OutOfMemoryError as error:
            _spoiled |= isinstance(error, RecordingMemoryError)
            _probe(execution)
            if len(part) > 1:  # too many side by side: retry each half separately
                log.warning("%d trainings side by side: %s", len(part), error)
                parts += [part[: len(part) // 2], part[len(part) // 2 :]]
            else:  # a traceback would keep the memory allocated
                failures[part[0]] = error.with_traceback(None)
        except RecordingError as error:
            how = "uncompiled" if error.compiled else "unrecorded"
            log.warning("%s; they are repeated in another process, %s", error, how)
            _spoiled = True
            execution = (
                replace(execution, compiled=False)
                if error.compiled
                else replace(execution, recorded=False)
            )
            parts.insert(0, part)
        except Exception as error:  # any error is recorded as the cause of these trainings
            _probe(execution)
            found = {identity: ledger.find(out, identity) for identity in part}
            completed |= {identity: row for identity, row in found.items() if row}
            failures |= dict.fromkeys(part, error)
        else:
            completed |= dict(zip(part, rows, strict=True))
        if _spoiled:
            _release(execution)
    return completed, failures


def _probe(execution: Execution) -> None:
    """Check that the GPU can still be used, since errors are reported late.

    Raises:
        torch.AcceleratorError: It cannot be used by this process.
    """
    if execution.on_gpu:
        torch.cuda.synchronize()


def _release(execution: Execution) -> None:
    """Leave as much memory of the GPU as possible to another process."""
    gc.collect()
    if execution.on_gpu:
        torch.cuda.empty_cache()


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
            _probe(execution)
            log.warning("a teacher is not asked yet: %s", error)
