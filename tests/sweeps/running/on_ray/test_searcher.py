"""The sweep as a Tune searcher: trials of one or several trainings, and their reports."""

from dataclasses import replace

import pytest
from ray.tune.search import Searcher

from rkd_core import records
from sweeps.planning.packing import PerTrial
from sweeps.planning.plan import make_plan
from sweeps.running.on_ray.searcher import PlanSearcher
from sweeps.running.sweep import Sweep
from tests.sweeps.planning.test_plan import SETTINGS
from tests.sweeps.running.test_sweep import Notes

PLAN = make_plan(replace(SETTINGS, alphas=(0.0, 1.0), temperatures=(1.0,)), "data")
FIGURES = {"val_average_accuracy": 0.9, "val_worst_class_accuracy": 0.5, "train_seconds": 1.0}


def completed(run_id):
    return FIGURES | {"run_id": run_id, "status": "completed", "done": False}


@pytest.fixture(name="both")
def searcher_and_notes(tmp_path):
    def make(per_trial):
        notes = Notes()
        sweep = Sweep(
            PLAN, set(), tmp_path, "data", notes, per_trial=PerTrial(per_trial, per_trial)
        )
        return PlanSearcher(sweep), notes

    return make


def test_one_training_after_the_other(both):
    searcher, notes = both(1)
    teachers = [searcher.suggest(str(i)) for i in range(3)]
    assert [len(t["specs"]) for t in teachers] == [1, 1, 1]
    assert [len(t["students"]) for t in teachers] == [1, 1, 1]
    assert searcher.suggest("3") is None
    searcher.on_trial_result("0", {"run_id": teachers[0]["run_id"], "epoch": 1, "train_loss": 2.0})
    assert notes.events[-1] == ("progressed", teachers[0]["run_id"])
    searcher.on_trial_result("0", completed(teachers[0]["run_id"]))
    assert notes.events[-1] == ("completed", teachers[0]["run_id"])
    count = len(notes.events)
    searcher.on_trial_complete("0", completed(teachers[0]["run_id"]))  # Tune says it again
    assert len(notes.events) == count
    student = searcher.suggest("4")
    assert student["alpha_s"] is None
    assert student["students"] == []
    for number, one in (("1", teachers[1]), ("2", teachers[2]), ("4", student)):
        searcher.on_trial_complete(number, completed(one["run_id"]))
    for number in range(5, 13):
        searcher.on_trial_complete(str(number), completed(searcher.suggest(str(number))["run_id"]))
    assert searcher.suggest("13") == Searcher.FINISHED


def test_side_by_side_each_reports_for_itself(both, tmp_path):
    searcher, notes = both(8)
    config = searcher.suggest("0")
    ids = [run.run_id for run in PLAN.teachers]
    assert config["run_id"] == ids[0]
    assert "and 2 more" in config["label"]
    # Figures of trainings side by side come under their run ids, as Tune flattens them.
    searcher.on_trial_result("0", {"run_id": ids[1], f"{ids[1]}/epoch": 2, "done": False})
    assert notes.events[-1] == ("progressed", ids[1])
    searcher.on_trial_result("0", completed(ids[1]))
    searcher.on_trial_result("0", completed(ids[1]))  # its process died, and it is told once more
    assert notes.events.count(("completed", ids[1])) == 1
    failed = {"run_id": ids[0], "status": "failed", "cause": "out of luck", "details": ""}
    searcher.on_trial_result("0", failed)
    searcher.on_trial_complete("0", error=True)
    rows = {row["run_id"]: row for row in records.read(tmp_path / "records").to_pylist()}
    assert rows[ids[0]]["cause"] == "out of luck"
    assert "died" in rows[ids[2]]["cause"]
    assert ids[1] not in rows  # its own process wrote its record
    ready = searcher.suggest("1")
    assert len(ready["specs"]) == 3  # the students of the one that is there


def test_commits_of_a_lost_process_are_completed(both, tmp_path):
    searcher, notes = both(8)
    run = PLAN.teachers[1]
    searcher.suggest("0")
    row = records.identity(run.spec, run.run_id, "data") | {"status": "completed"}
    records.write(tmp_path / "records", row | dict.fromkeys(FIGURES, 0.5))
    dying = {"run_id": PLAN.teachers[0].run_id, "status": "dying", "cause": "the GPU fell off"}
    searcher.on_trial_result("0", dying)
    searcher.on_trial_complete("0", error=True)
    assert ("completed", run.run_id) in notes.events
    rows = {row["run_id"]: row for row in records.read(tmp_path / "records").to_pylist()}
    assert rows[run.run_id]["status"] == "completed"
    assert rows[PLAN.teachers[0].run_id]["cause"] == "the GPU fell off"
    assert "died" in rows[PLAN.teachers[2].run_id]["cause"]


def test_reports_after_the_end_of_a_trial_are_ignored(both):
    searcher, notes = both(1)
    run_id = searcher.suggest("0")["run_id"]
    searcher.on_trial_complete("0", completed(run_id))
    count = len(notes.events)
    searcher.on_trial_result("0", completed(run_id))
    assert len(notes.events) == count


def test_no_more_trials_at_a_time_than_fit_at_present(tmp_path):
    slots = 2
    sweep = Sweep(PLAN, set(), tmp_path, "data", Notes(), max_failures=2)
    searcher = PlanSearcher(sweep, lambda: slots)
    trials = [searcher.suggest(str(i)) for i in range(3)]
    assert [trial is None for trial in trials] == [False, False, True]
    slots = 3  # a node has joined
    assert searcher.suggest("2") is not None
    slots = 0  # all are lost, and so are their trials
    for i in range(3):
        searcher.on_trial_complete(str(i), error=True)
    assert searcher.suggest("3") is None
    slots = 1
    assert searcher.suggest("3") is not None
    assert searcher.suggest("4") is None
