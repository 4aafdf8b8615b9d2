"""Base class of methods, and the types that the trainer exchanges with them.

A method is an immutable model of its options. There are three kinds:

- A method with a ``cell`` is a training of the teacher x student grid; the plan uses that training
  and its run id.
- A :class:`Shift` trains nothing; it shifts the logits of a teacher.
- Any other method trains a student with its ``loss``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from rkd_core.spec_options import HoldoutRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss

__all__ = [
    "Cell",
    "Context",
    "Features",
    "Grid",
    "HeldOut",
    "LossInputs",
    "Method",
    "Needs",
    "Sampling",
    "Shift",
    "SoftBoth",
    "SoftTeacher",
    "needed",
]

T = TypeVar("T")

Sampling = Literal["all", "class_uniform"]

Grid = Mapping[str, tuple[Any, ...]]
"""Values to try, by option."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ---- Declarations of a method -------------------------------------------------------------------


class Needs(NamedTuple):
    """Inputs that a method requires in addition to labels and the student's logits."""

    teacher: Literal["full", "initial"] | None = None
    """Teacher whose logits are required for every batch: the one trained on all training images,
    or the initial one, trained without the held-out images. It runs in evaluation mode."""
    features: bool = False
    """Whether ``Features`` of student and teacher are required; the teacher then runs on every
    batch."""
    maps: bool = False
    """Whether class activation maps of student and teacher are required. The student's classifier
    then has a bias of zero and is drawn as a 1x1 convolution, so that the means of its maps are
    its logits; the teacher's maps omit the bias."""
    holdout: HoldoutRule | Literal["validation"] | None = None
    """Images of ``Context.held_out``. With a rule, an initial teacher is trained without the
    held-out training images and computes the logits of these images. With ``validation``, the
    teacher itself computes the logits of the validation images."""
    class_counts: bool = False
    """Whether ``Context.class_counts`` is required."""
    sampling: Sampling = "all"
    """``class_uniform``: batches are drawn with replacement, each image with a probability
    inversely proportional to the size of its class. ``all``: an epoch is a permutation of the
    training set."""


class Cell(NamedTuple):
    """A student in the teacher x student grid."""

    objective: str
    """A name in ``rkd_core.objectives.OBJECTIVES``."""
    temperature: float
    alpha: float | None = None
    teachers: Literal["standard", "grid"] = "standard"
    """Teachers of the student: the standard one, or each teacher of the grid."""
    rounds: int = 1
    """Number of successive distillations: the student of each round is the teacher of the next,
    and the last student is the result of the method."""


# ---- Inputs of a method -------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldOut:
    """Logits float32 ``(n, classes)`` and true labels int64 ``(n,)`` of held-out images."""

    logits: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Context:
    """Properties of a training that are known before its first step."""

    classes: int
    """Number of classes."""
    device: str
    """Device on which a loss creates its tensors."""
    seed: int
    """Seed of the training; random choices of a loss must depend on it alone."""
    epochs: int
    """Number of epochs."""
    class_counts: tuple[int, ...] | None = None
    """Number of training images of each class."""
    label_smoothing: float = 0.0
    """Share of a true label that losses without a teacher spread evenly over all classes."""
    held_out: HeldOut | None = None
    """Held-out images."""
    student_shapes: tuple[tuple[int, int, int], ...] | None = None
    """Channels, height and width of the map of each stage of the student, from shallow to deep."""
    teacher_shapes: tuple[tuple[int, int, int], ...] | None = None
    """The same for the teacher."""
    student_width: int | None = None
    """Number of pooled features of the student."""
    teacher_width: int | None = None
    """Number of pooled features of the teacher."""


@dataclass(frozen=True)
class Features:
    """Activations of a network; maps are ``(batch, channels, h, w)``, from shallow to deep."""

    before: tuple[Tensor, ...]
    """Last map of each stage before its activation function."""
    outputs: tuple[Tensor, ...]
    """Last map of each stage after its activation function."""
    pooled: Tensor
    """Penultimate features ``(batch, d)``."""


