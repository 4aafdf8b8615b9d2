"""Which runs of a results folder are compared with one another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rkd_core import records
from rkd_core.errors import UserError

__all__ = ["Runs", "load"]


@dataclass(frozen=True, eq=False)
class Runs:
    """Completed records that belong together.

    Attributes:
        students: Students of one family, one row per run, at least one.
        teachers: Their teachers, as far as they have records.
        notes: One line for each thing that was left out.
    """

    students: pa.Table
    teachers: pa.Table
    notes: tuple[str, ...]


def load(results: Path, run_ids: Iterable[str] | None = None, family: str | None = None) -> Runs:
    """Read the records of one sweep.

    Args:
        results: A results folder, with ``records/`` and perhaps the ``plan.json`` of a sweep.
        run_ids: The runs to compare; None for those of ``plan.json``, or all if there is none.
        family: Compare all completed students of this family, whatever sweep they belong to. None
            for the one family there is, or the one with the most recently started student.

    Raises:
        UserError: There is nothing to compare there, or something there is not a record.
    """
    if not results.exists():
        raise UserError(f"{results} does not exist; name the results folder of a sweep")
    if not results.is_dir():
        raise UserError(f"{results} is not a folder; name the results folder of a sweep")
    folder = results / "records"
    if not folder.is_dir():
        raise UserError(f"{results} has no records folder; name the results folder of a sweep")
    if run_ids is None and family is None:
        run_ids = _planned(results / "plan.json")

    table = records.read(folder, run_ids)
    if len(table) == 0:
        which = "" if run_ids is None else " of the planned runs"
        raise UserError(f"{folder} holds no records{which}; run the sweep first")
    is_completed = pc.equal(table["status"], "completed")
    is_student = pc.equal(table["stage"], "student")
    completed = table.filter(pc.and_(is_completed, is_student))
    if len(completed) == 0:
        raise UserError(f"{folder} holds no completed student; run the sweep first")
    latest, others = _families(completed)
    if family is not None and family not in (latest, *others):
        known = ", ".join([latest, *others][:5])
        raise UserError(f"{folder} holds no completed student of family {family}; there is {known}")
    chosen = family or latest
    students = completed.filter(pc.equal(completed["family"], chosen))

    teachers = records.read(folder, pc.unique(students["teacher_id"].drop_null()).to_pylist())
    teachers = teachers.filter(pc.equal(teachers["status"], "completed"))

    notes = []
    if len(completed) > len(students):
        apart = [name for name in (latest, *others) if name != chosen]
        notes.append(
            f"{_runs(len(completed) - len(students), 'student')} of {len(apart)} other "
            f"{'family' if len(apart) == 1 else 'families'} left out; this is family {chosen} "
            f"(--family chooses: {', '.join(apart[:3])}{', ...' if len(apart) > 3 else ''})"
        )
    same = pc.or_(pc.invert(is_student), pc.equal(table["family"], chosen))
    ended = table.filter(pc.and_(pc.invert(is_completed), same))["status"]
    for count in sorted(ended.value_counts().to_pylist(), key=lambda c: str(c["values"])):
        notes.append(f"{_runs(count['counts'], count['values'] + ' run')} left out")
    return Runs(students, teachers, tuple(notes))


def _planned(path: Path) -> list[str] | None:
    """The run ids of a plan, or None if there is no plan."""
    try:
        run_ids = json.loads(path.read_text(encoding="utf-8"))["run_ids"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the plan of a sweep (no list run_ids); move it away"
        ) from error
    if not isinstance(run_ids, list) or not all(isinstance(r, str) for r in run_ids):
        raise UserError(f"{path} is not the plan of a sweep (no list run_ids); move it away")
    return run_ids


def _families(students: pa.Table) -> tuple[str, list[str]]:
    """The family with the most recently started student, and the others, latest first."""
    if students["family"].null_count:
        row = pc.index(students["family"].is_null(), True).as_py()
        raise UserError(f"record {students['run_id'][row]} is completed but has no family")
    started = students.group_by("family").aggregate([("started_at", "max")])
    times = started["started_at_max"].cast(pa.int64()).fill_null(np.iinfo(np.int64).min)
    order = pc.sort_indices(
        pa.table({"time": times, "family": started["family"]}),
        sort_keys=[("time", "descending"), ("family", "ascending")],
    )
    names = started["family"].take(order).to_pylist()
    return names[0], names[1:]


def _runs(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
