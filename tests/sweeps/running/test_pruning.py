"""Only hopeless students are pruned."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from analysis.selection.criteria import Constrained
from rkd_core import records
from rkd_core.metrics import arcsine_scaled
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.specs import DataOptions
from sweeps.pareto import main
from sweeps.planning.plan import make_plan, spread
from sweeps.running import pruning
from sweeps.running.pruning import Pruner
from tests.e2e.command import TIMES
from tests.sweeps.planning.test_plan import SETTINGS

RECIPE = SETTINGS.recipe.model_copy(update={"epochs": 20})
PLAN = make_plan(dataclasses.replace(SETTINGS, recipe=RECIPE, data=DataOptions()), "data")
STANDARD, *OTHERS = spread(PLAN).students
TOTAL = [500] * 10


def row(worst, average, *, status="completed", epochs=20, looks=()):
    """Return a record whose nine other classes share the rest of the average."""

    def counts(worst, average):
        return [round(500 * worst), *[round(500 * (10 * average - worst) / 9)] * 9]

    return {
        "status": status,
        "val_class_total": TOTAL,
        "val_class_correct": counts(worst, average),
        "val_average_accuracy": average,
        "epochs_trained": epochs,
        "val_epochs": [epochs for epochs, *_ in looks],
        "val_epoch_class_correct": [counts(*figures) for _, *figures in looks],
    }


def experienced(n=20, noise=0.0):
    """Return a pruner that saw students gain 0.2 after epoch 5."""
    pruner = Pruner(Constrained())
    rng = np.random.default_rng(0)
    pruner.see(STANDARD, row(0.45, 0.8, looks=[(5, 0.25, 0.6), (10, 0.35, 0.7)]))
    for run, worst in zip(OTHERS, np.linspace(0.4, 0.7, n), strict=False):
        end = worst + noise * rng.standard_normal()
        looks = [(5, worst - 0.2, 0.6), (10, worst - 0.1, 0.7)]
        pruner.see(run, row(end, 0.8, looks=looks))
    return pruner


def stopped(pruner, worst, average=0.6, epochs=5):
    run = OTHERS[-1]
    pruner.see(run, row(worst, average, status="pruned", epochs=epochs))
    return pruner.hopeless(run)


def test_the_chance_is_that_of_the_prediction_interval_of_a_regression():
    rng = np.random.default_rng(1)
    at = rng.uniform(0.3, 0.6, 30)
    final = 0.1 + 1.2 * at + 0.02 * rng.standard_normal(30)
    pairs = list(zip(at, final, strict=True))
    fit = stats.linregress(at, final)
    residual = final - fit.intercept - fit.slope * at
    s = np.sqrt((residual**2).sum() / 28)
    for now, bar in ((0.35, 0.6), (0.5, 0.7), (0.2, 0.5)):
        se = s * np.sqrt(1 + 1 / 30 + (now - at.mean()) ** 2 / ((at - at.mean()) ** 2).sum())
        expected = stats.t.sf((bar - fit.intercept - fit.slope * now) / se, 28)
        assert pruning._chance(pairs, now, bar) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("epochs", [5, 10])
def test_only_students_far_behind_are_hopeless(epochs):
    behind = 0.2 if epochs == 5 else 0.1
    assert stopped(experienced(), 0.35 - behind, 0.6 + 0.02 * (epochs - 5), epochs)
    assert not stopped(experienced(), 0.7 - behind, 0.6 + 0.02 * (epochs - 5), epochs)
    assert not stopped(experienced(), 0.68 - behind, 0.6 + 0.02 * (epochs - 5), epochs)


def test_students_that_will_miss_the_constraint_are_hopeless():
    pruner = Pruner(Constrained())
    pruner.see(STANDARD, row(0.45, 0.8, looks=[(5, 0.25, 0.6)]))
    for run, average in zip(OTHERS, np.linspace(0.6, 0.85, 20), strict=False):
        pruner.see(run, row(0.5, average, looks=[(5, 0.3, average - 0.2)]))
    assert stopped(pruner, 0.3, 0.3)
    assert not stopped(pruner, 0.3, 0.6)


def test_no_student_is_hopeless_while_the_outcome_is_open():
    assert not stopped(experienced(noise=0.2), 0.2)


def test_no_student_is_hopeless_before_enough_others_have_ended():
    pruner = experienced(n=6)  # and standard distillation
    assert pruner.until(OTHERS[-1]) is None
    assert not stopped(pruner, 0.05)
    pruner = experienced(n=7)
    assert pruner.until(OTHERS[-1]) == 5
    assert stopped(pruner, 0.05)
    assert pruner.until(OTHERS[-1]) == 10


def test_teachers_other_methods_and_standard_distillation_are_spared():
    settings = dataclasses.replace(SETTINGS, methods=("tradeoff", "kd"))
    plan = make_plan(settings, "data")
    pruner = experienced()
    (kd,) = (run for run in plan.students if run.spec.variant is not None)
    for run in (plan.teachers[0], kd, STANDARD):
        assert pruner.until(run) is None
        assert pruner.spares(run)


def test_one_lucky_seed_is_no_bar_for_the_others():
    """Judge a combination by its mean over seeds, as the selection does."""
    settings = dataclasses.replace(SETTINGS, recipe=RECIPE, seeds=(0, 1, 2))
    runs = [
        run
        for run in make_plan(settings, "data").students
        if (run.spec.teacher.alpha, run.spec.alpha, run.spec.temperature) == (0.5, 0.5, 3.0)
    ]
    pruner = experienced()
    for run, worst in zip(runs, (0.9, 0.6, 0.6), strict=True):
        pruner.see(run, row(worst, 0.8))
    seen = pruner._seen[runs[0].spec.architecture]
    bar = pruner._bar(seen, float(arcsine_scaled(0.7)))
    assert np.sin(bar) ** 2 == pytest.approx(0.66, abs=0.02)


def test_standard_distillation_comes_first_and_the_rest_is_spread():
    students = spread(PLAN).students
    assert {run.run_id for run in students} == {run.run_id for run in PLAN.students}
    first = [(r.spec.teacher.objective, r.spec.objective, r.spec.temperature) for r in students[:3]]
    assert sorted(first) == [("standard", "standard", t) for t in (1.0, 3.0, 5.0)]
    assert len({run.spec.teacher.alpha for run in students[3:15]}) >= 4


def rows(out):
    table = records.read(out / "records").to_pylist()
    unlike = TIMES | {"val_epochs", "val_epoch_class_correct"}
    return {r["run_id"]: {k: v for k, v in r.items() if k not in unlike} for r in table}


def test_a_pruned_sweep_stays_so_and_goes_on_to_what_it_would_have_been(
    tmp_path, monkeypatch, capsys
):
    """Prune with so little evidence that half of the students are hopeless."""
    monkeypatch.setattr(pruning, "_DOUBT", 0.5)
    grid = ["--alphas", "0", "0.5", "1", "--temperatures", "1", "--epochs", "8", "--serial"]

    def pareto(out, *more):
        assert main(["--dataset", "digits-lt", *grid, "--out", str(tmp_path / out), *more]) == 0
        return capsys.readouterr().out

    pareto("whole")
    said = pareto("pruned", "--prune")
    found = rows(tmp_path / "pruned")
    pruned = {key: row for key, row in found.items() if row["status"] == "pruned"}
    assert 1 <= len(pruned) <= 8
    assert f"{len(pruned)} of 20 students pruned as hopeless" in said
    assert {row["epochs_trained"] for row in pruned.values()} <= {2, 4}
    for key, row in pruned.items():
        assert row["stage"] == "student"
        assert row["test_class_correct"] is None
        assert Checkpoints(tmp_path / "pruned", key).newest() > 0
    again = pareto("pruned", "--prune")
    assert "All 24 are trained or pruned already." in again
    assert f"{len(pruned)} of 20 students pruned as hopeless" in again
    assert rows(tmp_path / "pruned") == found
    said = pareto("pruned")
    assert f"{24 - len(pruned)} are trained already, {len(pruned)} to go" in said
    assert rows(tmp_path / "pruned") == rows(tmp_path / "whole")
    assert not list((tmp_path / "pruned" / "checkpoints").glob("*"))
