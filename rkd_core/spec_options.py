"""Options of a training spec: data, training recipe, multipliers and hold-out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rkd_core.errors import UserError, require, unknown_name

__all__ = [
    "LARGEST",
    "Augmentation",
    "DataOptions",
    "Frozen",
    "HoldoutRule",
    "MultiplierOptions",
    "Normalization",
    "Recipe",
]

Normalization = Literal["per_channel", "centered", "symmetric", "imagenet"]

LARGEST = 2**63 - 1
"""Largest integer that a record can hold."""


Share = Annotated[float, Field(ge=0, lt=1)]


class Frozen(BaseModel):
    """Immutable, hashable model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataOptions(Frozen):
    """Split of a data source into training, validation and test sets.

    The source itself is identified by its fingerprint, never by its name or path.
    """

    classes: int | None = Field(default=None, ge=2)
    """Number of classes to keep, drawn at random before any other split; None keeps all."""
    class_seed: int = Field(default=0, ge=0)
    """Seed of the choice of classes."""
    imbalance: float | None = Field(default=None, ge=1)
    """Ratio of the largest class to the smallest; None leaves the training set unchanged."""
    profile: Literal["exponential", "step"] = "exponential"
    """Shape of the class sizes of a long-tailed training set."""
    limit_train: int | None = Field(default=None, ge=1)
    """Size of a class-proportional subset of the training set, taken after the profile."""
    subset_seed: int = Field(default=0, ge=0)
    """Seed of the choice of images that the profile and the limit keep."""
    image_size: int | None = Field(default=None, ge=4)
    """Side in pixels to which images are resized and center-cropped; None keeps their size."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the split of the original test set into validation and test halves."""
    stratified: bool = False
    """Whether each class is halved, rather than the test set as a whole."""
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each class that is set aside for validation if a source has only a training set."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each class that is set aside for test if a source has only a training set."""


class HoldoutRule(Frozen):
    """Training images withheld from a teacher, to estimate its accuracy on unseen images.

    Lukasik et al. (TMLR 2022): a share of the training set if classes have similar sizes, a fixed
    number of images per class otherwise. See ``rkd_core.datasets.splits.hold_out``.
    """

    by: Literal["auto", "share", "per_class"] = "auto"
    """``auto``: by class if the largest class has more than twice the images of the smallest."""
    share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training set to hold out."""
    per_class: int = Field(default=20, ge=1)
    """Images per class to hold out; half of the class (rounded down) if it has at most twice as
    many."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice of images; the same for all training seeds."""


class Augmentation(Frozen):
    """Random changes of training images beyond padded crops and flips; None for none.

    They are applied in the order of the fields, with their own draws for every image; mixup and
    cutmix draw once per batch.
    """

    random_resized_crop: float | None = Field(default=None, gt=0, le=1)
    """Smallest share of the area of a crop, which is resized to the size of the image."""
    randaugment: float | None = Field(default=None, ge=0, le=30)
    """Magnitude of two operations, drawn for each image (Cubuk et al. 2020)."""
    trivial_augment: bool = False
    """One operation of random magnitude for each image (Müller & Hutter 2021)."""
    color_jitter: float | None = Field(default=None, gt=0, le=1)
    """Largest relative change of brightness, contrast and saturation."""
    random_erasing: float | None = Field(default=None, gt=0, le=1)
    """Probability that a rectangle of an image is erased (Zhong et al. 2020)."""
    mixup: float | None = Field(default=None, gt=0, le=100)
    """Alpha of mixup (Zhang et al. 2018): shares are drawn from Beta(alpha, alpha)."""
    cutmix: float | None = Field(default=None, gt=0, le=100)
    """Alpha of CutMix (Yun et al. 2019); with mixup too, one of both is drawn for each batch."""

    @classmethod
    def parse(cls, text: str) -> Augmentation:
        """Return the augmentation of a text such as ``randaugment=9,mixup=0.2``, or ``none``.

        Raises:
            UserError: A name is unknown or repeated, or a strength is missing or not valid.
        """
        fields: dict[str, Any] = {}
        for part in [] if text.strip() == "none" else text.split(","):
            name, given, strength = (piece.strip() for piece in part.partition("="))
            if name not in cls.model_fields:
                raise unknown_name("augmentation", name, [*cls.model_fields, "none"])
            require(name not in fields, f"{name} is given twice")
            if name == "trivial_augment":
                require(not given, f"{name} takes no strength")
                fields[name] = True
                continue
            usual = _STRENGTHS[name]
            try:
                fields[name] = float(strength) if given else usual
            except ValueError:
                raise UserError(f"{name} takes a number, such as {name}={usual:g}") from None
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(f"{part}: " for part in first["loc"])
            raise UserError(place + first["msg"].removeprefix("Value error, ")) from error

    @property
    def mixes(self) -> bool:
        """Whether images and labels are mixed."""
        return self.mixup is not None or self.cutmix is not None

    @model_validator(mode="after")
    def _check(self) -> Augmentation:
        if self.randaugment is not None and self.trivial_augment:
            raise ValueError("give either randaugment or trivial_augment")
        return self


