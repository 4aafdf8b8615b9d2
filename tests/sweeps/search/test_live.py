"""Proposals become runs within a budget; recorded runs are passed on and count toward it."""

import dataclasses

import pytest

from rkd_core.errors import UserError
from sweeps.cli.budget import Budget, budget_of
from sweeps.planning.plan import make_plan
from sweeps.search.informed import Informed
from sweeps.search.search import Search
from sweeps.search.strategy import Goal, Space
from tests.sweeps.planning.test_plan import SETTINGS
from tests.sweeps.search.problems import outcome, row

SMALL = dataclasses.replace(SETTINGS, alphas=(0.0, 0.5, 1.0), temperatures=(1.0, 3.0))
WHOLE = make_plan(SMALL, "data")  # 4 teachers and 32 students


def search(budget, rows=None, slots=1, added=lambda plan: None):
    space = Space(SMALL.alphas, SMALL.temperatures, SMALL.seeds)
    return Search(
        Informed(space, Goal()),
        SMALL,
        "data",
        budget,
        WHOLE,
        rows or {},
        slots=slots,
        seconds=lambda run: 2.0,
        added=added,
    )


def finish(found, number=1000):
    """Train all proposed runs; return the rows by run id."""
    rows = {}
    while len(rows) < number and (runs := found.propose()):
        for run in runs:
            point = found._points.get(run.run_id)
            became = row(0.5, 0.8) if point is None else outcome(point)
            rows[run.run_id] = became
            found.ended(run, became)
    return rows


@pytest.mark.parametrize(
    ("text", "budget", "said"),
    [
        ("40%", Budget(share=0.4), "40% of the grid's cost"),
        ("2h", Budget(seconds=7200), "2 h"),
        ("90min", Budget(seconds=5400), "1.5 h"),
        ("30 s", Budget(seconds=30), "30 s"),
        ("1.5d", Budget(seconds=129600), "1.5 d"),
        (None, Budget(share=0.25), "25% of the grid's cost"),
    ],
)
def test_a_budget_is_time_or_a_share(text, budget, said):
    assert budget_of(text) == budget
    assert str(budget) == said


@pytest.mark.parametrize("text", ["", "40", "0%", "101%", "-1h", "2 weeks", "nan%", "h", "1e3s"])
def test_invalid_budgets_are_refused(text):
    with pytest.raises(UserError, match="--budget is like 40%, 2h or 90min"):
        Budget.parse(text)


def test_it_stops_when_its_share_is_spent():
    found = search(Budget(share=0.5))
    rows = finish(found)
    assert len(rows) == 18  # half of 36
    assert found.over
    assert found.cost == pytest.approx(0.5)
    assert {run.run_id for run in found.plan.runs} == set(rows)
    assert {r.run_id for r in found.plan.runs} <= {r.run_id for r in WHOLE.runs}


def test_the_next_combination_and_its_expected_gain_are_reported():
    found = search(Budget(share=0.5))
    rows = finish(found)
    label, gain = found.outlook()
    assert 0 <= gain < 0.1
    assert label in {run.label for run in WHOLE.students if run.run_id not in rows}
    few = search(Budget(share=0.1))
    finish(few)
    assert few.outlook() is None  # a probe, of which nobody knows what it adds
    finish(everything := search(Budget(share=1.0)))
    assert everything.outlook() is None


def test_time_is_that_of_all_slots():
    assert len(finish(search(Budget(seconds=10)))) == 5  # of 2 s each
    assert len(finish(search(Budget(seconds=10), slots=2))) == 10


def test_the_same_again_is_over_and_a_larger_one_goes_on():
    rows = finish(search(Budget(share=0.25)))
    again = search(Budget(share=0.25), rows)
    assert again.propose() == []
    assert again.over
    assert {run.run_id for run in again.plan.runs} == set(rows)
    more = search(Budget(share=0.5), rows)
    new = finish(more)
    assert not set(new) & set(rows)
    assert len(new) + len(rows) == 18


def test_all_of_the_grid_is_the_end():
    found = search(Budget(share=1.0))
    assert set(finish(found)) == {run.run_id for run in WHOLE.runs}
    assert found.over


def test_enough_are_under_way_at_a_time():
    found, plans = (
        search(Budget(share=1.0), slots=2, added=lambda plan: plans.append(len(plan))),
        [],
    )
    while found.propose():
        pass
    assert len(found._under_way) == 4
    assert not found.over
    assert plans == sorted(plans)
    assert plans[-1] == len(found.plan)


def test_failed_runs_are_not_proposed_again():
    found = search(Budget(share=1.0))
    runs = found.propose()
    for run in runs:
        found.ended(run, None)
    assert not found._under_way
    assert not {run.run_id for run in finish_runs(found)} & {run.run_id for run in runs}


def test_students_of_a_teacher_that_failed_are_not_waited_for():
    """They would never start."""
    found = search(Budget(share=1.0))
    failed, seen = None, []
    while runs := found.propose():
        for run in runs:
            seen.append(run)
            if run.spec.stage == "teacher" and run.spec.alpha == 0.5:
                failed = run.run_id
            lost = failed is not None and failed in (run.run_id, *run.depends_on)
            point = found._points.get(run.run_id)
            became = row(0.5, 0.8) if point is None else outcome(point)
            found.ended(run, None if lost else became)
    assert sum(failed in run.depends_on for run in seen) == 1  # proposed together with it
    assert len(seen) == 36 - 7
    assert found.over


def finish_runs(found):
    runs = []
    while new := found.propose():
        runs += new
        for run in new:
            point = found._points.get(run.run_id)
            found.ended(run, row(0.5, 0.8) if point is None else outcome(point))
    return runs
