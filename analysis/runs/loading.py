"""Loading of the runs to compare from a results folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs import image_groups
from analysis.runs.columns import FloatArray
from analysis.runs.image_groups import ImageGroups
from rkd_core import plugins, records
from rkd_core.errors import UserError
from rkd_core.metrics import shift_family
from rkd_core.records import shifts
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text

__all__ = ["WITHOUT_TEACHER", "Runs", "load", "planned"]

Row = Mapping[str, Any]

WITHOUT_TEACHER = "one_hot"
"""Method of a student without a teacher, as records name it."""


_OF_STUDENT = (
    "run_id",
    "teacher_id",
    "stage",
    "method",
    "variant",
    "teacher_objective",
    "student_objective",
    "alpha_t",
    "alpha_s",
    "temperature",
    "tuned",
    "architecture",
    "epochs",
    "seed",
    "val_class_total",
    "val_class_correct",
    "test_class_total",
    "test_class_correct",
)
"""Columns of a shifted student; others, such as the log-loss, are those of the student alone."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Completed records of a sweep, with its teachers and other methods.

    Attributes:
        students: Students of the grid, one row per run, at least one. They are of one family, or
            of families that differ in the network of the students only.
        variants: Students of other methods on the same data with the same networks and recipe.
        teachers: Teachers of the students, as far as they have records.
        notes: One line for each group of excluded records.
        every: All records that were considered, whether completed or not.
        shifted: Shifted students, with a teacher or without one, in the columns of records and
            ``shift``, with the run ids of the trained students; validation counts are cross-fitted.
        results: Results folder that they were read from; None for none.
        missing: Number of the given or planned runs without a record.
        shift_vectors: Shifts of the students' logits by run id, ``(strengths, classes)``, in the
            order of ``rkd_core.metrics.shift_family.ALPHAS``.
        groups: Groups of images that the results folder keeps; None for none.
    """

    students: pa.Table
    variants: pa.Table
    teachers: pa.Table
    notes: tuple[str, ...]
    every: pa.Table = field(default_factory=records.SCHEMA.empty_table)
    shifted: pa.Table | None = None
    results: Location | None = None
    missing: int = 0
    shift_vectors: Mapping[str, FloatArray] = field(default_factory=dict)
    groups: ImageGroups | None = None

    @property
    def candidates(self) -> pa.Table:
        """Students and shifted students, in the columns of records and perhaps ``shift``."""
        return self._with_shifts(self.students, pc.field("variant").is_null())

    @property
    def undistilled(self) -> pa.Table:
        """Students without a teacher, shifted or not, in the columns of ``candidates``."""
        alone = _undistilled(self.variants)
        return self._with_shifts(alone, pc.field("method") == WITHOUT_TEACHER)

    def _with_shifts(self, students: pa.Table, among: pc.Expression) -> pa.Table:
        shifted = None if self.shifted is None else self.shifted.filter(among)
        if not shifted:
            return students
        return pa.concat_tables([students, shifted], promote_options="default")

    def with_shift(self, strength: float) -> pa.Table:
        """Return the students with a shift of this strength, NaN for none."""
        shifted = None if np.isnan(strength) else self.candidates
        return self.students if shifted is None else shifted.filter(pc.field("shift") == strength)


def load(
    results: Location, run_ids: Iterable[str] | None = None, family: str | None = None
) -> Runs:
    """Read the records of one sweep.

    Args:
        results: A results folder, with ``records/`` and perhaps the ``plan.json`` of a sweep.
        run_ids: The runs to compare; None for those of ``plan.json``, or all if there is none.
        family: Compare all completed students of this family, of any sweep. None for the family
            with the most recently started student and, of one sweep, those of its other networks.

    Raises:
        UserError: There is nothing to compare, or a file is not a record.
    """
    if not files.exists(results):
        raise UserError(f"{results} does not exist; name the results folder of a sweep")
    if not files.is_folder(results):
        raise UserError(f"{results} is not a folder; name the results folder of a sweep")
    folder = results / "records"
    if not files.is_folder(folder):
        raise UserError(f"{results} has no records folder; name the results folder of a sweep")
    if run_ids is None and family is None:
        run_ids = planned(results / "plan.json")

    plugins.search(results)
    wanted = {*(run_ids or ())}
    table = records.read(folder, run_ids if run_ids is None else wanted)
    if len(table) == 0:
        which = "" if run_ids is None else " of the planned runs"
        raise UserError(f"{folder} holds no records{which}; run the sweep first")
    is_completed = pc.equal(table["status"], "completed")
    is_student = pc.equal(table["stage"], "student")
    on_grid = table["variant"].is_null()
    completed = table.filter(pc.and_(pc.and_(is_completed, is_student), on_grid))
    if len(completed) == 0:
        raise UserError(f"{folder} holds no completed student; run the sweep first")
    latest, others = _families(completed)
    if family is not None and family not in (latest, *others):
        known = ", ".join([latest, *others][:5])
        raise UserError(f"{folder} holds no completed student of family {family}; there is {known}")
    chosen = family or latest
    compared = {chosen: _example(completed, chosen)}
    if family is None and run_ids is not None:
        compared |= _of_other_networks(completed, chosen, others)
    students = completed.filter(pc.is_in(completed["family"], value_set=pa.array([*compared])))
    masks = [_beside(table, example) for example in compared.values()]
    same = reduce(pc.or_, masks)
    variants = table.filter(pc.and_(pc.and_(is_completed, pc.invert(on_grid)), same))

    teachers = records.read(folder, pc.unique(students["teacher_id"].drop_null()).to_pylist())
    teachers = teachers.filter(pc.equal(teachers["status"], "completed"))

    notes = []
    if len(completed) > len(students):
        apart = [name for name in (latest, *others) if name not in compared]
        notes.append(
            f"{_runs(len(completed) - len(students), 'student')} of {len(apart)} other "
            f"{'family' if len(apart) == 1 else 'families'} left out; this is family {chosen} "
            f"(--family chooses: {', '.join(apart[:3])}{', ...' if len(apart) > 3 else ''})"
        )
    ended = pc.and_(pc.invert(is_completed), pc.or_(pc.invert(is_student), same))
    ended = table.filter(ended)["status"]
    for count in sorted(ended.value_counts().to_pylist(), key=lambda c: str(c["values"])):
        notes.append(f"{_runs(count['counts'], count['values'] + ' run')} left out")
    own = pa.concat_tables([students, _undistilled(variants)])
    shifted, missing, vectors = _shifted(results, own)
    if missing and shifted is not None:
        notes.append(f"{_runs(missing, 'student')} without shifts: the same sweep computes them")
    absent = 0 if run_ids is None else len(wanted) - len(table)
    if absent:
        notes.append(f"{absent} of {len(wanted)} planned trainings have no record yet")
    return Runs(
        students,
        variants,
        teachers,
        tuple(notes),
        table,
        shifted,
        results,
        absent,
        vectors,
        image_groups.kept(results),
    )


def _undistilled(variants: pa.Table) -> pa.Table:
    """Return the students without a teacher, with the standard objective named like others."""
    alone = variants.filter(pc.equal(variants["method"], WITHOUT_TEACHER))
    place = alone.schema.get_field_index("student_objective")
    named = pc.fill_null(alone["student_objective"], "standard")  # records leave it out
    return alone.set_column(place, alone.schema.field(place), named)


def _shifted(
    results: Location, students: pa.Table
) -> tuple[pa.Table | None, int, dict[str, FloatArray]]:
    """Return the shifted students, the number of those without shifts, and the shifts by run id.

    Raises:
        UserError: A file of shifts is damaged, or is of other data.
    """
    found = shifts.read(results, students["run_id"].to_pylist())
    if len(found) == 0:
        return None, len(students), {}
    without = len(students) - pc.count_distinct(found["base_run_id"]).as_py()
    place = pc.index_in(found["base_run_id"], value_set=students["run_id"].combine_chunks())
    base = students.select(_OF_STUDENT).take(place)
    for split in ("val", "test"):
        name = f"{split}_class_total"
        for row, (own, other) in enumerate(zip(found[name], base[name], strict=True)):
            if own != other:
                path = shifts.path_of(results, found["base_run_id"][row].as_py())
                raise UserError(
                    f"{path} has other numbers of {split} images than the record of the student; "
                    "delete it, and the same sweep computes it again"
                )
    images = np.array(found["val_class_total"][0].as_py())
    offered = shift_family.offered(float(images[images > 0].mean()))
    if not offered:
        return None, 0, {}
    for name in ("val_class_correct", "test_class_correct"):
        base = base.set_column(base.schema.get_field_index(name), base.field(name), found[name])
    base = base.append_column("shift", found["alpha"])
    values = np.array(found["shift"].to_pylist(), dtype=np.float64)
    rows: dict[str, list[int]] = {}
    for row, run_id in enumerate(found["base_run_id"].to_pylist()):
        rows.setdefault(run_id, []).append(row)
    vectors = {run_id: values[places] for run_id, places in rows.items()}
    return base.filter(pc.field("shift").isin(offered)), without, vectors


def _example(students: pa.Table, family: str) -> Row:
    """Return the record of a student of a family, if possible with the recipe of the sweep."""
    own = students.filter(pc.equal(students["family"], family))
    plain = own.filter(pc.is_null(own["tuned"]))
    row: Row = (plain if len(plain) else own).slice(0, 1).to_pylist()[0]
    return row


def _of_other_networks(students: pa.Table, chosen: str, others: Sequence[str]) -> dict[str, Row]:
    """Return an example of each family that differs in the students' network only.

    There is one for each other architecture.
    """
    example = _example(students, chosen)
    setting = _setting(example, with_network=False), _teachers_family(example)
    found, networks = {}, {example["architecture"]}
    for family in others if None not in setting else ():
        row = _example(students, family)
        alike = setting == (_setting(row, with_network=False), _teachers_family(row))
        if alike and row["architecture"] not in networks:
            found[family] = row
            networks.add(row["architecture"])
    return found


def _beside(table: pa.Table, example: Row) -> pa.ChunkedArray:
    """Return a mask of the records that belong with the students of a family.

    These are the records of the family itself, of its teachers' family, and of students without a
    teacher. The teachers' family contains teacher networks that were changed without training.
    Students without a teacher have another family, since the family depends on the teacher; they
    belong if data, network and recipe are the same.

    Args:
        table: The records.
        example: One of the students.
    """
    setting = _setting(example)
    alone = pc.and_(table["variant"].is_valid(), table["teacher_id"].is_null())
    rows = [] if setting is None else table.filter(alone).to_pylist()
    found = [row["run_id"] for row in rows if _setting(row) == setting]
    if len(found) < len(rows):  # perhaps of an earlier version, whose specs lack fields
        own = records.family_without_teacher(example["spec"], example["data_fingerprint"])
        found += [row["run_id"] for row in rows if own is not None and row["family"] == own]
    families = pa.array({example["family"], _teachers_family(example)}, pa.string())
    family = pc.is_in(table["family"], value_set=families, skip_nulls=True)
    return pc.or_(family, pc.is_in(table["run_id"], value_set=pa.array(found, pa.string())))


def _teachers_family(row: Row) -> str | None:
    """Return the family of a student's teacher; None if unknown."""
    try:
        family = json_text.parse((row["spec"] or "").encode())["teacher"]["family"]
    except (ValueError, KeyError, TypeError):
        return None
    return family if isinstance(family, str) else None


def _setting(row: Row, *, with_network: bool = True) -> object:
    """Return the setting that a student shares with its family; None if unknown."""
    try:
        spec = json_text.parse((row["spec"] or "").encode())
        fields = [spec[name] for name in ("recipe", "scale_by_classes")]
        if with_network:
            fields += [spec["architecture"]]
            fields += [spec.get(name) for name in ("network_digest", "initial_weights")]
        # Fields that an older record lacks are null or 0 in a newer one.
        cut = {name: value for name, value in spec["data"].items() if value}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return row["data_fingerprint"], fields, cut


def planned(path: Location) -> list[str] | None:
    """Return the run ids of a plan, or None if there is no plan."""
    try:
        run_ids = json_text.parse(files.read(path))["run_ids"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        run_ids = None
    if not isinstance(run_ids, list) or not all(isinstance(r, str) for r in run_ids):
        raise UserError(f"{path} is not the plan of a sweep (no list run_ids); move it away")
    return run_ids


def _families(students: pa.Table) -> tuple[str, list[str]]:
    """Return the family of the most recently started student, and the others, latest first."""
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
