"""What a method is to the trainer, the plan and the ledger, none of which know any by name.

A method is a frozen value: its options. It is one of three kinds, and says which:

- it has a ``cell``: it is a training that the teacher x student grid has already, and the plan
  makes that very training, with the grid's own run id;
- it is a :class:`Shift`: nothing is trained, a teacher's logits are shifted;
- otherwise its ``loss`` trains a student.
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
"""Options, each with the values to try."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ---- What a method says of itself ---------------------------------------------------------------


class Needs(NamedTuple):
    """What a method must be given, beyond labels and the student's logits."""

    teacher: Literal["full", "initial"] | None = None
    """Whose logits on every batch: those of the teacher trained on all training images, or those
    of the one trained without the held-out images. It runs in evaluation mode."""
    features: bool = False
    """``Features`` of student and teacher; the teacher is then run on every batch."""
    maps: bool = False
    """Class activation maps of student and teacher; the student's classifier then has no bias
    (held at zero) and is drawn as a 1x1 convolution, so that the maps' means are its logits, and
    the teacher's maps leave the bias out."""
    holdout: HoldoutRule | Literal["validation"] | None = None
    """A rule: an initial teacher is trained on the training set less what the rule holds out, and
    its logits on what is held out are ``Context.held_out``. ``validation``: the validation set
    and the teacher itself take their places."""
    class_counts: bool = False
    """``Context.class_counts``."""
    sampling: Sampling = "all"
    """``class_uniform``: batches are drawn with replacement, each image with a weight of one over
    the size of its class. ``all``: an epoch is a permutation of the training set."""


class Cell(NamedTuple):
    """A student of the teacher x student grid."""

    objective: str
    """A name in ``rkd_core.objectives.OBJECTIVES``."""
    temperature: float
    alpha: float | None = None
    teachers: Literal["standard", "grid"] = "standard"
    """Which teachers it has: the standard one, or each of the grid's in turn."""
    rounds: int = 1
    """Distillations in a row: the student of a round is the next round's teacher, and the last
    one is the method's student."""


# ---- What a method is given ---------------------------------------------------------------------


@dataclass(frozen=True)
class HeldOut:
    """Logits float32 ``(n, classes)`` and true labels int64 ``(n,)`` of held-out images."""

    logits: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Context:
    """What is known before the first step."""

    classes: int
    device: str
    """Where a loss keeps its tensors."""
    seed: int
    """Of the training; random choices are a pure function of it."""
    epochs: int
    class_counts: tuple[int, ...] | None = None
    """Training images by class."""
    held_out: HeldOut | None = None
    student_shapes: tuple[tuple[int, int, int], ...] | None = None
    """Channels, height and width of each stage's map, shallow to deep."""
    teacher_shapes: tuple[tuple[int, int, int], ...] | None = None
    student_width: int | None = None
    """Pooled features of an image."""
    teacher_width: int | None = None


@dataclass(frozen=True)
class Features:
    """What a network computes on its way; maps ``(batch, channels, h, w)`` from shallow to deep."""

    before: tuple[Tensor, ...]
    """Each stage's last map before its activation."""
    outputs: tuple[Tensor, ...]
    """The same after it."""
    pooled: Tensor
    """Penultimate features ``(batch, d)``."""


@dataclass(frozen=True)
class LossInputs:
    """One batch, as a loss sees it: floats in float32 or more, the teacher's without gradient."""

    labels: Tensor
    """int64 ``(batch,)``."""
    logits: Tensor
    """The student's, ``(batch, classes)``."""
    teacher_logits: Tensor | None = None
    """``(batch, classes)``; all finite."""
    student_features: Features | None = None
    teacher_features: Features | None = None
    student_maps: Tensor | None = None
    """``(batch, classes, h, w)``."""
    teacher_maps: Tensor | None = None
    epoch: Tensor | None = None
    """The epoch under way, counted from 1 as the reference codes count; a scalar on the device
    that changes in place, for a loss may be recorded and replayed."""

    @property
    def teacher(self) -> Tensor:
        """The teacher's logits of a method that needs them."""
        return needed(self.teacher_logits, "the teacher's logits")


def needed(value: T | None, what: str) -> T:
    """The value, which is there because the method's needs name it.

    Raises:
        ValueError: It is not.
    """
    if value is None:
        raise ValueError(f"this method needs {what}")
    return value


# ---- The method ---------------------------------------------------------------------------------


class Method(_Frozen):
    """A way to train a student; its fields are its options, its docstring's first line says what.

    A loss is recorded and replayed where steps are: it decides nothing on the values of tensors,
    brings none of them to the CPU, and what it changes from step to step it changes in place.
    """

    name: ClassVar[str]
    grid: ClassVar[Grid] = {}
    """What a sweep tries by default; see ``variants``."""

    @property
    def needs(self) -> Needs:
        """What the trainer must bring."""
        return Needs(teacher="full")

    @property
    def cell(self) -> Cell | None:
        """The grid's training that this is; None for most."""
        return None

    @property
    def trains(self) -> bool:
        """Whether there is a network to train."""
        return True

    def loss(self, context: Context) -> Loss:
        """What a student minimises, ready for its first step."""
        raise TypeError(f"{self.name} has no loss of its own")

    def suited(self, classes: int) -> Self:
        """Return the method as planned for this number of classes, which most methods ignore."""
        return self

    @classmethod
    def description(cls) -> str:
        """One line for lists."""
        return (cls.__doc__ or "").partition("\n")[0].removesuffix(".")

    @classmethod
    def variants(cls) -> list[Self]:
        """The method at every point of its grid, other options at their defaults."""
        return [cls(**dict(zip(cls.grid, v, strict=True))) for v in product(*cls.grid.values())]


class Shift(Method):
    """A method without training: a constant for each class is added to a teacher's logits."""

    @property
    def trains(self) -> bool:
        """No."""
        return False

    @property
    def needs(self) -> Needs:
        """A teacher, whose logits on validation ``shift`` is given, and the class counts."""
        return Needs(teacher="full", class_counts=True)

    def shift(
        self,
        logits: NDArray[np.floating],
        labels: NDArray[np.integer],
        class_counts: tuple[int, ...],
    ) -> NDArray[np.float64]:
        """What to add to a teacher's logits, float64 ``(classes,)``.

        Args:
            logits: On the validation set, ``(n, classes)``.
            labels: Its true labels, ``(n,)``.
            class_counts: Training images by class.
        """
        raise NotImplementedError


class SoftTeacher(Method):
    """A method whose temperature divides the teacher's logits only; there is no factor T^2.

    Wang et al. (UAI 2023), Lukasik et al. (TMLR 2022).
    """

    softens: Literal["teacher"] = "teacher"
    temperature: float = Field(default=1, gt=0)


class SoftBoth(Method):
    """A method whose temperature divides both networks' logits; soft terms carry a factor T^2.

    Hinton et al. (2015), and what mdistiller collects.
    """

    softens: Literal["both"] = "both"
    temperature: float = Field(default=4, gt=0)
