"""Planned runs: their recipes, labels and order."""

import dataclasses

import pytest

from rkd_core.specs import Tuned, family_id, run_id
from sweeps.cli.repeats import Repeat
from sweeps.planning.plan import Planner, make_plan, spread
from tests.sweeps.planning.test_plan import SETTINGS


def student(alpha_t, alpha_s, temperature=1.0, seed=0, tuning=None, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return Planner(settings, "data").grid_student(alpha_t, alpha_s, temperature, seed, tuning)


def test_a_student_of_the_grid_comes_after_its_teacher():
    plan = make_plan(SETTINGS, "data")
    teacher, run = student(0.5, 0.25, 3.0)
    assert teacher in plan.teachers
    assert run in plan.students
    assert run.depends_on == (teacher.run_id,)
    spec = run.spec
    assert (spec.teacher.alpha, spec.alpha, spec.temperature, spec.seed) == (0.5, 0.25, 3.0, 0)
    first, second, chained = student(0.25, None, teachers="warm")[:-1]
    assert [first.spec.alpha, second.spec.alpha, chained.spec.alpha] == [None, 0.0, 0.25]


def test_a_tuned_student_has_its_own_recipe_and_keeps_the_sweeps_for_comparison():
    tuning = {"learning_rate": 0.3, "weight_decay": 0.001, "multiplier_step_size": 0.7}
    plain, run = (student(None, 1.0, tuning=t)[-1] for t in (None, tuning))
    spec = run.spec
    assert (spec.recipe.learning_rate, spec.recipe.weight_decay) == (0.3, 0.001)
    assert spec.multipliers.step_size == 0.7
    assert spec.tuned == Tuned(
        learning_rate=SETTINGS.recipe.learning_rate,
        weight_decay=SETTINGS.recipe.weight_decay,
        multiplier_step_size=SETTINGS.multipliers.step_size,
    )
    assert run.run_id == run_id(spec, "data") != plain.run_id
    assert run.depends_on == plain.depends_on
    assert family_id(spec, "data") == family_id(plain.spec, "data")
    assert run.label != plain.label


def test_a_step_size_leaves_a_student_without_multipliers_as_it_is():
    for alpha in (None, 0.0):
        plain = student(None, alpha)[-1]
        assert student(None, alpha, tuning={"multiplier_step_size": 0.7})[-1] == plain
        both = {"multiplier_step_size": 0.7, "learning_rate": 0.3}
        run = student(None, alpha, tuning=both)[-1]
        assert run.spec.multipliers is None
        assert run.spec.tuned == Tuned(learning_rate=SETTINGS.recipe.learning_rate)


def test_objectives_with_multipliers():
    plan = make_plan(SETTINGS, "data")
    for run in plan.runs:
        assert (run.spec.multipliers is not None) == bool(run.spec.alpha)
        assert run.spec.objective == ("standard" if run.spec.alpha is None else "tradeoff")


def test_labels_describe_runs():
    def labels(**changes):
        return [run.label for run in make_plan(dataclasses.replace(SETTINGS, **changes), "d").runs]

    grid = labels()
    assert grid[:2] == ["teacher standard, seed 0", "teacher 0, seed 0"]
    assert "student standard, T=1, on teacher standard, seed 0" in grid
    assert "student 0.25, T=5, on teacher 0.75, seed 0" in grid
    assert "teacher 0.5 (head), seed 3" in labels(teachers="head", seeds=(3,))
    held = "teacher standard, trained without the held-out images, seed 0"
    assert held in labels(methods=("ada_alpha",))
    tuned = student(None, 1.0, tuning={"learning_rate": 0.3})[-1].label
    assert tuned == "student 1, T=1, on teacher standard, learning_rate 0.3, seed 0"


def test_standard_distillation_of_every_seed_comes_first_in_a_spread_plan():
    settings = dataclasses.replace(SETTINGS, seeds=(0, 1), methods=("tradeoff", "dkd"))
    plan = make_plan(settings, "data")
    found = spread(plan)
    assert found.teachers == plan.teachers
    assert {run.run_id for run in found.students} == {run.run_id for run in plan.students}
    first, rest = found.students[:6], found.students[6:]  # two seeds, three temperatures
    for run in first:
        assert run.spec.variant is None
        assert (run.spec.objective, run.spec.teacher.objective) == ("standard", "standard")
    for runs in (first, rest):
        assert [run.run_id for run in runs] == sorted(run.run_id for run in runs)


def test_repeats_are_further_seeds_of_what_they_name():
    repeats = (Repeat(0.5, 1.0, 3.0, 2), Repeat(None, None, 1.0, 1))
    settings = dataclasses.replace(SETTINGS, seeds=(0, 4), repeats=repeats)
    plan, grid = (
        make_plan(s, "data") for s in (settings, dataclasses.replace(settings, repeats=()))
    )
    before = {run.run_id for run in grid.runs}
    new = [run.spec for run in plan.runs if run.run_id not in before]
    found = {
        (s.teacher and s.teacher.alpha, s.alpha, s.temperature, s.seed)
        for s in new
        if s.stage == "student"
    }
    assert found == {(0.5, 1.0, 3.0, 5), (0.5, 1.0, 3.0, 6), (None, None, 1.0, 5)}
    teachers = {(s.alpha, s.seed) for s in new if s.stage == "teacher"}
    assert teachers == {(0.5, 5), (0.5, 6), (None, 5)}


def test_given_weights_that_are_not_trained_make_the_standard_teacher_alone():
    untrained = SETTINGS.recipe.model_copy(update={"epochs": 0})
    settings = dataclasses.replace(SETTINGS, teacher_recipe=untrained, initial_weights="a" * 64)
    plan = make_plan(settings, "data")
    assert [run.spec.alpha for run in plan.teachers] == [None]
    assert len(plan.students) == 6 * 3


@pytest.mark.parametrize(("kind", "share"), [("head", 0.2), ("warm", 0.3)])
@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_derived_teachers_have_a_share_of_the_epochs_and_no_warmup(kind, share, epochs):
    recipe = SETTINGS.recipe.model_copy(update={"epochs": epochs, "warmup": 0.1})
    settings = dataclasses.replace(SETTINGS, teachers=kind, recipe=recipe)
    for run in make_plan(settings, "data").teachers:
        derived = run.spec.alpha is not None
        assert run.spec.recipe.epochs == (max(1, round(share * epochs)) if derived else epochs)
        assert run.spec.recipe.warmup == (0.0 if derived else 0.1)
        if run.spec.multipliers is not None and epochs == 30:  # they rise as far in all
            size = SETTINGS.multipliers.step_size / share
            assert run.spec.multipliers.step_size == pytest.approx(size)
            assert run.spec.multipliers.val_labels == "true"
