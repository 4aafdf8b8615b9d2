"""From options to a search that has been told what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rkd_core.errors import UserError
from rkd_core.specs import family_id
from rkd_core.storage import files
from sweeps.cli.budget import budget_of, search_of
from sweeps.cli.options import Economy
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.planning.settings import Settings
from sweeps.search.informed import Informed
from sweeps.search.optuna_strategy import JOURNAL, WithOptuna
from sweeps.search.search import Search
from sweeps.search.strategy import Goal, Space, Strategy
from sweeps.search.tuning import tuning

__all__ = ["begin"]


def begin(
    economy: Economy,
    goal: Goal,
    settings: Settings,
    fingerprint: str,
    whole: Plan,
    rows: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    slots: int,
    seconds: Callable[[PlannedRun], float],
    added: Callable[[Plan], None],
) -> Search:
    """The search that was asked for.

    Args:
        economy: Which, and what it may spend.
        goal: Of the selection.
        settings: Of the sweep.
        fingerprint: Of the data.
        whole: The plan of the whole grid.
        rows: Records there are that count as ended, by run id.
        out: Results folder, held by this command; Optuna keeps its journal there.
        slots: Trainings at a time.
        seconds: Of a training, as far as that is known; 0 if not.
        added: Called with the plan when it has grown.

    Raises:
        UserError: Optuna was asked for, and the results are in an object store.
    """
    space = Space(settings.alphas, settings.temperatures, settings.seeds)
    return Search(
        _strategy(economy, goal, space, settings, whole, fingerprint, out),
        settings,
        fingerprint,
        budget_of(economy.budget),
        whole,
        rows,
        slots=slots,
        seconds=seconds,
        added=added,
    )


def _strategy(
    economy: Economy,
    goal: Goal,
    space: Space,
    settings: Settings,
    whole: Plan,
    fingerprint: str,
    out: Path,
) -> Strategy:
    student = whole.students[0].spec
    if search_of(economy) == "informed":
        teacher_cost = max(run.work for run in whole.teachers) / max(student.epochs, 1)
        return Informed(space, goal, teacher_cost)
    if not files.is_local(out):
        raise UserError("--search optuna keeps its journal in --out, which must be a folder")
    what = family_id(student, fingerprint), space, goal, economy.sampler, economy.objectives
    tune = tuning(economy, settings)
    key = (*what, economy.continuous, *tune.items())
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    return WithOptuna(
        space,
        goal,
        sampler=economy.sampler,
        objectives=economy.objectives,
        continuous=economy.continuous,
        tune=tune,
        journal=out / JOURNAL,
        study=f"{student.dataset}-{digest}",
    )
