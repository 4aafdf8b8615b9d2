"""What benchmarks without training share: a real plan, lengths for its runs, and their bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.plan import Plan

__all__ = ["FINGERPRINT", "lengths", "lower_bound", "plan"]

FINGERPRINT = "simulated"


def plan(objectives: int, temperatures: int, seeds: int) -> Plan:
    """A grid: for each seed and objective a teacher, on it each objective and temperature."""
    from rkd_core import recipes
    from rkd_core.specs import DataOptions, MultiplierOptions
    from sweeps.plan import make_plan
    from sweeps.settings import Settings

    settings = Settings(
        dataset="digits",
        data=DataOptions(),
        scale="small",
        teacher_architecture="digits_cnn",
        student_architecture="digits_cnn",
        recipe_name="digits",
        recipe=recipes.get("digits"),
        multipliers=MultiplierOptions(),
        scale_by_classes=False,
        alphas=tuple(i / objectives for i in range(objectives - 1)),  # beside the standard one
        temperatures=tuple(1.0 + i for i in range(temperatures)),
        seeds=tuple(range(seeds)),
    )
    return make_plan(settings, FINGERPRINT)


def lengths(runs: Plan, mean: float) -> dict[str, float]:
    """Seconds of each run by its id, the same each time.

    A student takes ``mean`` seconds give or take a fifth, a teacher what the plan thinks it does
    beside a student.
    """
    student = runs.students[0].work

    def share(run_id: str) -> float:
        return 0.8 + 0.4 * int(run_id[:8], 16) / 16**8

    return {run.run_id: mean * run.work / student * share(run.run_id) for run in runs.runs}


def lower_bound(runs: Plan, seconds: Mapping[str, float], slots: int) -> float:
    """No schedule is shorter: all work over the slots, or the longest teacher and student."""
    path = max(seconds[r.run_id] + seconds.get(r.depends_on or "", 0.0) for r in runs.runs)
    return max(path, sum(seconds.values()) / slots)
