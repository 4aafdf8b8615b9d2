"""Every benchmark runs in seconds with ``--quick`` and ends with its rows; no figure is judged."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.estimate import CostModel
from sweeps.plan import make_plan
from sweeps.progress import Tally
from tests.sweeps.test_plan import SETTINGS

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = {
    "makespan": {"makespan"},
    "select_million": {"select_million"},
    "simulate": {"simulate"},
}


def quickly(name, *arguments, folder):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


@pytest.mark.parametrize("name", ROWS)
def test_a_quick_run_ends_with_the_rows(name, tmp_path):
    done = quickly(name, "--quick", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()[-len(ROWS[name]) :]]
    assert {row["name"] for row in rows} == ROWS[name]
    for row in rows:
        assert list(row) == [
            "name",
            "ratio_median",
            "ratio_min",
            "ratio_max",
            "goal",
            "details",
        ]
        figures = [row["ratio_min"], row["ratio_median"], row["ratio_max"]]
        assert all(type(figure) is float and figure > 0 for figure in figures)
        assert row["ratio_min"] <= row["ratio_max"]
        assert isinstance(row["goal"], str)
        assert row["details"]["repetitions"] >= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ROWS)
def test_an_unknown_argument_is_refused(name, tmp_path):
    done = quickly(name, "--quck", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"usage: python benchmarks/{name}.py [--quick]\n"


def test_the_time_left_is_the_sum_over_what_is_left_however_it_is_kept(tmp_path):
    """What ``simulate`` relies on: kept up to date from run to run, and right all the same."""
    plan, costs, slots = make_plan(SETTINGS, "data"), CostModel(), 4
    tally = Tally(
        plan,
        {run.run_id for run in plan.students[3:9]},
        tmp_path,
        costs,
        images=100,
        slots=slots,
        worst_k=1,
        margin=None,
    )
    left = [run for run in plan.runs if run not in plan.students[3:9]]
    for place, run in enumerate(left[:50]):
        tally.started(run)
        left.remove(run)
        if place % 7 == 3:
            tally.failed(run, "out of luck")
        else:
            tally.completed(run, {"train_seconds": 10.0 + place})
        total = costs.total(left, 100)
        expected = None if total is None else pytest.approx(total / slots)
        assert tally.seconds_left() == expected
    assert expected is not None
    # Of one under way, what has passed is taken off, but never more than it was to take.
    tally.started(left[0])
    before = tally.seconds_left()
    run, progress, began = tally.running[left[0].run_id]
    tally.running[run.run_id] = (run, progress, began - 5)
    assert before - tally.seconds_left() == pytest.approx(5 / slots, abs=0.2)
    tally.running[run.run_id] = (run, progress, time.monotonic() - 1e6)
    assert tally.seconds_left() == pytest.approx(costs.total(left[1:], 100) / slots)
