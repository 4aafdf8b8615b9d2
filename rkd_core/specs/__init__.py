"""Specs: frozen descriptions of trainings, and the run ids that are their digests."""

from rkd_core.specs.identity import (
    MATH_VERSION,
    array_key,
    family_id,
    revision,
    run_id,
)
from rkd_core.specs.spec import (
    GIVEN_LOGITS,
    Augmentation,
    DataOptions,
    Derivation,
    HoldoutRule,
    MultiplierOptions,
    Normalization,
    ObjectiveName,
    Recipe,
    Stage,
    TeacherRef,
    TrainingSpec,
    Tuned,
    Variant,
)

__all__ = [
    "GIVEN_LOGITS",
    "MATH_VERSION",
    "Augmentation",
    "DataOptions",
    "Derivation",
    "HoldoutRule",
    "MultiplierOptions",
    "Normalization",
    "ObjectiveName",
    "Recipe",
    "Stage",
    "TeacherRef",
    "TrainingSpec",
    "Tuned",
    "Variant",
    "array_key",
    "family_id",
    "revision",
    "run_id",
]
