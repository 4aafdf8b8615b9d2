"""Searches from options: the strategy is made, and told which students are trained already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rkd_core.specs import family_id
from sweeps.cli.budget import budget_of, search_of
from sweeps.cli.options import Economy
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.planning.settings import Settings
from sweeps.search.search import Search
from sweeps.search.strategies import STRATEGIES, create
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
    out: Path,
    *,
    slots: int,
    seconds: Callable[[PlannedRun], float],
    added: Callable[[Plan], None],
) -> Search:
    """Return the search that was asked for.

    Args:
        economy: Its strategy and budget.
        goal: Of the selection.
        settings: Of the sweep.
        fingerprint: Of the data.
        whole: The plan of the whole grid.
        rows: Records there are that count as ended, by run id.
        out: Results folder, held by this command; a strategy may keep a journal there.
        slots: Trainings at a time.
        seconds: Of a training, as far as that is known; 0 if not.
        added: Called with the plan when it has grown.

    Raises:
        UserError: The strategy cannot do what was asked for.
    """
    student = whole.students[0].spec
    name = search_of(economy)
    if name is None:
        raise ValueError("the whole grid needs no search")
    request = Request(
        Space(settings.alphas, settings.temperatures, settings.seeds),
        goal,
        teacher_cost=max(run.work for run in whole.teachers) / max(student.epochs, 1),
        options={option: getattr(economy, option) for option in STRATEGIES[name].options},
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
