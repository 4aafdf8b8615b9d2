"""Rows of records in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rkd_core.records.schema import SCHEMA, SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from rkd_core.specs import TrainingSpec

__all__ = ["family_without_teacher", "identity"]


def identity(spec: TrainingSpec, run_id: str, fingerprint: str) -> Record:
    """Return a record of what was, or should have been, trained; all other columns are None."""
    from rkd_core.specs import family_id

    teacher = spec.teacher
    teaching = spec if spec.stage == "teacher" else teacher  # has the teacher's objective
    # Other methods have the standard objective, except for students without a teacher.
    named = spec.stage == "student" and (spec.variant is None or spec.objective != "standard")
    columns = dict.fromkeys(SCHEMA.names) | {
        "run_id": run_id,
        "teacher_id": None if teacher is None else teacher.run_id,
        "family": family_id(spec, fingerprint),
        "stage": spec.stage,
        "method": spec.method,
        "variant": None if spec.variant is None else spec.variant.label,
        "teacher_objective": None if teaching is None else teaching.objective,
        "student_objective": spec.objective if named else None,
        "alpha_t": None if teaching is None else teaching.alpha,
        "alpha_s": spec.alpha if named else None,
        "temperature": spec.temperature,
        "tuned": spec.tuning,
        "dataset": spec.dataset,
        "data_fingerprint": fingerprint,
        "architecture": spec.architecture,
        "seed": spec.seed,
        "epochs": spec.epochs,
        "spec": spec.model_dump_json(),
        "schema_version": SCHEMA_VERSION,
    }
    return cast(Record, columns)


def family_without_teacher(spec: str, fingerprint: str) -> str | None:
    """Return the family of a student's counterparts that have no teacher.

    Args:
        spec: Spec of the student, as its record holds it.
        fingerprint: Fingerprint of the data.

    Returns:
        The family; None if the spec is not valid.
    """
    from pydantic import ValidationError  # slow imports, which only records of two versions need

    from rkd_core.specs import TrainingSpec, family_id

    try:
        student = TrainingSpec.model_validate_json(spec)
    except ValidationError:
        return None
    return family_id(student.model_copy(update={"teacher": None}), fingerprint)
