"""The plan: which teachers, which students, who depends on whom. Plain data, no Ray, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rkd_core.specs import TeacherRef, TrainingSpec, family_id, run_id
from sweeps.settings import Settings

__all__ = ["Plan", "PlannedRun", "make_plan"]


@dataclass(frozen=True)
class PlannedRun:
    """One training of a plan."""

    run_id: str
    spec: TrainingSpec
    depends_on: str | None
    """Run id of the training that must be completed first; None if it can start at once."""

    @property
    def work(self) -> float:
        """Roughly how long it takes among its like: a teacher's passes cost a third of training.

        Multipliers are left out: they cost little, and with them the students that all others are
        compared with, standard distillation, would come last.
        """
        return self.spec.recipe.epochs * (4 / 3 if self.spec.teacher else 1.0)

    @property
    def label(self) -> str:
        """For people: ``teacher 0.5, seed 0`` or ``student standard, T=3, on teacher 0.5, ...``."""
        spec = self.spec
        name = f"{spec.stage} {_trade_off(spec.alpha)}"
        if spec.teacher is not None:
            name += f", T={spec.temperature:g}, on teacher {_trade_off(spec.teacher.alpha)}"
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


def make_plan(settings: Settings, fingerprint: str) -> Plan:
    """The grid: ``standard`` and each alpha, for teachers, and for students at each temperature.

    Alpha 0 is the balanced objective and alpha 1 the robust one, so a grid that has both holds
    the nine combinations of Wang et al. (UAI 2023, Table 1).
    """
    objectives: list[float | None] = [None, *settings.alphas]
    teachers: list[PlannedRun] = []
    students: list[PlannedRun] = []
    for seed in settings.seeds:
        for alpha_t in objectives:
            teacher = _teacher(settings, alpha_t, seed, fingerprint)
            teachers.append(teacher)
            ref = TeacherRef(
                run_id=teacher.run_id,
                family=family_id(teacher.spec, fingerprint),
                architecture=teacher.spec.architecture,
                objective=teacher.spec.objective,
                alpha=teacher.spec.alpha,
            )
            students += [
                _student(settings, ref, alpha_s, temperature, seed, fingerprint)
                for alpha_s in objectives
                for temperature in settings.temperatures
            ]
    return Plan((*teachers, *students))


def _teacher(settings: Settings, alpha: float | None, seed: int, fingerprint: str) -> PlannedRun:
    # A teacher's risks always go by the true labels, so its spec says so.
    by_true_labels = settings.multipliers.model_copy(update={"val_labels": "true"})
    spec = TrainingSpec(
        stage="teacher",
        architecture=settings.teacher_architecture,
        multipliers=by_true_labels if alpha else None,
        **_shared(settings, alpha, seed),
    )
    return PlannedRun(run_id(spec, fingerprint), spec, None)


def _student(
    settings: Settings,
    teacher: TeacherRef,
    alpha: float | None,
    temperature: float,
    seed: int,
    fingerprint: str,
) -> PlannedRun:
    spec = TrainingSpec(
        stage="student",
        architecture=settings.student_architecture,
        temperature=temperature,
        multipliers=settings.multipliers if alpha else None,
        teacher=teacher,
        **_shared(settings, alpha, seed),
    )
    return PlannedRun(run_id(spec, fingerprint), spec, teacher.run_id)


def _shared(settings: Settings, alpha: float | None, seed: int) -> dict[str, Any]:
    """The fields that teachers and students fill in alike."""
    return {
        "dataset": settings.dataset,
        "data": settings.data,
        "objective": "standard" if alpha is None else "tradeoff",
        "alpha": alpha,
        "recipe": settings.recipe,
        "scale_by_classes": settings.scale_by_classes,
        "seed": seed,
    }


def _trade_off(alpha: float | None) -> str:
    return "standard" if alpha is None else f"{alpha:g}"
