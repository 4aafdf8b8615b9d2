"""Plans with teachers derived from a trained one."""

import dataclasses

import pytest

from rkd_core.specs import GIVEN_LOGITS, Recipe, family_id
from sweeps.planning.plan import make_plan
from tests.sweeps.planning.test_plan import SETTINGS


@pytest.mark.parametrize("kind", ["shifted", "head"])
def test_teachers_may_come_from_the_standard_one(kind):
    plan = make_plan(dataclasses.replace(SETTINGS, teachers=kind, seeds=(0, 1)), "data")
    assert (len(plan.teachers), len(plan.students)) == (12, 216)
    standard = {r.spec.seed: r.run_id for r in plan.teachers if r.spec.objective == "standard"}
    for run in plan.teachers:
        if run.spec.objective != "standard":
            assert run.depends_on == (standard[run.spec.seed],)
            assert run.spec.derived.by == kind
            assert run.spec.method == f"{kind}_teacher"
            assert run.label == f"teacher {run.spec.alpha:g} ({kind}), seed {run.spec.seed}"
    assert len({family_id(run.spec, "data") for run in plan.teachers}) == 1
    trained = make_plan(dataclasses.replace(SETTINGS, seeds=(0, 1)), "data")
    assert {family_id(run.spec, "data") for run in plan.students} == {
        family_id(run.spec, "data") for run in trained.students
    }
    # What is shared is found again: the standard teachers and their students.
    shared = {run.run_id for run in plan.runs} & {run.run_id for run in trained.runs}
    assert len(shared) == 2 * (1 + 18)


def test_warm_teachers_come_from_their_neighbours():
    plan = make_plan(dataclasses.replace(SETTINGS, teachers="warm"), "data")
    by_id = {run.run_id: run for run in plan.teachers}
    chain = {
        run.spec.alpha: by_id[run.depends_on[0]].spec.alpha
        for run in plan.teachers
        if run.depends_on
    }
    assert chain == {0.0: None, 0.25: 0.0, 0.5: 0.25, 0.75: 0.5, 1.0: 0.75}
    seen = set()
    for run in plan.runs:
        assert set(run.depends_on) <= seen
        seen.add(run.run_id)


def test_derived_teachers_are_shorter_and_rise_as_far():
    full = SETTINGS.recipe.epochs
    for kind, epochs in (("head", round(0.2 * full)), ("warm", round(0.3 * full)), ("shifted", 0)):
        plan = make_plan(dataclasses.replace(SETTINGS, teachers=kind), "data")
        (robust,) = (run.spec for run in plan.teachers if run.spec.alpha == 1)
        assert robust.epochs == epochs
        if kind == "shifted":
            assert robust.multipliers is None
        else:
            rise = robust.multipliers.step_size * epochs
            assert rise == pytest.approx(SETTINGS.multipliers.step_size * full, rel=0.1)


def test_given_logits_teach_the_whole_grid():
    given = dataclasses.replace(
        SETTINGS,
        teachers="shifted",
        teacher_architecture=GIVEN_LOGITS,
        teacher_recipe=Recipe(epochs=0),
        given_logits="0" * 64,
    )
    plan = make_plan(given, "data")
    assert (len(plan.teachers), len(plan.students)) == (6, 108)
    assert {run.spec.given_logits for run in plan.teachers} == {"0" * 64}
    assert {run.spec.architecture for run in plan.teachers} == {GIVEN_LOGITS}
    assert {run.spec.epochs for run in plan.teachers} == {0}
    assert all(run.spec.given_logits is None for run in plan.students)
    # Teachers do not depend on the recipe of the students.
    longer = SETTINGS.recipe.model_copy(update={"epochs": 77})
    other = make_plan(dataclasses.replace(given, recipe=longer), "data")
    assert [r.run_id for r in plan.teachers] == [r.run_id for r in other.teachers]
