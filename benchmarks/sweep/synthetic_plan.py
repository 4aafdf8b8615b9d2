"""A real plan with made-up durations and their lower bound, for benchmarks without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeps.running import watcher

if TYPE_CHECKING:
    from rkd_core.specs import Recipe
    from sweeps.planning.plan import Plan, PlannedRun

__all__ = ["FINGERPRINT", "Watcher", "lengths", "lower_bound", "plan"]

FINGERPRINT = "simulated"


class Watcher(watcher.Watcher):
    """A base class of watchers that ignores everything except a failure, which it raises."""

    def failed(self, run: PlannedRun, cause: str) -> None:
        raise RuntimeError(cause)


def plan(
    objectives: int,
    temperatures: int,
    seeds: int,
    *,
    architecture: str = "digits_cnn",
    recipe: Recipe | None = None,
    methods: tuple[str, ...] = ("tradeoff",),
    fingerprint: str = FINGERPRINT,
) -> Plan:
    """Return the plan of a grid, besides the other ``methods``.

    For each seed and objective it has a teacher, and on each teacher a student of each objective
    and temperature.
    """
    from rkd_core.specs import DataOptions, MultiplierOptions, recipes
    from sweeps.planning.plan import make_plan
    from sweeps.planning.settings import Settings

    settings = Settings(
        dataset="digits",
        data=DataOptions(),
        scale="small",
        teacher_architecture=architecture,
        student_architectures=(architecture,),
        recipe_name="digits",
        recipe=recipe or recipes.get("digits"),
        multipliers=MultiplierOptions(),
        scale_by_classes=False,
        alphas=tuple(i / objectives for i in range(objectives - 1)),  # besides the standard one
        temperatures=tuple(1.0 + i for i in range(temperatures)),
        seeds=tuple(range(seeds)),
        methods=methods,
    )
    return make_plan(settings, fingerprint)


def lengths(runs: Plan, mean: float) -> dict[str, float]:
    """Return the deterministic seconds of each run by its id.

    A student takes ``mean`` seconds, plus or minus a fifth. A teacher takes its estimated work
    relative to a student's.
    """
    student = runs.students[0].work

    def share(run_id: str) -> float:
        return 0.8 + 0.4 * int(run_id[:8], 16) / 16**8

    return {run.run_id: mean * run.work / student * share(run.run_id) for run in runs.runs}


def lower_bound(runs: Plan, seconds: Mapping[str, float], slots: int) -> float:
    """Return a lower bound: all work over the slots, or the longest teacher with a student."""
    path = max(
        seconds[r.run_id] + max((seconds[n] for n in r.depends_on), default=0.0) for r in runs.runs
    )
    return max(path, sum(seconds.values()) / slots)
