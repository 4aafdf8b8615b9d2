"""Specs: frozen, typed descriptions of trainings.

A spec contains nothing about where or how fast a training runs.
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

from rkd_core import objectives
from rkd_core.errors import unknown_name
from rkd_core.spec_options import (
    LARGEST,
    Augmentation,
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
    "GIVEN_LOGITS",
    "Augmentation",
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
    if name not in objectives.OBJECTIVES and name not in objectives.names():
        raise unknown_name("objective", name, objectives.names())
    return name


ObjectiveName = Annotated[str, AfterValidator(_known_objective)]
"""A name in ``rkd_core.objectives.names()``."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Stage = Literal["teacher", "student"]


GIVEN_LOGITS = "given_logits"
"""In specs and records, the architecture of a teacher that is known by its logits only."""


class Variant(Frozen):
    """A student outside the grid: a method of ``rkd_core.methods``, and its options."""

    code_digest: Digest | None = None
    """Digest of the code of a plug-in's method; None for a built-in one."""
    method: str
    options: dict[str, JsonValue] = Field(default={})
    """Options that differ from the method's defaults; validation drops all others."""

    @field_validator("method")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        from rkd_core import methods

        methods.find(name, info.data.get("code_digest"))
        return name

    @field_validator("options")
    @classmethod
    def _without_defaults(
        cls, options: dict[str, JsonValue], info: ValidationInfo
    ) -> dict[str, JsonValue]:
        from rkd_core import methods

        if "method" not in info.data:  # the method is invalid, which is reported
            return options
        method = methods.create(info.data["method"], options, info.data.get("code_digest"))
        return method.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _check(self) -> Variant:
        cell = self.build().cell
        if cell is not None and cell.rounds == 1:
            raise ValueError(f"{self.method} is a cell of the grid: its spec has no variant")
        return self

    def build(self) -> Method:
        """Create the method with these options."""
        from rkd_core import methods

        return methods.create(self.method, self.options, self.code_digest)

    @property
    def label(self) -> str:
        """Display name, such as ``dkd (others_weight 8)``.

        It includes the options that the method's grid varies, and those that are not defaults.
        """
        method = self.build()
        shown = [n for n in type(method).model_fields if n in method.grid or n in self.options]
        values = [str(getattr(method, name)).removesuffix(".0") for name in shown]
        words = [f"{name} {value}" for name, value in zip(shown, values, strict=True)]
        return f"{self.method} ({', '.join(words)})" if words else self.method

    def __hash__(self) -> int:
        return hash((self.method, json.dumps(self.options, sort_keys=True), self.code_digest))


class TeacherRef(Frozen):
    """Reference to a teacher in the spec of another training."""

    run_id: str
    family: str
    """Family id of the teacher. A student that serves as a teacher passes on the family of its own
    teacher, so that all rounds of a repeated distillation belong to one family."""
    architecture: str
    objective: ObjectiveName
    alpha: float | None = Field(default=None, ge=0, le=1)


class Derivation(Frozen):
    """Derivation of a teacher from an existing one, at a lower cost than a full training."""

    by: Literal["shifted", "head", "warm"]
    """``shifted``: the logits are adjusted without training, see
    ``rkd_core.training.logit_shift.adjust``; ``head``: only the classifier is trained further;
    ``warm``: all weights are trained further."""
    source: TeacherRef


class Tuned(Frozen):
    """The sweep's values of the settings that a search has changed for a single student.

    They make the student a separate combination within the family of the sweep.
    """

    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    multiplier_step_size: float | None = Field(default=None, gt=0)


