"""Construction of a search from options and existing records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rkd_core.specs import family_id
from rkd_core.storage.files import Location
from sweeps.cli.budget import budget_of, search_of
from sweeps.cli.options import Economy
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.planning.settings import Settings
from sweeps.search.search import Search
from sweeps.search.strategies import create, options_of
from sweeps.search.strategy import Goal, Request, Space
from sweeps.search.tuning import tuning

__all__ = ["begin"]


def begin(
    economy: Economy,
    goal: Goal,
    settings: Settings,
    fingerprint: str,
    whole: Plan,
    rows: Mapping[str, Mapping[str, Any]],
    out: Location,
    *,
    slots: int,
    seconds: Callable[[PlannedRun], float],
    added: Callable[[Plan], None],
) -> Search:
    """Return the search that the options select.

    Args:
        economy: Options with the strategy and the budget.
        goal: Selection rule.
        settings: Settings of the sweep.
        fingerprint: Fingerprint of the data.
        whole: Plan of the whole grid.
        rows: Existing records of completed and pruned runs, by run id.
        out: Results folder, locked by this command; a strategy may keep a journal there.
        slots: Number of concurrent trainings.
        seconds: Function that returns the estimated duration of a training; 0 if it is unknown.
        added: Called with the plan whenever runs are added to it.

    Raises:
        UserError: The strategy does not support the options.
    """
    student = whole.students[0].spec
    name = search_of(economy)
    if name is None:
        raise ValueError("the whole grid needs no search")
    request = Request(
        Space(settings.alphas, settings.temperatures, settings.seeds),
        goal,
        teacher_cost=max(run.work for run in whole.teachers) / max(student.epochs, 1),
        options={option: getattr(economy, option) for option in options_of(name)},
        tuning=tuning(economy, settings),
        dataset=student.dataset,
        family=family_id(student, fingerprint),
        out=out,
    )
    return Search(
        create(name, request),
        settings,
        fingerprint,
        budget_of(economy.budget),
        whole,
        rows,
        slots=slots,
        seconds=seconds,
        added=added,
    )
