"""The plan: which teachers, which students, who depends on whom. Plain data, no Ray, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from rkd_core.methods.common.protocol import Cell, Method
from rkd_core.objectives import OBJECTIVES, NamedObjective, by_alpha, on_grid
from rkd_core.specs import (
    Derivation,
    HoldoutRule,
    MultiplierOptions,
    TeacherRef,
    TrainingSpec,
    Tuned,
    Variant,
    family_id,
    run_id,
)
from sweeps.cli.method_names import variants
from sweeps.planning.settings import Settings

__all__ = ["Plan", "PlannedRun", "grid_student", "make_plan", "spread"]


@dataclass(frozen=True)
class PlannedRun:
    """One training of a plan."""

    run_id: str
    spec: TrainingSpec
    depends_on: tuple[str, ...]
    """Run ids of what must be completed first; none if it can start at once."""

    @property
    def work(self) -> float:
        """Roughly how long it takes among its like: its epochs.

        Multipliers are left out: they cost little, and with them the students that all others
        are compared with, standard distillation, would come last.
        """
        return float(self.spec.epochs)

    @property
    def label(self) -> str:
        """For people: ``teacher 0.5, seed 0``, ``student standard, T=3, on teacher 0.5, ...`` or
        ``student dkd (others_weight 8), seed 0``."""
        spec = self.spec
        if spec.variant is not None:
            return f"student {spec.variant.label}, seed {spec.seed}"
        name = f"{spec.stage} {_trade_off(spec)}"
        if spec.derived is not None:
            name += f" ({spec.derived.by})"
        if spec.held_out is not None:
            name += ", trained without the held-out images"
        if spec.teacher is not None:
            name += f", T={spec.temperature:g}, on teacher {_trade_off(spec.teacher)}"
        if spec.tuning is not None:
            name += f", {spec.tuning}"
        return f"{name}, seed {spec.seed}"


@dataclass(frozen=True)
class Plan:
    """The trainings of a sweep, each after the one it depends on."""

    runs: tuple[PlannedRun, ...]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def teachers(self) -> tuple[PlannedRun, ...]:
        """The trainings from labels."""
        return tuple(run for run in self.runs if run.spec.stage == "teacher")

    @property
    def students(self) -> tuple[PlannedRun, ...]:
        """The trainings from a teacher."""
        return tuple(run for run in self.runs if run.spec.stage == "student")


def spread(plan: Plan) -> Plan:
    """The same plan with students in an order that visits all of it early.

    Standard distillation of each seed first, which all others are compared with; then by run id,
    which is as good as drawn, and the same each time.
    """

    def place(run: PlannedRun) -> tuple[bool, str]:
        spec = run.spec
        objectives = {spec.objective, spec.teacher.objective if spec.teacher else None}
        return objectives != {"standard"} or spec.variant is not None, run.run_id

    return Plan((*plan.teachers, *sorted(plan.students, key=place)))


def make_plan(settings: Settings, fingerprint: str) -> Plan:
    """The grid and the variants, each run once, those that others depend on first.

    The grid: ``standard`` and each alpha, for teachers, and for students at each temperature.
    Alpha 0 is the balanced objective and alpha 1 the robust one, so a grid that has both holds
    the nine combinations of Wang et al. (UAI 2023, Table 1). Of it there is what the methods
    name, and standard distillation, which all else is measured against. A method that is named
    with options adds the one student that they say. Weights that are used as they are make but
    the standard teacher.

    Repeats: further seeds of the combinations that they name, after those of the grid.

    Variants: every other method at each point of its own small grid, on the standard teacher; for
    one that goes by a hold-out there is an initial teacher, too.
    """
    classes = settings.classes
    found = [
        (method if classes is None else method.suited(classes), ":" in name)
        for name in settings.methods
        for method in variants(name)
    ]
    rows = [m.cell for m, optioned in found if m.cell is not None and not optioned]
    points = [m.cell for m, optioned in found if m.cell is not None and optioned]
    alphas = [None, *settings.alphas]
    above = alphas if any(c.teachers == "grid" for c in rows + points) else [None]
    below = [by_alpha(a) for a in (alphas if any(c.teachers == "grid" for c in rows) else [None])]
    named = [on_grid(c.objective, c.alpha) for c in rows if c.teachers == "standard"]
    teachers: dict[str, PlannedRun] = {}
    students: dict[str, PlannedRun] = {}
    standard: dict[int, TeacherRef] = {}  # by seed

    def add(*runs: PlannedRun) -> None:
        for run in runs:
            (teachers if run.spec.stage == "teacher" else students).setdefault(run.run_id, run)

    def teach(alpha: float | None, seed: int) -> TeacherRef:
        runs = _teachers(settings, alpha, seed, fingerprint)
        add(*runs)
        return _reference(runs[-1], family_id(runs[-1].spec, fingerprint))

    for seed in settings.seeds:
        for alpha_t in above if settings.teaching.epochs else [None]:
            ref = teach(alpha_t, seed)
            standard.setdefault(seed, ref)  # the first of a seed
            wanted = product([*below, *(named if alpha_t is None else ())], settings.temperatures)
            own = [c for c in points if alpha_t is None or c.teachers == "grid"]
            extra = [(on_grid(c.objective, c.alpha), c.temperature) for c in own]
            for objective, temperature in [*wanted, *extra]:
                add(_student(settings, ref, objective, temperature, seed, fingerprint))
    for repeat in settings.repeats:
        for seed in range(max(settings.seeds) + 1, max(settings.seeds) + 1 + repeat.seeds):
            cell = repeat.alpha_t, repeat.alpha_s, repeat.temperature
            add(*grid_student(settings, *cell, seed, fingerprint))
    for seed, ref in standard.items():
        for method, _ in found:
            if method.cell is None:
                add(*_variant(settings, method, ref, seed, fingerprint))
            else:
                add(*_chain(settings, method, method.cell, ref, seed, fingerprint))
    return Plan((*teachers.values(), *students.values()))


def grid_student(
    settings: Settings,
    alpha_t: float | None,
    alpha_s: float | None,
    temperature: float,
    seed: int,
    fingerprint: str,
    tuning: Mapping[str, float] | None = None,
) -> list[PlannedRun]:
    """One student of the grid, or between its points, after the teachers that it needs.

    ``tuning`` has what is its own of the recipe and multipliers, by the names of ``Tuned``.
    """
    runs = _teachers(settings, alpha_t, seed, fingerprint)
    teacher = _reference(runs[-1], family_id(runs[-1].spec, fingerprint))
    student = _student(settings, teacher, by_alpha(alpha_s), temperature, seed, fingerprint)
    return [*runs, _tuned(student, tuning, fingerprint) if tuning else student]


def _tuned(student: PlannedRun, tuning: Mapping[str, float], fingerprint: str) -> PlannedRun:
    """The same with a recipe of its own; a step size is nothing to who has no multipliers."""
    spec, own = student.spec, dict(tuning)
    update: dict[str, Any] = {}
    of_sweep: dict[str, float] = {}
    step = own.pop("multiplier_step_size", None)
    if step is not None and spec.multipliers is not None:
        of_sweep["multiplier_step_size"] = spec.multipliers.step_size
        update["multipliers"] = spec.multipliers.model_copy(update={"step_size": step})
    of_sweep |= {name: getattr(spec.recipe, name) for name in own}
    if not of_sweep:
        return student
    update["recipe"] = spec.recipe.model_copy(update=own)
    spec = TrainingSpec(**{**dict(spec), **update, "tuned": Tuned(**of_sweep)})
    return PlannedRun(run_id(spec, fingerprint), spec, student.depends_on)


def _chain(
    settings: Settings,
    method: Method,
    cell: Cell,
    teacher: TeacherRef,
    seed: int,
    fingerprint: str,
) -> list[PlannedRun]:
    """Rounds of distillation, each student the next one's teacher; none if there is but one.

    The first is the grid's standard student. A later one is the method's, so that a chain that
    is shorter is the beginning of a longer one.
    """
    if cell.rounds == 1:
        return []
    runs = [_student(settings, teacher, by_alpha(None), cell.temperature, seed, fingerprint)]
    for rounds in range(2, cell.rounds + 1):
        shorter = method.model_copy(update={"rounds": rounds})
        above = _reference(runs[-1], teacher.family)
        runs += _variant(settings, shorter, above, seed, fingerprint)
    return runs


def _reference(run: PlannedRun, family: str) -> TeacherRef:
    spec = run.spec
    return TeacherRef(
        run_id=run.run_id,
        family=family,
        architecture=spec.architecture,
        objective=spec.objective,
        alpha=spec.alpha,
    )


def _variant(
    settings: Settings, method: Method, teacher: TeacherRef, seed: int, fingerprint: str
) -> list[PlannedRun]:
    """A student of a method, after its initial teacher, if it goes by a hold-out."""
    needs, runs, initial = method.needs, [], None
    if isinstance(needs.holdout, HoldoutRule):
        runs = [_teacher(settings, None, seed, fingerprint, held_out=needs.holdout)]
        initial = _reference(runs[0], teacher.family)  # for its students are compared with others'
    ref = {"full": teacher, "initial": initial, None: None}[needs.teacher]
    spec = TrainingSpec(
        stage="student",
        architecture=ref.architecture
        if ref and not method.trains
        else settings.student_architecture,
        temperature=getattr(method, "temperature", None),
        teacher=ref,
        initial=initial,
        variant=Variant(method=method.name, options=method.model_dump(mode="json")),
        **_shared(settings, by_alpha(None), seed),
    )
    needed = dict.fromkeys(above.run_id for above in (ref, initial) if above is not None)
    return [*runs, PlannedRun(run_id(spec, fingerprint), spec, tuple(needed))]


def _teachers(
    settings: Settings, alpha: float | None, seed: int, fingerprint: str
) -> list[PlannedRun]:
    """A teacher of the grid, after those that it is derived from."""
    if alpha is None or settings.teachers == "trained":
        return [_teacher(settings, alpha, seed, fingerprint)]
    nearer = [a for a in settings.alphas if a < alpha] if settings.teachers == "warm" else []
    above = _teachers(settings, max(nearer, default=None), seed, fingerprint)
    source = _reference(above[-1], family_id(above[-1].spec, fingerprint))
    derived = Derivation(by=settings.teachers, source=source)
    return [*above, _teacher(settings, alpha, seed, fingerprint, derived=derived)]


def _teacher(
    settings: Settings,
    alpha: float | None,
    seed: int,
    fingerprint: str,
    *,
    held_out: HoldoutRule | None = None,
    derived: Derivation | None = None,
) -> PlannedRun:
    # A teacher's risks always go by the true labels, so its spec says so.
    multipliers = settings.multipliers.model_copy(update={"val_labels": "true"})
    recipe = settings.teaching
    share = _DERIVED_EPOCHS.get(derived.by) if derived is not None else None
    if share is not None:  # as far in fewer epochs, and without a warm-up
        epochs = max(1, round(share * recipe.epochs))
        recipe = recipe.model_copy(update={"epochs": epochs, "warmup": 0.0})
        multipliers = multipliers.model_copy(update={"step_size": multipliers.step_size / share})
    shifted = derived is not None and derived.by == "shifted"
    spec = TrainingSpec(
        stage="teacher",
        architecture=settings.teacher_architecture,
        multipliers=None if shifted else _multipliers(multipliers, by_alpha(alpha)),
        held_out=held_out,
        initial_weights=settings.initial_weights if derived is None else None,
        derived=derived,
        **_shared(settings, by_alpha(alpha), seed) | {"recipe": recipe},
    )
    needed = () if derived is None else (derived.source.run_id,)
    return PlannedRun(run_id(spec, fingerprint), spec, needed)


_DERIVED_EPOCHS = {"head": 0.2, "warm": 0.3}
"""Of those of a teacher that is trained from scratch."""


def _student(
    settings: Settings,
    teacher: TeacherRef,
    objective: NamedObjective,
    temperature: float,
    seed: int,
    fingerprint: str,
) -> PlannedRun:
    spec = TrainingSpec(
        stage="student",
        architecture=settings.student_architecture,
        temperature=temperature,
        multipliers=_multipliers(settings.multipliers, objective),
        teacher=teacher,
        **_shared(settings, objective, seed),
    )
    return PlannedRun(run_id(spec, fingerprint), spec, (teacher.run_id,))


def _multipliers(options: MultiplierOptions, objective: NamedObjective) -> MultiplierOptions | None:
    name, alpha = objective
    return options if OBJECTIVES[name].uses_multipliers(alpha) else None


def _shared(settings: Settings, objective: NamedObjective, seed: int) -> dict[str, Any]:
    """The fields that teachers and students fill in alike."""
    name, alpha = objective
    return {
        "dataset": settings.dataset,
        "data": settings.data,
        "objective": name,
        "alpha": alpha,
        "recipe": settings.recipe,
        "scale_by_classes": settings.scale_by_classes,
        "seed": seed,
    }


def _trade_off(spec: TrainingSpec | TeacherRef) -> str:
    return spec.objective if spec.alpha is None else f"{spec.alpha:g}"