_STRENGTHS = {
    "random_resized_crop": 0.08,
    "randaugment": 9.0,
    "color_jitter": 0.4,
    "random_erasing": 0.25,
    "mixup": 0.2,
    "cutmix": 1.0,
}


class Recipe(Frozen):
    """Optimizer, learning-rate schedule, regularization and augmentation."""

    epochs: int = Field(ge=0, le=LARGEST)
    """Number of epochs; 0 trains nothing and measures a teacher's ``initial_weights``."""
    batch_size: int = Field(default=128, ge=1)
    drop_last: bool = True
    """Whether to drop the last batch of an epoch if it is smaller (unless it is the only one)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of ``sgd``."""
    nesterov: bool = True
    """Whether ``sgd`` uses Nesterov momentum."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of the averages of ``adamw``: of the gradient and of its square."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Summand of the denominator of ``adamw``."""
    weight_decay: float = Field(default=1e-4, ge=0)
    decay_norm: bool = True
    """Whether weight decay also applies to the scale and shift of batch norm."""
    decay_norms_and_biases: bool | None = None
    """Whether weight decay also applies to parameters of one dimension: biases, and scales and
    shifts of all normalizations; None: for ``sgd`` but not for ``adamw``."""
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "cosine"
    warmup: float = Field(default=0, ge=0, lt=1)
    """Share of the training over which the learning rate rises: linearly from zero, with
    ``one_cycle`` along half a cosine from 1/25 of the peak."""
    milestones: tuple[float, ...] = ()
    """Shares of the training at which the step schedule multiplies the rate by ``decay``."""
    decay: float = Field(default=0.1, gt=0, le=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient of all parameters together; None for no limit."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which becomes the model; None: the
    model has the last weights."""
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    """Share of a one-hot label that is spread evenly over all classes."""
    crop_padding: int = Field(default=0, ge=0)
    """Padding in pixels before a random crop to the original size; 0 for no random crop."""
    crop_fill: float = Field(default=0, ge=0, le=1)
    """Value of the padding, from 0 (black) to 1 (white). Streamed images are not padded."""
    flip: bool = False
    """Whether images are flipped horizontally with probability 0.5."""
    augmentation: Augmentation = Augmentation()
    """Further augmentation, by name and strength."""
    normalization: Normalization = "per_channel"
    """``per_channel``: training mean and standard deviation; ``centered``: x / 255 - 0.5;
    ``symmetric``: x / 127.5 - 1; ``imagenet``: ImageNet's mean and standard deviation."""

    @property
    def numbers_views(self) -> bool:
        """Whether crops and flips are the only augmentation, so that views can be enumerated."""
        return self.augmentation == Augmentation()

    @property
    def views(self) -> int:
        """Number of crops of an image in memory, and of their mirror images."""
        return (2 * self.crop_padding + 1) ** 2 * (2 if self.flip else 1)

    @property
    def decays_norms_and_biases(self) -> bool:
        """Whether weight decay also applies to parameters of one dimension."""
        if self.decay_norms_and_biases is None:
            return self.optimizer == "sgd"
        return self.decay_norms_and_biases

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        others = {"sgd": ("betas", "epsilon"), "adamw": ("momentum", "nesterov")}[self.optimizer]
        for name in others:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} does not belong to the optimizer {self.optimizer}")
        if self.augmentation.random_resized_crop is not None and self.crop_padding:
            raise ValueError("random_resized_crop takes the place of crop_padding, which must be 0")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        if any(not 0 < m < 1 for m in self.milestones):
            raise ValueError("milestones are shares of the training, between 0 and 1")
        return self


class MultiplierOptions(Frozen):
    """Exponentiated-gradient ascent on the class multipliers (Wang et al. 2023, Algorithm 1)."""

    step_size: float = Field(default=0.1, gt=0)
    """Step size gamma of the ascent."""
    period: int | None = Field(default=32, ge=1)
    """SGD steps between updates, counted from the start of each epoch; None: one update per
    epoch."""
    batch: int | None = Field(default=4096, ge=1)
    """Validation images per update, shuffled and cycled; None for all images."""
    val_labels: Literal["teacher", "true"] = "teacher"
    """Labels that define a student's validation risks; a teacher always uses the true labels."""
    averaged_iterates: int | None = Field(default=None, ge=2)
    """None: the model is the last iterate, which Wang et al. find sufficient. N: the model
    averages the logits of N iterates, taken at ends of epochs spread evenly over the training."""
