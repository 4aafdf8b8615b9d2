"""Searches with the command: budgets, resumed searches and their files."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rkd_core import records
from sweeps.pareto import main
from tests.e2e.command import ROOT, answer

GRID = ["--alphas", "0", "1", "--temperatures", "1", "3", "--epochs", "4", "--serial"]
WHOLE = 3 + 18
WITHOUT_TEACHER = 3  # of the grid; searches leave them out


@pytest.fixture(name="pareto")
def run_it(tmp_path, capsys):
    def pareto(*more, code=0):
        out = str(tmp_path / "results")
        assert main(["--dataset", "digits-lt", *GRID, "--out", out, *more]) == code
        return capsys.readouterr()

    return pareto


def done(out):
    table = records.read(out / "records").to_pylist()
    return {row["run_id"]: row for row in table if row["status"] == "completed"}


def planned(out):
    return json.loads((out / "plan.json").read_text())["run_ids"]


@pytest.mark.parametrize("search", ["informed", "optuna"])
def test_a_budget_is_spent_once_and_a_larger_one_goes_on(pareto, tmp_path, search):
    out, options = tmp_path / "results", ["--search", search, "--budget"]
    said = pareto(*options, "40%").out
    first = done(out)
    assert round(0.4 * WHOLE) <= len(first) <= round(0.4 * WHOLE) + 1
    assert set(planned(out)) == set(first)
    assert "of the grid's cost" in said
    assert ("The next would be student" in said) == (search == "informed")
    assert answer(said)
    pareto(*options, "70%")
    more = done(out)
    assert round(0.7 * WHOLE) <= len(more) <= round(0.7 * WHOLE) + 1
    assert first.items() <= more.items()
    pareto(*options, "70%")
    assert done(out) == more
    if search == "informed":
        pareto()  # the whole grid, of which all of that is a part
        assert len(done(out)) == WHOLE + WITHOUT_TEACHER
        assert more.items() <= done(out).items()
    assert (out / "search.journal").exists() == (search == "optuna")


@pytest.mark.slow
def test_optuna_may_go_between_the_grids_points_and_what_it_finds_is_selected_from(
    pareto, tmp_path
):
    out, options = tmp_path / "results", ["--search", "optuna", "--continuous", "--budget"]
    pareto(*options, "40%")
    pareto(*options, "60%")
    kept = done(out)
    assert set(planned(out)) == set(kept)
    between = {row["alpha_s"] for row in kept.values()} - {None, 0.0, 1.0}
    assert len(between) >= 2
    selection = json.loads((out / "selection.json").read_text())
    students = [row for row in kept.values() if row["stage"] == "student"]
    plain = [c for c in selection["combinations"] if c["shift"] is None]
    assert len(plain) == len(students)


@pytest.mark.slow
def test_students_recipes_may_be_tuned_and_are_combinations_of_their_own(pareto, tmp_path):
    out = tmp_path / "results"
    tune = ["--tune", "learning-rate", "weight-decay", "multiplier-step-size"]
    said = pareto("--search", "optuna", "--budget", "50%", *tune, "--verbose").out
    kept = done(out)
    students = [row for row in kept.values() if row["stage"] == "student"]
    tuned = [row for row in students if row["tuned"]]
    assert len(tuned) >= 3
    assert {row["family"] for row in students} == {students[0]["family"]}
    for row in tuned:
        spec = json.loads(row["spec"])
        assert f"learning_rate {spec['recipe']['learning_rate']:g}" in row["tuned"]
        assert ("multiplier_step_size" in row["tuned"]) == bool(row["alpha_s"])
    assert any("multiplier_step_size" in row["tuned"] for row in tuned)
    selection = json.loads((out / "selection.json").read_text())
    plain = [c for c in selection["combinations"] if c["shift"] is None]
    assert len(plain) == len(students)
    assert {c["tuned"] for c in selection["combinations"]} == {row["tuned"] for row in students}
    assert "trained with its own recipe" in said
    pareto("--search", "optuna", "--budget", "50%", *tune)  # finds them again in its journal
    assert done(out) == kept


def test_an_option_at_0_cannot_be_tuned_and_nothing_is_written(pareto, tmp_path):
    options = ["--search", "optuna", "--tune", "weight-decay", "--weight-decay", "0"]
    (line,) = pareto(*options, code=2).err.splitlines()
    assert "give a --weight-decay" in line
    assert not (tmp_path / "results").exists()


def test_pruned_students_count_for_what_they_cost(pareto, tmp_path, monkeypatch):
    from sweeps.running import pruning

    monkeypatch.setattr(pruning, "_DOUBT", 0.9)
    monkeypatch.setattr(pruning, "_ENOUGH", 4)
    pareto("--budget", "80%", "--prune")
    out = tmp_path / "results"
    rows = records.read(out / "records").to_pylist()
    pruned = [row for row in rows if row["status"] == "pruned"]
    assert pruned
    assert len(rows) > round(0.8 * WHOLE)  # for the same cost
    assert set(planned(out)) == {row["run_id"] for row in rows}


@pytest.mark.slow
def test_killed_it_goes_on_and_loses_nothing(tmp_path):
    out = tmp_path / "results"
    options = ["--dataset", "digits-lt", *GRID, "--out", str(out)]
    options += ["--search", "optuna", "--budget", "60%", "--quiet"]
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 600
        while len(done(out) if out.exists() else ()) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
    before = done(out)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    after = done(out)
    assert before.items() <= after.items()
    assert len(after) <= round(0.6 * WHOLE) + 2
    assert set(planned(out)) == set(after)


def test_teachers_that_are_proposed_later_find_the_weights_they_start_from(pareto, tmp_path):
    import torch

    from rkd_core import models

    path = tmp_path / "weights.pt"
    torch.save(models.build("digits_cnn", 10, 1, (8, 8), seed=0).state_dict(), path)
    given = ["--teacher-architecture", "digits_cnn", "--teacher-weights", str(path), "--budget"]
    pareto(*given, "5%")
    pareto(*given, "40%")  # begins with a student of the teacher there is
    teachers = [row for row in done(tmp_path / "results").values() if row["stage"] == "teacher"]
    assert len(teachers) == 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--budget", "lots"], "--budget is like 40%, 2h or 90min, not lots"),
        (["--budget", "40%", "--methods", "kd"], "leave --methods out"),
        (["--search", "optuna", "--repeat", "0/1/1=1"], "leave --repeat out"),
        (["--sampler", "gp"], "--sampler requires --search optuna"),
        (["--continuous", "--budget", "40%"], "--continuous requires --search optuna"),
        (["--tune", "learning-rate"], "--tune requires --search optuna"),
        (["--search", "best"], "--search"),
    ],
)
def test_conflicting_options_are_one_line(pareto, tmp_path, options, named):
    (line,) = pareto(*options, code=2).err.splitlines()
    assert named in line
    assert not (tmp_path / "results").exists()
