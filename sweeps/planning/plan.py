"""Plan of a sweep: its teachers and students with their dependencies, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from rkd_core import methods, plugins
from rkd_core.methods.common.protocol import Method
from rkd_core.methods.one_hot import OneHot
from rkd_core.objectives import NamedObjective, by_alpha, find, on_grid
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

__all__ = ["Plan", "PlannedRun", "Planner", "make_plan", "spread"]


@dataclass(frozen=True)
class PlannedRun:
    """Training of a plan."""

    run_id: str
    spec: TrainingSpec
    depends_on: tuple[str, ...]
    """Run ids of the trainings that must be completed first."""
    network: str = ""
    """Network of a student for its label, if there are several networks."""

    @property
    def work(self) -> float:
        """Approximate relative duration: the number of epochs.

        Multipliers are left out: they cost little, and with them standard distillation, which all
        students are compared with, would come last.
        """
        return float(self.spec.epochs)

    @property
    def label(self) -> str:
        """Text for users: ``teacher 0.5, seed 0``, ``student standard, T=3, on teacher 0.5, ...``
        or ``student dkd (others_weight 8), seed 0``; ``student resnet8 ...`` with several."""
        spec = self.spec
        stage = f"{spec.stage} {self.network}".rstrip()
        if spec.variant is not None and spec.variant.build().any_objective:
            return f"{stage} {_trade_off(spec)} without a teacher, seed {spec.seed}"
        if spec.variant is not None:
            return f"{stage} {spec.variant.label}, seed {spec.seed}"
        name = f"{stage} {_trade_off(spec)}"
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
    """Trainings of a sweep, each after its dependencies."""

    runs: tuple[PlannedRun, ...]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def teachers(self) -> tuple[PlannedRun, ...]:
        """The teachers."""
        return tuple(run for run in self.runs if run.spec.stage == "teacher")

    @property
    def students(self) -> tuple[PlannedRun, ...]:
        """The students."""
        return tuple(run for run in self.runs if run.spec.stage == "student")


def spread(plan: Plan) -> Plan:
    """Return the plan with its students in an order that covers the whole plan early.

    Standard distillation of each seed and network, which all students are compared with, comes
    first. The others are ordered by run id, which is reproducible and effectively random.
    """

    def place(run: PlannedRun) -> tuple[bool, str]:
        spec = run.spec
        objectives = {spec.objective, spec.teacher.objective if spec.teacher else None}
        return objectives != {"standard"} or spec.variant is not None, run.run_id

    return Plan((*plan.teachers, *sorted(plan.students, key=place)))


class Planner:
    """Planner of the trainings of a sweep.

    Args:
        settings: Settings of the sweep.
        fingerprint: Fingerprint of the data.
    """

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        self._settings, self._fingerprint = settings, fingerprint

    def plan(self) -> Plan:
        """Return the grid, the repeats and the variants, each run once and after its dependencies.

        Grid: ``standard`` and each alpha for teachers, and for students at each temperature. Alpha
        0 is the balanced objective and alpha 1 the robust one, so a grid with both has the nine
        combinations of Wang et al. (UAI 2023, Table 1). The plan has the part of the grid that the
        methods select, and standard distillation, the reference of all comparisons. A method with
        options adds one student. With 0 epochs, the standard teacher is the only one, unless it is
        given by its logits.

        Repeats: further seeds of the combinations that they name, after those of the grid.

        Variants: every other method at each point of its own small grid, on the standard teacher.
        A method with a hold-out adds an initial teacher.

        Students without a teacher: one for each objective of the students, trained on labels.
        Each network trains all students, on the same teachers.
        """
        settings, networks = self._settings, self._settings.student_architectures
        found = [
            (method, ":" in name) for name in settings.methods for method in self._suited(name)
        ]
        rows = [m.cell for m, optioned in found if m.cell is not None and not optioned]
        points = [m.cell for m, optioned in found if m.cell is not None and optioned]
        alphas = [None, *settings.alphas]
        above = alphas if any(c.teachers == "grid" for c in rows + points) else [None]
        below = alphas if any(c.teachers == "grid" for c in rows) else [None]
        named = [on_grid(c.objective, c.alpha) for c in rows if c.teachers == "standard"]
        runs: dict[str, PlannedRun] = {}
        standard: dict[int, TeacherRef] = {}  # by seed

        def add(planned: Sequence[PlannedRun]) -> None:
            for run in planned:
                runs.setdefault(run.run_id, run)

        for seed in settings.seeds:
            for alpha_t in above if settings.all_teachers else [None]:
                teachers = self._teachers(alpha_t, seed)
                add(teachers)
                ref = self._reference(teachers[-1])
                standard.setdefault(seed, ref)  # the first of a seed
                objectives = [*map(by_alpha, below), *(named if alpha_t is None else ())]
                own = [c for c in points if alpha_t is None or c.teachers == "grid"]
                extra = [(on_grid(c.objective, c.alpha), c.temperature) for c in own]
                cells = [*product(objectives, settings.temperatures), *extra]
                for network, (objective, temperature) in product(networks, cells):
                    add([self._student(network, ref, objective, temperature, seed)])
        for repeat in settings.repeats:
            for seed in range(max(settings.seeds) + 1, max(settings.seeds) + 1 + repeat.seeds):
                for network in networks:
                    add(self.grid_student(*repeat.cell, seed, network=network))
        if settings.undistilled:
            objectives = list(dict.fromkeys((*map(by_alpha, below), *named)))
            for seed, network, objective in product(settings.seeds, networks, objectives):
                add([self._undistilled(network, objective, seed)])
        for (seed, ref), network, (method, _) in product(standard.items(), networks, found):
            variant = self._variant if method.cell is None else self._chain
            add(variant(network, method, ref, seed))
        plan = Plan(tuple(runs.values()))
        return Plan((*plan.teachers, *plan.students))

    def grid_student(
        self,
        alpha_t: float | None,
        alpha_s: float | None,
        temperature: float,
        seed: int,
        tuning: Mapping[str, float] | None = None,
        network: str | None = None,
    ) -> list[PlannedRun]:
        """Return a student on the grid or between its points, after the teachers that it needs.

        Args:
            alpha_t: Trade-off of the teacher; None for the standard objective.
            alpha_s: Trade-off of the student; None for the standard objective.
            temperature: Temperature of the teacher's probabilities.
            seed: Seed of teacher and student.
            tuning: Tuned fields of the student's recipe and multipliers, by the names of ``Tuned``.
            network: Network of the student; None for the first one.
        """
        runs = self._teachers(alpha_t, seed)
        teacher = self._reference(runs[-1])
        network = network or self._settings.student_architectures[0]
        student = self._student(network, teacher, by_alpha(alpha_s), temperature, seed)
        return [*runs, self._tuned(student, tuning) if tuning else student]

    def _suited(self, name: str) -> list[Method]:
        """Return the variants of a method, adapted to the number of classes if it is known."""
        classes = self._settings.classes
        return [m if classes is None else m.suited(classes) for m in variants(name)]

    def _run(self, spec: TrainingSpec, depends_on: tuple[str, ...]) -> PlannedRun:
        several = spec.stage == "student" and len(self._settings.student_architectures) > 1
        name = spec.architecture if several else ""
        return PlannedRun(run_id(spec, self._fingerprint), spec, depends_on, name)

    def _reference(self, run: PlannedRun, family: str | None = None) -> TeacherRef:
        """Return the reference to a teacher, by default with its own family."""
        spec = run.spec
        return TeacherRef(
            run_id=run.run_id,
            family=family or family_id(spec, self._fingerprint),
            architecture=spec.architecture,
            objective=spec.objective,
            alpha=spec.alpha,
        )

    def _tuned(self, student: PlannedRun, tuning: Mapping[str, float]) -> PlannedRun:
        """Return a student with tuned fields; a step size only applies with multipliers."""
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
        tuned = TrainingSpec(**{**dict(spec), **update, "tuned": Tuned(**of_sweep)})
        return self._run(tuned, student.depends_on)

    def _chain(
        self, network: str, method: Method, teacher: TeacherRef, seed: int
    ) -> list[PlannedRun]:
        """Return rounds of distillation, in which each student teaches the next one.

        A single round is a student of the grid, so none is returned. The first student is the
        grid's standard one. Later ones are the method's, so a shorter chain is the beginning of a
        longer one.
        """
        cell = method.cell
        if cell is None or cell.rounds == 1:
            return []
        runs = [self._student(network, teacher, by_alpha(None), cell.temperature, seed)]
        for rounds in range(2, cell.rounds + 1):
            shorter = method.model_copy(update={"rounds": rounds})
            above = self._reference(runs[-1], teacher.family)
            runs += self._variant(network, shorter, above, seed)
        return runs

    def _variant(
        self, network: str, method: Method, teacher: TeacherRef, seed: int
    ) -> list[PlannedRun]:
        """Return a student of a method, after its initial teacher if it uses a hold-out."""
        needs, runs, initial = method.needs, [], None
        if isinstance(needs.holdout, HoldoutRule):
            runs = [self._teacher(None, seed, held_out=needs.holdout)]
            initial = self._reference(runs[0], teacher.family)  # compared with other methods
        ref = {"full": teacher, "initial": initial, None: None}[needs.teacher]
        own = self._student_network(network)
        if ref is not None and not method.trains:
            own = self._network(ref.architecture)
        spec = TrainingSpec(
            stage="student",
            **own,
            temperature=getattr(method, "temperature", None),
            teacher=ref,
            initial=initial,
            variant=Variant(
                method=method.name,
                options=method.model_dump(mode="json"),
                code_digest=methods.digest(method.name),
            ),
            **self._shared(by_alpha(None), seed),
        )
        needed = dict.fromkeys(above.run_id for above in (ref, initial) if above is not None)
        return [*runs, self._run(spec, tuple(needed))]

    def _undistilled(self, network: str, objective: NamedObjective, seed: int) -> PlannedRun:
        """Return a student that is trained on labels, without a teacher."""
        true_labels = self._settings.multipliers.model_copy(update={"val_labels": "true"})
        spec = TrainingSpec(
            stage="student",
            **self._student_network(network),
            variant=Variant(method=OneHot.name),
            multipliers=_multipliers(true_labels, objective),
            **self._shared(objective, seed),
        )
        return self._run(spec, ())

    def _teachers(self, alpha: float | None, seed: int) -> list[PlannedRun]:
        """Return a teacher of the grid, after those that it is derived from."""
        settings = self._settings
        if alpha is None or settings.teachers == "trained":
            return [self._teacher(alpha, seed)]
        nearer = [a for a in settings.alphas if a < alpha] if settings.teachers == "warm" else []
        above = self._teachers(max(nearer, default=None), seed)
        derived = Derivation(by=settings.teachers, source=self._reference(above[-1]))
        return [*above, self._teacher(alpha, seed, derived=derived)]

    def _teacher(
        self,
        alpha: float | None,
        seed: int,
        *,
        held_out: HoldoutRule | None = None,
        derived: Derivation | None = None,
    ) -> PlannedRun:
        settings = self._settings
        # The risks of a teacher always use the true labels, as its spec states.
        multipliers = settings.multipliers.model_copy(update={"val_labels": "true"})
        recipe = settings.teaching
        share = _DERIVED_EPOCHS.get(derived.by) if derived is not None else None
        if share is not None:  # the same progress in fewer epochs, without a warm-up
            epochs = max(1, round(share * recipe.epochs))
            recipe = recipe.model_copy(update={"epochs": epochs, "warmup": 0.0})
            step_size = multipliers.step_size / share
            multipliers = multipliers.model_copy(update={"step_size": step_size})
        shifted = derived is not None and derived.by == "shifted"
        spec = TrainingSpec(
            stage="teacher",
            **self._network(settings.teacher_architecture),
            multipliers=None if shifted else _multipliers(multipliers, by_alpha(alpha)),
            held_out=held_out,
            initial_weights=settings.initial_weights if derived is None else None,
            given_logits=settings.given_logits,
            derived=derived,
            **self._shared(by_alpha(alpha), seed) | {"recipe": recipe},
        )
        return self._run(spec, () if derived is None else (derived.source.run_id,))

    def _student(
        self,
        network: str,
        teacher: TeacherRef,
        objective: NamedObjective,
        temperature: float,
        seed: int,
    ) -> PlannedRun:
        spec = TrainingSpec(
            stage="student",
            **self._student_network(network),
            temperature=temperature,
            multipliers=_multipliers(self._settings.multipliers, objective),
            teacher=teacher,
            **self._shared(objective, seed),
        )
        return self._run(spec, (teacher.run_id,))

    def _network(self, architecture: str) -> dict[str, Any]:
        """Return the fields that name a network."""
        digest = self._settings.network_digests.get(architecture)
        return {"architecture": architecture, "network_digest": digest}

    def _student_network(self, architecture: str) -> dict[str, Any]:
        """Return the fields that name a network of the students and its initial weights."""
        given = self._settings.student_initial_weights.get(architecture)
        return self._network(architecture) | {"initial_weights": given}

    def _shared(self, objective: NamedObjective, seed: int) -> dict[str, Any]:
        """Return the fields that teachers and students have in common."""
        settings, (name, alpha) = self._settings, objective
        return {
            "dataset": settings.dataset,
            "data": settings.data,
            "objective": name,
            "objective_digest": plugins.objectives.digest(name),
            "alpha": alpha,
            "recipe": settings.recipe,
            "scale_by_classes": settings.scale_by_classes,
            "seed": seed,
        }


def make_plan(settings: Settings, fingerprint: str) -> Plan:
    """Return the plan of a sweep, see ``Planner.plan``."""
    return Planner(settings, fingerprint).plan()


_DERIVED_EPOCHS = {"head": 0.2, "warm": 0.3}
"""Epochs of derived teachers, as shares of those of a teacher that is trained from scratch."""


def _multipliers(options: MultiplierOptions, objective: NamedObjective) -> MultiplierOptions | None:
    name, alpha = objective
    return options if find(name).uses_multipliers(alpha) else None


def _trade_off(spec: TrainingSpec | TeacherRef) -> str:
    return spec.objective if spec.alpha is None else f"{spec.alpha:g}"
