"""Specs: frozen, typed descriptions of one training.

Nothing in a spec says where or how fast a training runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rkd_core.errors import unknown_name
from rkd_core.objectives import OBJECTIVES
from rkd_core.spec_options import (
    LARGEST,
    DataOptions,
    Frozen,
    HoldoutRule,
    MultiplierOptions,
    Normalization,
    Recipe,
)

if TYPE_CHECKING:
    from rkd_core.methods.common.protocol import Method

__all__ = [
    "DataOptions",
    "Derivation",
    "HoldoutRule",
    "MultiplierOptions",
    "Normalization",
    "ObjectiveName",
    "Recipe",
    "TeacherRef",
    "TrainingSpec",
    "Tuned",
    "Variant",
]


def _known_objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    return name


ObjectiveName = Annotated[str, AfterValidator(_known_objective)]
"""A name in ``rkd_core.objectives.OBJECTIVES``."""
Stage = Literal["teacher", "student"]


class Variant(Frozen):
    """A student that is no cell of the grid: a method of ``rkd_core.methods``, and its options."""

    method: str
    options: dict[str, JsonValue] = Field(default={})
    """Those that differ from the method's defaults; others are left out on reading."""

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        from rkd_core import methods

        methods.find(name)
        return name

    @field_validator("options")
    @classmethod
    def _without_defaults(
        cls, options: dict[str, JsonValue], info: ValidationInfo
    ) -> dict[str, JsonValue]:
        from rkd_core import methods

        if "method" not in info.data:  # which is refused already
            return options
        method = methods.create(info.data["method"], options)
        return method.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _check(self) -> Variant:
        cell = self.build().cell
        if cell is not None and cell.rounds == 1:
            raise ValueError(f"{self.method} is a cell of the grid: its spec has no variant")
        return self

    def build(self) -> Method:
        """The method with these options."""
        from rkd_core import methods

        return methods.create(self.method, self.options)

    @property
    def label(self) -> str:
        """For people: ``dkd (others_weight 8)``: what its grid tries, and what is no default."""
        method = self.build()
        shown = [n for n in type(method).model_fields if n in method.grid or n in self.options]
        values = [str(getattr(method, name)).removesuffix(".0") for name in shown]
        words = [f"{name} {value}" for name, value in zip(shown, values, strict=True)]
        return f"{self.method} ({', '.join(words)})" if words else self.method

    def __hash__(self) -> int:
        return hash((self.method, json.dumps(self.options, sort_keys=True)))


class TeacherRef(Frozen):
    """What a student's spec says of its teacher."""

    run_id: str
    family: str
    """The teacher's; a student that teaches passes its own teacher's on, so that all rounds of
    a repeated distillation belong to one family."""
    architecture: str
    objective: ObjectiveName
    alpha: float | None = Field(default=None, ge=0, le=1)


class Derivation(Frozen):
    """How a teacher comes from one that there is already, for less than a training."""

    by: Literal["shifted", "head", "warm"]
    """``shifted``: its logits are adjusted and nothing is trained, see
    ``rkd_core.training.logit_shift.adjust``; ``head``: its classifier alone is
    trained on; ``warm``: all of it is."""
    source: TeacherRef


class Tuned(Frozen):
    """Of what a search has changed for one student alone: what the sweep says in its place.

    So such a student belongs to the sweep's family, and is another combination in it.
    """

    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    multiplier_step_size: float | None = Field(default=None, gt=0)


