"""What a spec is made of: the data, the recipe, the multipliers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "LARGEST",
    "DataOptions",
    "Frozen",
    "HoldoutRule",
    "MultiplierOptions",
    "Normalization",
    "Recipe",
]

Normalization = Literal["per_channel", "centered", "symmetric", "imagenet"]

LARGEST = 2**63 - 1
"""That a record can hold."""


class Frozen(BaseModel):
    """A value: immutable, hashable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataOptions(Frozen):
    """How the training, validation and test sets are cut from the source.

    The source itself is identified by its fingerprint, never by its name or place.
    """

    classes: int | None = Field(default=None, ge=2)
    """Keep so many classes, drawn at random; None keeps all. Before anything else is cut."""
    class_seed: int = Field(default=0, ge=0)
    """Which classes."""
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


class HoldoutRule(Frozen):
    """Training images that a teacher does not see, so that it can be judged by them.

    Lukasik et al. (TMLR 2022): a share of the training set where classes are alike in size, some
    images of each class where they are not. See ``rkd_core.datasets.splits.hold_out``.
    """

    by: Literal["auto", "share", "per_class"] = "auto"
    """``auto``: by class if the largest class has more than twice the images of the smallest."""
    share: float = Field(default=0.2, gt=0, lt=1)
    per_class: int = Field(default=20, ge=1)
    """Images; half of a class that has no more than twice as many (rounded down)."""
    seed: int = Field(default=0, ge=0)
    """Which images; the same for all seeds of a training."""


class Recipe(Frozen):
    """Optimiser, schedule and augmentation: SGD with (Nesterov) momentum."""

    epochs: int = Field(ge=0, le=LARGEST)
    """0: nothing is trained, a teacher's ``initial_weights`` are measured as they are."""
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
    crop_fill: float = Field(default=0, ge=0, le=1)
    """Value of the padding, where black is 0 and white is 1. Streamed images are not padded."""
    flip: bool = False
    """Whether images are mirrored left to right with probability one half."""
    normalization: Normalization = "per_channel"
    """``per_channel``: training mean and standard deviation; ``centered``: x / 255 - 0.5;
    ``symmetric``: x / 127.5 - 1; ``imagenet``: ImageNet's mean and standard deviation."""

    @property
    def views(self) -> int:
        """Views that augmentation makes of an image in memory: crops and their mirror images."""
        return (2 * self.crop_padding + 1) ** 2 * (2 if self.flip else 1)

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
