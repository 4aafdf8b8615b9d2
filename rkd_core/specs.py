"""What one training is: a frozen, typed description, and the run id that is its digest.

Nothing in a spec says where or how fast something runs. Two specs with the same digest on the
same data are the same training, so the second one is found, not redone.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "MATH_VERSION",
    "DataOptions",
    "MultiplierOptions",
    "Objective",
    "Recipe",
    "TeacherRef",
    "TrainingSpec",
    "family_id",
    "run_id",
]

MATH_VERSION = 1
"""Part of every run id. Raise it when, and only when, the same spec would train differently."""

Objective = Literal["standard", "balanced", "robust", "tradeoff"]
Stage = Literal["teacher", "student"]


class Frozen(BaseModel):
    """A value: immutable, hashable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataOptions(Frozen):
    """How the training, validation and test sets are cut from the source.

    The source itself is identified by its fingerprint, never by its name or place.
    """

    imbalance: float | None = Field(default=None, ge=1)
    """Ratio of the largest class to the smallest; None leaves the training set as it is."""
    profile: Literal["exponential", "step"] = "exponential"
    limit_train: int | None = Field(default=None, ge=1)
    """Size of a class-proportional subset of the training set, taken after the profile."""
    subset_seed: int = Field(default=0, ge=0)
    """Which images of a class the profile and the limit keep."""
    image_size: int | None = Field(default=None, ge=4)
    """Side in pixels that every image is resized and centre-cropped to; None keeps their size."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the halving of the original test set into validation and test."""
    stratified: bool = False
    """Halve each class rather than the whole."""


class Recipe(Frozen):
    """Optimiser, schedule and augmentation: SGD with (Nesterov) momentum."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    drop_last: bool = True
    """Drop an epoch's last, smaller batch (unless it is the only one)."""
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=1e-4, ge=0)
    decay_norm: bool = True
    """Whether weight decay also reaches batch norm's scale and shift."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    warmup: float = Field(default=0, ge=0, lt=1)
    """Share of the training over which the learning rate rises linearly from zero."""
    milestones: tuple[float, ...] = ()
    """Shares of the training at which a step schedule multiplies the rate by ``decay``."""
    decay: float = Field(default=0.1, gt=0, le=1)
    crop_padding: int = Field(default=0, ge=0)
    """Pixels of padding before a random crop back to size; 0 for no random crop."""
    flip: bool = False
    """Whether images are mirrored left to right with probability one half."""
    normalization: Literal["per_channel", "centered"] = "per_channel"
    """``per_channel``: training mean and standard deviation; ``centered``: x / 255 - 0.5."""

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        if any(not 0 < m < 1 for m in self.milestones):
            raise ValueError("milestones are shares of the training, between 0 and 1")
        return self


class MultiplierOptions(Frozen):
    """Algorithm 1's exponentiated-gradient ascent on the class multipliers (Wang et al. 2023)."""

    step_size: float = Field(default=0.1, gt=0)
    period: int | None = Field(default=32, ge=1)
    """SGD steps between updates, counted anew each epoch from its first; None: once an epoch."""
    batch: int | None = Field(default=4096, ge=1)
    """Validation images per update, shuffled and cycled; None: all of them."""
    val_labels: Literal["teacher", "true"] = "teacher"
    """Whose labels a student's risks are measured with; a teacher always uses the true ones."""
    averaged_iterates: int | None = Field(default=None, ge=2)
    """None: the model is the last iterate, which Wang et al. find sufficient. N: it is the mean
    logits of the iterates at the end of N epochs spread evenly over the training."""


class TeacherRef(Frozen):
    """What a student's spec says of its teacher."""

    run_id: str
    family: str
    architecture: str
    objective: Objective
    alpha: float | None = Field(default=None, ge=0, le=1)


class TrainingSpec(Frozen):
    """One training, resolved: nothing is left to a default that could change under it."""

    stage: Stage
    dataset: str
    """A name for people. It is not part of the digest; the data's fingerprint is."""
    data: DataOptions = DataOptions()
    architecture: str
    objective: Objective
    alpha: float | None = Field(default=None, ge=0, le=1)
    """Trade-off between the balanced (0) and the robust (1) objective; None for the others."""
    temperature: float | None = Field(default=None, gt=0)
    """Divides the teacher's logits, and only the teacher's; None for a teacher."""
    recipe: Recipe
    multipliers: MultiplierOptions | None = None
    """None where none are used: standard, balanced, and tradeoff with an alpha of 0."""
    scale_by_classes: bool = False
    """Whether the margin loss carries the factor 1/m of eq. 9 (Wang et al. 2023)."""
    teacher: TeacherRef | None = None
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> TrainingSpec:
        student = self.stage == "student"
        if student != (self.teacher is not None) or student != (self.temperature is not None):
            raise ValueError("a student has a teacher and a temperature, a teacher has neither")
        if (self.objective == "tradeoff") != (self.alpha is not None):
            raise ValueError("alpha belongs to the tradeoff objective, and only to it")
        ascends = self.objective == "robust" or (self.objective == "tradeoff" and self.alpha != 0)
        if ascends != (self.multipliers is not None):
            raise ValueError("multipliers belong to robust, and to tradeoff with an alpha above 0")
        averaged = self.multipliers.averaged_iterates if self.multipliers else None
        if averaged is not None and averaged > self.recipe.epochs:
            raise ValueError("averaged_iterates cannot exceed the epochs")
        return self

    @property
    def method(self) -> str:
        """Registry name of the training method, as the records carry it."""
        return "standard" if self.objective == "standard" else "tradeoff"


_SWEPT = ("objective", "alpha", "multipliers", "temperature", "seed")


def run_id(spec: TrainingSpec, fingerprint: str) -> str:
    """Digest of the resolved spec, the data's fingerprint and the version of the mathematics.

    Moving the data, renaming it, changing the device or the number of workers leaves it as it
    is. A student's spec holds its teacher's run id, so the whole lineage is in the digest.
    """
    fields = _fields(spec, "dataset")
    return _digest({"spec": fields, "data": fingerprint, "mathematics": MATH_VERSION})


def family_id(spec: TrainingSpec, fingerprint: str) -> str:
    """Digest of what one sweep holds fixed: all of the spec but objective, temperature and seed.

    Only runs of one family may be compared with one another: a folder may hold several, such as
    a first try of one epoch and the real sweep. A student's family includes its teacher's.
    """
    fields = _fields(spec, "dataset", *_SWEPT)
    if spec.teacher is not None:
        fields["teacher"] = spec.teacher.family
    return _digest({"spec": fields, "data": fingerprint, "mathematics": MATH_VERSION})


def _fields(spec: TrainingSpec, *but: str) -> dict[str, Any]:
    """What a digest sees: the fields that differ from their defaults.

    So a field that is added later, at a default that means "as before", changes no run id.
    Defaults are therefore never changed (a test pins them).
    """
    return spec.model_dump(mode="json", exclude=set(but), exclude_defaults=True)


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