class TrainingSpec(Frozen):
    """One training, resolved: nothing is left to a default that could change under it."""

    stage: Stage
    dataset: str
    """A name for people. It is not part of the digest; the data's fingerprint is."""
    data: DataOptions = DataOptions()
    architecture: str
    objective: ObjectiveName
    alpha: float | None = Field(default=None, ge=0, le=1)
    """Trade-off between the balanced (0) and the robust (1) objective; None for the others."""
    temperature: float | None = Field(default=None, gt=0)
    """Divides the teacher's logits, and only the teacher's; a variant's method may say otherwise.
    None for a teacher, and for a variant without one."""
    recipe: Recipe
    multipliers: MultiplierOptions | None = None
    """None where the objective uses none, as tradeoff with an alpha of 0."""
    scale_by_classes: bool = False
    """Whether the margin loss carries the factor 1/m of eq. 9 (Wang et al. 2023)."""
    teacher: TeacherRef | None = None
    seed: int = Field(default=0, ge=0, le=LARGEST)
    variant: Variant | None = None
    """None: a teacher, or a student of the teacher x student grid."""
    held_out: HoldoutRule | None = None
    """Of an initial teacher: what it does not see of the training set."""
    initial: TeacherRef | None = None
    """The initial teacher, by whose hold-out a variant's method goes."""
    initial_weights: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file that a teacher starts from, see ``rkd_core.results.initial_weights``."""
    derived: Derivation | None = None
    """Of a teacher that is not trained from scratch, but from another one of the sweep."""
    tuned: Tuned | None = None
    """Of a student of the grid whose recipe or multipliers are not those of the sweep."""

    @model_validator(mode="after")
    def _check(self) -> TrainingSpec:
        student = self.stage == "student"
        if student and self.initial_weights is not None:
            raise ValueError("initial weights are a teacher's")
        as_it_is = self.initial_weights is not None and self.objective == "standard"
        if self.recipe.epochs == 0 and not as_it_is:
            raise ValueError("0 epochs are those of a standard teacher with initial weights")
        if self.recipe.epochs == 0 and self.held_out is not None:
            raise ValueError("what is not trained has nothing held out")
        if self.variant is not None:
            self._check_variant(self.variant)
        elif student != (self.teacher is not None) or student != (self.temperature is not None):
            raise ValueError("a student has a teacher and a temperature, a teacher has neither")
        elif self.initial is not None:
            raise ValueError("an initial teacher belongs to a variant that goes by a hold-out")
        if student and self.held_out is not None:
            raise ValueError("only a teacher is trained without the held-out images")
        objective = OBJECTIVES[self.objective]
        if objective.takes_alpha != (self.alpha is not None):
            needed = "an alpha" if objective.takes_alpha else "no alpha"
            raise ValueError(f"the {self.objective} objective takes {needed}")
        if self.derived is not None:
            self._check_derived(self.derived)
        if self.tuned is not None:
            self._check_tuned(self.tuned)
        shifted = self.derived is not None and self.derived.by == "shifted"
        ascends = objective.uses_multipliers(self.alpha) and not shifted
        if ascends != (self.multipliers is not None):
            raise ValueError("multipliers belong to trainings that update them, and only to those")
        averaged = self.multipliers.averaged_iterates if self.multipliers else None
        if averaged is not None and averaged > self.recipe.epochs:
            raise ValueError("averaged_iterates cannot exceed the epochs")
        return self

    def _check_derived(self, derived: Derivation) -> None:
        if self.stage != "teacher" or self.objective != "tradeoff":
            raise ValueError("what is derived is a teacher of a trade-off")
        if self.held_out is not None or self.initial_weights is not None:
            raise ValueError("a derived teacher has neither initial weights nor held-out images")
        if derived.source.architecture != self.architecture:
            raise ValueError("a derived teacher keeps the network of its source")

    def _check_tuned(self, tuned: Tuned) -> None:
        if self.stage != "student" or self.variant is not None:
            raise ValueError("what is tuned is a student of the grid")
        if tuned == Tuned():
            raise ValueError("tuned says of nothing what it was")
        if tuned.multiplier_step_size is not None and self.multipliers is None:
            raise ValueError("without multipliers there is no step size to tune")

    def _check_variant(self, variant: Variant) -> None:
        method = variant.build()
        if self.stage != "student" or self.objective != "standard":
            raise ValueError("a variant is a student, and its objective is standard")
        if (method.needs.teacher is not None) != (self.teacher is not None):
            raise ValueError(f"{variant.method} has {'no' if self.teacher else 'a'} teacher")
        if self.temperature != getattr(method, "temperature", None):
            raise ValueError(f"the temperature is that of {variant.method}'s options")
        if isinstance(method.needs.holdout, HoldoutRule) != (self.initial is not None):
            raise ValueError(
                f"{variant.method} has {'no' if self.initial else 'an'} initial teacher"
            )
        if not method.trains and self.teacher and self.teacher.architecture != self.architecture:
            raise ValueError(f"{variant.method} keeps its teacher's network")

    @property
    def epochs(self) -> int:
        """Passes over the training set: the recipe's, or 0 where nothing is trained."""
        trains = self.variant is None or self.variant.build().trains
        if self.derived is not None:
            trains = self.derived.by != "shifted"
        return self.recipe.epochs if trains else 0

    @property
    def method(self) -> str:
        """Registry name of the training method, as the records carry it."""
        if self.variant is not None:
            return self.variant.method
        if self.derived is not None:
            return f"{self.derived.by}_teacher"
        return "standard" if self.objective == "standard" else "tradeoff"

    @property
    def tuning(self) -> str | None:
        """What is tuned, for people: ``learning_rate 0.05, weight_decay 0.001``; else None."""
        if self.tuned is None:
            return None
        values = self.recipe.model_dump() | {
            "multiplier_step_size": self.multipliers and self.multipliers.step_size
        }
        names = self.tuned.model_dump(exclude_none=True)
        return ", ".join(f"{name} {values[name]:g}" for name in names)
