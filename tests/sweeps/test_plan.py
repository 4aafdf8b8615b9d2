import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd_core import recipes
from rkd_core.specs import DataOptions, MultiplierOptions, run_id
from sweeps.plan import Plan, PlannedRun, make_plan
from sweeps.schedule import Schedule
from sweeps.settings import Settings

SETTINGS = Settings(
    dataset="digits",
    data=DataOptions(),
    scale="small",
    teacher_architecture="digits_cnn",
    student_architecture="digits_cnn",
    recipe_name="digits",
    recipe=recipes.get("digits"),
    multipliers=MultiplierOptions(),
    scale_by_classes=False,
    alphas=(0.0, 0.25, 0.5, 0.75, 1.0),
    temperatures=(1.0, 3.0, 5.0),
    seeds=(0,),
)


def ids(**changes):
    plan = make_plan(dataclasses.replace(SETTINGS, **changes), "data")
    return {run.run_id for run in plan.runs}


def test_the_papers_grid_is_6_teachers_and_108_students():
    plan = make_plan(SETTINGS, "data")
    assert (len(plan.teachers), len(plan.students), len(plan)) == (6, 108, 114)
    assert len({run.run_id for run in plan.runs}) == 114
    two = make_plan(dataclasses.replace(SETTINGS, seeds=(0, 1)), "data")
    assert len(two) == 228


def test_every_student_depends_on_the_teacher_its_spec_names():
    plan = make_plan(dataclasses.replace(SETTINGS, seeds=(0, 1)), "data")
    teachers = {run.run_id: run for run in plan.teachers}
    seen = set()
    for run in plan.students:
        teacher = teachers[run.depends_on]
        spec = run.spec
        assert spec.teacher.run_id == run.depends_on == run_id(teacher.spec, "data")
        assert (spec.teacher.objective, spec.teacher.alpha) == (
            teacher.spec.objective,
            teacher.spec.alpha,
        )
        assert spec.seed == teacher.spec.seed
        seen.add((teacher.spec.alpha, spec.alpha, spec.temperature, spec.seed))
    trade_offs = [None, *SETTINGS.alphas]
    assert seen == {
        (t, s, temperature, seed)
        for t in trade_offs
        for s in trade_offs
        for temperature in SETTINGS.temperatures
        for seed in (0, 1)
    }


def test_a_larger_grid_contains_the_smaller_one():
    small = ids(alphas=(0.0, 1.0), temperatures=(1.0,))
    assert small < ids(alphas=(0.0, 0.5, 1.0), temperatures=(1.0,))
    assert small < ids(alphas=(0.0, 1.0), temperatures=(1.0, 3.0))
    assert small < ids(alphas=(0.0, 1.0), temperatures=(1.0,), seeds=(0, 1))


def test_what_changes_the_mathematics_changes_every_id():
    longer = SETTINGS.recipe.model_copy(update={"epochs": 99})
    assert not ids() & ids(recipe=longer)
    assert not ids() & ids(data=DataOptions(imbalance=2))
    assert ids() == ids(dataset="moved", scale="paper", recipe_name="renamed")


def test_val_labels_are_the_students_affair():
    true = SETTINGS.multipliers.model_copy(update={"val_labels": "true"})
    plans = [
        make_plan(s, "data") for s in (SETTINGS, dataclasses.replace(SETTINGS, multipliers=true))
    ]
    teachers = [{r.run_id for r in plan.teachers} for plan in plans]
    assert teachers[0] == teachers[1]
    students = [{r.run_id for r in plan.students} for plan in plans]
    assert len(students[0] & students[1]) == 36  # standard and balanced: no multipliers


def test_labels_tell_runs_apart():
    plan = make_plan(SETTINGS, "data")
    assert len({run.label for run in plan.runs}) == len(plan)
    assert plan.runs[0].label == "teacher standard, seed 0"
    assert "student 0.5, T=3, on teacher 1, seed 0" in {run.label for run in plan.runs}


def tree(parents):
    """A plan of runs ``0, 1, ...``; ``parents[i]`` is an earlier run or None."""
    spec = make_plan(SETTINGS, "data").runs[0].spec
    return Plan(
        tuple(
            PlannedRun(str(i), spec, None if p is None else str(p)) for i, p in enumerate(parents)
        )
    )


@given(st.integers(1, 25), st.randoms(use_true_random=False))
def test_a_schedule_hands_out_everything_once_and_in_order(n, random):
    plan = tree([random.choice([None, *range(i)]) for i in range(n)])
    done = {run.run_id for run in plan.runs if random.random() < 0.2}
    schedule = Schedule(plan, done)
    completed, failed, running, taken = set(done), set(), [], []
    while not schedule.finished:
        run = schedule.next() if random.random() < 0.5 else None
        if run is not None:
            assert run.depends_on is None or run.depends_on in completed
            taken.append(run.run_id)
            running.append(run.run_id)
        elif running:
            ended = running.pop(random.randrange(len(running)))
            if random.random() < 0.8:
                schedule.complete(ended)
                completed.add(ended)
            else:
                lost = schedule.fail(ended)
                assert lost[0].run_id == ended
                failed |= {r.run_id for r in lost}
    assert len(taken) == len(set(taken))
    assert not set(taken) & done
    assert completed | failed == {r.run_id for r in plan.runs}
    assert not completed & failed
    assert list(schedule.unfinished()) == []


def test_a_failure_takes_all_that_waits_for_it_and_nothing_else():
    schedule = Schedule(tree([None, 0, 1, 0, None]))
    assert schedule.next().run_id == "0"
    assert [r.run_id for r in schedule.fail("0")] == ["0", "1", "3", "2"]
    assert schedule.next().run_id == "4"
    schedule.complete("4")
    assert schedule.finished


def test_what_others_wait_for_goes_first():
    schedule = Schedule(tree([None, None, 1]))
    assert [schedule.next().run_id, schedule.next().run_id] == ["1", "0"]
    assert schedule.next() is None
    assert not schedule.finished


def test_taking_back_what_was_never_taken_is_a_bug():
    with pytest.raises(KeyError):
        Schedule(tree([None])).complete("0")


def test_teachers_then_the_longest_then_in_the_plans_order():
    plan = make_plan(SETTINGS, "data")
    schedule = Schedule(plan, {run.run_id for run in plan.teachers[1:]})
    first = schedule.next()
    assert first is plan.teachers[0]
    on_others = [run for run in plan.students if run.depends_on != first.run_id]
    assert schedule.next() is on_others[0]
    schedule.complete(first.run_id)
    assert schedule.next() is plan.students[0]  # standard distillation, which the rest is held to
    spec = plan.runs[0].spec
    runs = [
        PlannedRun(
            str(epochs),
            spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"epochs": epochs})}),
            None,
        )
        for epochs in (1, 9, 5)
    ]
    schedule = Schedule(Plan(tuple(runs)))
    assert [schedule.next().run_id for _ in runs] == ["9", "5", "1"]
