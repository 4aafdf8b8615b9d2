"""Run ids: digests of a spec, the data and the version of the mathematics.

Two specs with the same run id describe the same training, so the second one reuses the result of
the first.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from rkd_core.specs.spec import TrainingSpec

__all__ = ["MATH_VERSION", "array_key", "family_id", "revision", "run_id"]

MATH_VERSION = 1
"""Part of every run id. Raise it if, and only if, every spec would train differently."""

_REVISIONS: dict[str, dict[str, int]] = {
    "architecture": {"resnet32_google": 2, "resnet56_google": 2},
    "method": {"cat_kd": 2},
}
"""Revisions of networks and methods whose computation or training has changed; others have 1.

A revision above 1 enters the digests of those runs only, so raise it here if a single network or
method changes (``docs/run-ids.md`` lists them).
"""


def array_key(spec: TrainingSpec) -> tuple[object, ...]:
    """Return a key that is equal for trainings with the same batches and teacher.

    Such trainings can run side by side.
    """
    teacher = None if spec.teacher is None else spec.teacher.run_id
    needs = None if spec.variant is None else spec.variant.build().needs
    sampling = "all" if needs is None else needs.sampling
    looks = needs is not None and (needs.features or needs.maps)  # teacher on every batch
    images = spec.dataset, spec.data, spec.held_out, sampling
    shared = spec.recipe, spec.epochs, spec.seed, teacher, looks, spec.given_logits
    return spec.stage, images, *shared


def revision(kind: Literal["architecture", "method"], name: str) -> int:
    """Return the revision of a network or method; 1 if it has not changed."""
    return _REVISIONS[kind].get(name, 1)


_SWEPT = (
    "objective",
    "objective_digest",
    "alpha",
    "multipliers",
    "temperature",
    "seed",
    "variant",
    "initial",
)


def run_id(spec: TrainingSpec, fingerprint: str) -> str:
    """Return the digest of a spec, its data's fingerprint and the version of the mathematics.

    It does not change if the data are moved or renamed, or if the device or the number of workers
    changes. A student's spec contains its teacher's run id, so the digest covers the whole lineage.
    """
    method = getattr(spec.variant, "method", "")
    return _digest(_fields(spec, "dataset"), fingerprint, spec.architecture, method)


def family_id(spec: TrainingSpec, fingerprint: str) -> str:
    """Return the digest of the fields of a spec that are constant in a sweep.

    These are all fields except objective, method, temperature and seed. Only runs of one family can
    be compared; a folder may hold several families, such as a trial of one epoch and the full
    sweep. The digest of a student includes the family of its teacher. A student that only shifts
    the logits of its teacher belongs to the family of the teacher, a derived teacher to that of its
    source, and a student that a search has tuned to that of the sweep.
    """
    if spec.derived is not None:
        return spec.derived.source.family
    if spec.teacher is not None and spec.epochs == 0:
        return spec.teacher.family
    if spec.tuned is not None:
        of_sweep = spec.tuned.model_dump(exclude_none=True, exclude={"multiplier_step_size"})
        recipe = spec.recipe.model_copy(update=of_sweep)
        spec = spec.model_copy(update={"recipe": recipe, "tuned": None})
    fields = _fields(spec, "dataset", *_SWEPT)
    if spec.teacher is not None:
        fields["teacher"] = spec.teacher.family
    return _digest(fields, fingerprint, spec.architecture)


def _fields(spec: TrainingSpec, *but: str) -> dict[str, Any]:
    """Return the fields that enter a digest: those that differ from their defaults.

    A field that is added later therefore changes no run id if its default keeps the behavior.
    Defaults must never change (a test pins them).
    """
    return spec.model_dump(mode="json", exclude=set(but), exclude_defaults=True)


def _digest(fields: dict[str, Any], fingerprint: str, architecture: str, method: str = "") -> str:
    value: dict[str, Any] = {"spec": fields, "data": fingerprint, "mathematics": MATH_VERSION}
    revisions = {
        "architecture": revision("architecture", architecture),
        "method": revision("method", method),
    }
    if later := {kind: number for kind, number in revisions.items() if number > 1}:
        value["revisions"] = later
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