class TrainingSpec(Frozen):
    """Fully resolved description of one training, independent of defaults that could change."""

    stage: Stage
    dataset: str
    """Display name. It is not part of the digest; the fingerprint of the data is."""
    data: DataOptions = DataOptions()
    architecture: str
    objective: ObjectiveName
    objective_digest: Digest | None = None
    """Digest of the code of a plug-in's objective; None for a built-in one."""
    alpha: float | None = Field(default=None, ge=0, le=1)
    """Trade-off between the balanced (0) and the robust (1) objective; None for all others."""
    temperature: float | None = Field(default=None, gt=0)
    """Divisor of the teacher's logits only, unless the method of a variant defines it otherwise.
    None for a teacher, and for a variant without a temperature."""
    recipe: Recipe
    multipliers: MultiplierOptions | None = None
    """Options of the multipliers; None if there are none, such as for tradeoff with alpha 0."""
    scale_by_classes: bool = False
    """Whether the margin loss includes the factor 1/m of eq. 9 (Wang et al. 2023)."""
    teacher: TeacherRef | None = None
    seed: int = Field(default=0, ge=0, le=LARGEST)
    variant: Variant | None = None
    """Method of a student outside the teacher x student grid; None for all other trainings."""
    held_out: HoldoutRule | None = None
    """Rule for the training images that are withheld from an initial teacher."""
    initial: TeacherRef | None = None
    """Initial teacher, whose held-out images the method of a variant uses."""
    initial_weights: Digest | None = None
    """SHA-256 of the file of initial weights, see ``rkd_core.results.initial_weights``."""
    given_logits: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Digest of the logits of a teacher without a network, see
    ``rkd_core.teachers.given_logits``."""
    derived: Derivation | None = None
    """Derivation of a teacher from another one of the sweep; None if it is trained from scratch."""
    network_digest: Digest | None = None
    """Digest of a network from outside the registry, see ``rkd_core.models.identify``."""
    tuned: Tuned | None = None
    """Tuning of a student of the grid whose recipe or multipliers differ from the sweep's."""

    @model_validator(mode="after")
    def _check(self) -> TrainingSpec:
        student = self.stage == "student"
        if (":" in self.architecture) != (self.network_digest is not None):
            raise ValueError(
                "a network has a digest if, and only if, it is from outside the registry: see "
                "rkd_core.models.identify"
            )
        given = self.initial_weights is not None
        as_it_is = given and not student and self.objective == "standard"
        if self.given_logits is not None or self.architecture == GIVEN_LOGITS:
            self._check_given_logits()
        elif self.recipe.epochs == 0 and not as_it_is:
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
        objective = self.named_objective()
        if objective.takes_alpha != (self.alpha is not None):
            needed = "an alpha" if objective.takes_alpha else "no alpha"
            raise ValueError(f"the {self.objective} objective takes {needed}")
        if self.derived is not None:
            self._check_derived(self.derived)
        if self.tuned is not None:
            self._check_tuned(self.tuned)
        self._check_multipliers()
        return self

    def _check_given_logits(self) -> None:
        if (self.given_logits is None) != (self.architecture != GIVEN_LOGITS):
            raise ValueError(f"given logits go with the architecture {GIVEN_LOGITS}")
        if self.stage != "teacher" or self.recipe.epochs != 0:
            raise ValueError("given logits are those of a teacher, which is not trained")
        if self.initial_weights is not None or self.held_out is not None:
            raise ValueError("given logits have neither weights nor held-out images")
        shifted = self.derived is not None and self.derived.by == "shifted"
        if (self.objective != "standard") != shifted or (self.derived is not None) != shifted:
            raise ValueError("given logits are those of a standard teacher, or shifted")

    def _check_multipliers(self) -> None:
        shifted = self.derived is not None and self.derived.by == "shifted"
        ascends = self.named_objective().uses_multipliers(self.alpha) and not shifted
        if ascends != (self.multipliers is not None):
            raise ValueError("multipliers belong to trainings that update them, and only to those")
        averaged = self.multipliers.averaged_iterates if self.multipliers else None
        if averaged is not None and averaged > self.recipe.epochs:
            raise ValueError("averaged_iterates cannot exceed the epochs")
        if averaged is not None and self.recipe.ema_decay is not None:
            raise ValueError("a model averages either iterates or weights (ema_decay)")

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
        if self.recipe.augmentation.mixes and not method.mixes_labels:
            raise ValueError(f"{variant.method} takes no mixed labels (mixup, cutmix)")
        if self.stage != "student":
            raise ValueError("a variant is a student")
        if self.objective != "standard" and not method.any_objective:
            raise ValueError(f"the objective of {variant.method} is standard")
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

    def named_objective(self) -> objectives.Objective:
        """Return the objective, which the code with ``objective_digest`` defines."""
        return objectives.find(self.objective, self.objective_digest)

    @property
    def epochs(self) -> int:
        """Passes over the training set: those of the recipe, or 0 if nothing is trained."""
        trains = self.variant is None or self.variant.build().trains
        if self.derived is not None:
            trains = self.derived.by != "shifted"
        return self.recipe.epochs if trains else 0

    @property
    def method(self) -> str:
        """Registry name of the training method, as stored in records."""
        if self.variant is not None:
            return self.variant.method
        if self.derived is not None:
            return f"{self.derived.by}_teacher"
        return "standard" if self.objective == "standard" else "tradeoff"

    @property
    def tuning(self) -> str | None:
        """Display text, such as ``learning_rate 0.05, weight_decay 0.001``; None without tuning."""
        if self.tuned is None:
            return None
        values = self.recipe.model_dump() | {
            "multiplier_step_size": self.multipliers and self.multipliers.step_size
        }
        names = self.tuned.model_dump(exclude_none=True)
        return ", ".join(f"{name} {values[name]:g}" for name in names)