@dataclass(frozen=True)
class LossInputs:
    """Inputs of a loss for one batch, at least float32; the teacher's tensors are detached."""

    labels: Tensor
    """True labels, int64 ``(batch,)``."""
    logits: Tensor
    """Logits of the student, ``(batch, classes)``."""
    teacher_logits: Tensor | None = None
    """Logits of the teacher, ``(batch, classes)``; all finite."""
    student_features: Features | None = None
    teacher_features: Features | None = None
    student_maps: Tensor | None = None
    """Class activation maps of the student, ``(batch, classes, h, w)``."""
    teacher_maps: Tensor | None = None
    """Class activation maps of the teacher, ``(batch, classes, h, w)``."""
    epoch: Tensor | None = None
    """Current epoch, counted from 1 as in the reference implementations: a scalar on the device
    that is updated in place, because a loss may be recorded and replayed."""

    @property
    def teacher(self) -> Tensor:
        """Logits of the teacher, for a method that needs them."""
        return needed(self.teacher_logits, "the teacher's logits")


def needed(value: T | None, what: str) -> T:
    """Return an input that the method requires.

    Args:
        value: The input.
        what: Name of the input, for the message.

    Raises:
        ValueError: The input is missing.
    """
    if value is None:
        raise ValueError(f"this method needs {what}")
    return value


# ---- The method ---------------------------------------------------------------------------------


class Method(_Frozen):
    """A distillation method; its fields are options, and its docstring starts with a description.

    Steps of training may be recorded and replayed, so a loss must not branch on values of tensors
    or copy them to the CPU, and must update its state in place.
    """

    name: ClassVar[str]
    grid: ClassVar[Grid] = {}
    """Values that a sweep tries by default; see ``variants``."""
    mixes_labels: ClassVar[bool] = True
    """Whether images and labels may be mixed; the loss is then computed for both labels."""
    any_objective: ClassVar[bool] = False
    """Whether students may have another objective than standard; their loss is the margin loss."""

    @property
    def needs(self) -> Needs:
        """Inputs that the trainer must provide."""
        return Needs(teacher="full")

    @property
    def cell(self) -> Cell | None:
        """Student of the grid that is equivalent to the method; None for most methods."""
        return None

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        return True

    def loss(self, context: Context) -> Loss:
        """Create the loss that a student minimizes.

        Raises:
            TypeError: The method has no loss, because it is a cell of the grid or a shift.
        """
        raise TypeError(f"{self.name} has no loss of its own")

    def suited(self, classes: int) -> Self:
        """Return the method adapted to the number of classes; most methods ignore it."""
        return self

    @classmethod
    def description(cls) -> str:
        """Return a one-line description: the first line of the docstring."""
        return (cls.__doc__ or "").partition("\n")[0].removesuffix(".")

    @classmethod
    def variants(cls) -> list[Self]:
        """Return the method at every point of its grid, with defaults for other options."""
        return [cls(**dict(zip(cls.grid, v, strict=True))) for v in product(*cls.grid.values())]


class Shift(Method):
    """A method without training that adds a constant per class to the logits of a teacher."""

    @property
    def trains(self) -> bool:
        """False: no network is trained."""
        return False

    @property
    def needs(self) -> Needs:
        """A teacher and the class counts."""
        return Needs(teacher="full", class_counts=True)

    def shift(
        self,
        logits: NDArray[np.floating],
        labels: NDArray[np.integer],
        class_counts: tuple[int, ...],
    ) -> NDArray[np.float64]:
        """Compute the shift to add to the logits of a teacher, float64 ``(classes,)``.

        Args:
            logits: Logits of the validation images, ``(n, classes)``.
            labels: True labels of these images, ``(n,)``.
            class_counts: Number of training images of each class.
        """
        raise NotImplementedError


class SoftTeacher(Method):
    """A method that divides only the teacher's logits by the temperature, without a factor T^2.

    This is the convention of Wang et al. (UAI 2023) and Lukasik et al. (TMLR 2022).
    """

    softens: Literal["teacher"] = "teacher"
    temperature: float = Field(default=1, gt=0)


class SoftBoth(Method):
    """A method that divides both networks' logits by the temperature; soft terms have a factor T^2.

    This is the convention of Hinton et al. (2015) and of the methods in mdistiller.
    """

    softens: Literal["both"] = "both"
    temperature: float = Field(default=4, gt=0)
