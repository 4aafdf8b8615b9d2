import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd_core.methods import create, descriptions, find
from rkd_core.specs import DataOptions, MultiplierOptions, family_id, recipes, run_id
from sweeps.cli.method_names import chosen
from sweeps.planning.plan import Plan, PlannedRun, make_plan
from sweeps.planning.schedule import Schedule
from sweeps.planning.settings import Settings

SETTINGS = Settings(
    dataset="digits",
    data=DataOptions(),
    scale="small",
    teacher_architecture="digits_cnn",
    student_architectures=("digits_cnn",),
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
        (needed,) = run.depends_on
        teacher = teachers[needed]
        spec = run.spec
        assert spec.teacher.run_id == needed == run_id(teacher.spec, "data")
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


def test_students_without_a_teacher_are_one_for_each_objective_and_seed():
    settings = dataclasses.replace(SETTINGS, undistilled=True, seeds=(0, 1))
    plan = make_plan(settings, "data")
    added = [run for run in plan.students if run.spec.teacher is None]
    assert ids(seeds=(0, 1)) == {run.run_id for run in plan.runs} - {r.run_id for r in added}
    assert [(run.spec.alpha, run.spec.seed) for run in added] == [
        (alpha, seed) for seed in (0, 1) for alpha in (None, 0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert {run.depends_on for run in added} == {()}
    assert {run.spec.temperature for run in added} == {None}
    assert {run.spec.recipe for run in added} == {SETTINGS.recipe}
    assert [run.label for run in added[:2]] == [
        "student standard without a teacher, seed 0",
        "student 0 without a teacher, seed 0",
    ]
    (plain,) = [run for run in planned("one_hot").students if run.spec.teacher is None]
    assert plain.run_id == added[0].run_id
    teacher = settings.multipliers.model_copy(update={"val_labels": "teacher"})
    again = make_plan(dataclasses.replace(settings, multipliers=teacher), "data")
    assert {run.run_id for run in added} < {run.run_id for run in again.runs}


def test_students_without_a_teacher_have_the_objectives_of_the_students():
    def alphas(*names, **changes):
        plan = planned(*names, undistilled=True, **changes)
        return [run.spec.alpha for run in plan.students if run.spec.teacher is None]

    assert alphas("tradeoff", alphas=(0.0, 1.0)) == [None, 0.0, 1.0]
    assert alphas("kd", "one_hot") == [None]
    assert alphas("balanced_student") == [None, 0.0]


def test_a_larger_grid_contains_the_smaller_one():
    small = ids(alphas=(0.0, 1.0), temperatures=(1.0,))
    assert small < ids(alphas=(0.0, 0.5, 1.0), temperatures=(1.0,))
    assert small < ids(alphas=(0.0, 1.0), temperatures=(1.0, 3.0))
    assert small < ids(alphas=(0.0, 1.0), temperatures=(1.0,), seeds=(0, 1))


def test_options_that_change_the_mathematics_change_every_id():
    longer = SETTINGS.recipe.model_copy(update={"epochs": 99})
    assert not ids() & ids(recipe=longer)
    assert not ids() & ids(data=DataOptions(imbalance=2))
    assert not ids() & ids(scale_by_classes=True)
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


def planned(*names, **changes):
    return make_plan(dataclasses.replace(SETTINGS, methods=names, **changes), "data")


def test_methods_join_the_grid_and_change_nothing_of_it():
    grid = [run.run_id for run in make_plan(SETTINGS, "data").runs]
    plan = planned("tradeoff", *chosen("all"), seeds=(0,))
    assert [run.run_id for run in plan.runs if run.run_id in set(grid)] == grid
    ids = {run.run_id for run in plan.runs}
    assert len(ids) == len(plan)
    variants = [run for run in plan.runs if run.spec.variant is not None]
    initial = [run for run in plan.runs if run.spec.held_out is not None]
    assert len(initial) == 1
    assert len(variants) + len(initial) == len(plan) - len(grid)
    standard = {plan.teachers[0].run_id, None}  # but a later round has the one before
    assert {
        run.spec.teacher and run.spec.teacher.run_id
        for run in variants
        if run.spec.method != "repeated_distillation"
    } == standard
    cells = {name: create(name).cell for name in descriptions()}
    assert {run.spec.method for run in variants} == {
        name for name, cell in cells.items() if cell is None or cell.rounds > 1
    }
    assert len({run.label for run in plan.runs}) == len(plan)
    assert "student dkd (others_weight 2), seed 0" in {run.label for run in plan.runs}


@pytest.mark.parametrize("names", [("standard",), ("kd",), ("balanced_student", "robust_student")])
def test_cells_are_the_grids_own_runs(names):
    grid = {run.run_id for run in make_plan(SETTINGS, "data").runs}
    plan = planned(*names)
    cells = {run.run_id for run in plan.runs if run.spec.variant is None}
    assert cells < grid
    assert len(plan.teachers) == 1
    found = {
        (run.spec.teacher.alpha, run.spec.alpha, run.spec.temperature)
        for run in plan.students
        if run.spec.variant is None
    }
    alphas = [None, 0.0, 1.0] if "balanced_student" in names else [None]
    assert found == {(None, a, t) for a in alphas for t in SETTINGS.temperatures}


@pytest.mark.parametrize("name", ["standard", "balanced_student", "tradeoff"])
def test_a_cell_without_options_has_the_temperatures_of_the_sweep(name):
    plan = planned(name, "dkd:others_weight=3", temperatures=(3.0,), undistilled=False)
    cells = [run.spec for run in plan.students if run.spec.variant is None]
    assert {spec.temperature for spec in cells} == {3.0}
    (variant,) = {run.spec.variant for run in plan.students} - {None}
    assert (variant.method, variant.options) == ("dkd", {"others_weight": 3.0})


def test_a_cell_with_options_is_a_single_point():
    """The cell has its own temperature; other runs do not change."""

    def cells(*names):
        return {
            (run.spec.teacher.alpha, run.spec.alpha, run.spec.temperature)
            for run in planned(*names, alphas=(0.0, 1.0)).students
            if run.spec.variant is None
        }

    standard = {(None, None, t) for t in SETTINGS.temperatures}
    assert cells("kd") == standard
    assert cells("standard:temperature=2") == standard | {(None, None, 2.0)}
    assert cells("robust_student:temperature=2") == standard | {(None, 1.0, 2.0)}
    assert cells("balanced_student:temperature=3") == standard | {(None, 0.0, 3.0)}
    assert cells("repeated_distillation:rounds=1:temperature=2") == standard | {(None, None, 2.0)}
    under_each = {(a, None, t) for a in (None, 0.0, 1.0) for t in SETTINGS.temperatures}
    row = {(a, 0.3, 2.0) for a in (None, 0.0, 1.0)}
    assert cells("tradeoff:alpha=0.3:temperature=2") == under_each | row
    assert cells("tradeoff", "tradeoff:alpha=0.3:temperature=2") == cells("tradeoff") | row


def test_each_method_is_tried_at_its_grid_with_each_seed():
    plan = planned("ltkd", "one_hot", seeds=(0, 1))
    variants = [run.spec for run in plan.students if run.spec.variant is not None]
    tried = [(s.variant.options, s.seed) for s in variants if s.method == "ltkd"]
    weights = [{}, {"within_weight": 4.0}, {"cross_weight": 2.0}]
    weights.append({"cross_weight": 2.0, "within_weight": 4.0})
    assert sorted(tried, key=str) == sorted([(w, s) for w in weights for s in (0, 1)], key=str)
    standard = {run.spec.seed: run.run_id for run in plan.teachers}
    for run in plan.students:
        alone = run.spec.method == "one_hot"
        assert run.depends_on == (() if alone else (standard[run.spec.seed],))
    assert {family_id(s, "data") for s in variants if s.method == "ltkd"} == {
        family_id(run.spec, "data") for run in plan.students if run.spec.variant is None
    }


def test_only_ltkd_of_three_classes_has_new_run_ids():
    """Only its groups have changed; other trainings are as before."""
    before = {run.run_id for run in planned("ltkd", "kd").runs}
    for classes in (2, 4, 10):
        assert {run.run_id for run in planned("ltkd", "kd", classes=classes).runs} == before
    three = planned("ltkd", "kd", classes=3).runs
    changed = [run.spec.variant for run in three if run.run_id not in before]
    assert [v.method for v in changed] == ["ltkd"] * 4
    assert all(v.options["groups"] == 3 for v in changed)


def test_rounds_of_distillation_are_a_chain():
    plan = planned("repeated_distillation")
    rounds = [run for run in plan.students if run.spec.variant is not None]
    assert [run.label for run in rounds] == [
        f"student repeated_distillation (rounds {n}), seed 0" for n in (2, 3)
    ]
    (first,) = [run for run in plan.students if (run.run_id,) == rounds[0].depends_on]
    assert (first.spec.method, first.spec.temperature) == ("standard", 1.0)
    assert rounds[1].depends_on == (rounds[0].run_id,)
    assert len({family_id(run.spec, "data") for run in (first, *rounds)}) == 1
    schedule = Schedule(plan, {run.run_id for run in plan.teachers})
    order = []
    while not schedule.finished:
        for run in schedule.take():
            order.append(run.run_id)
            schedule.complete(run.run_id)
    assert order[:2] == [first.run_id, rounds[0].run_id]  # for others wait for them
    assert rounds[1].run_id in order


def test_methods_that_go_by_a_hold_out_share_an_initial_teacher():
    plan = planned("ada_alpha", "ada_margin", seeds=(0, 1))
    standard = {r.spec.seed: r for r in plan.teachers if r.spec.held_out is None}
    initial = {r.spec.seed: r for r in plan.teachers if r.spec.held_out is not None}
    assert len(plan.teachers) == len(standard) + len(initial) == 4
    assert all("without the held-out images" in run.label for run in initial.values())
    students = [run for run in plan.students if run.spec.variant is not None]
    assert len(students) == 2 * 2 * 3  # methods, seeds, temperatures of their grids
    for run in students:
        spec = run.spec
        needed = standard[spec.seed].run_id, initial[spec.seed].run_id
        assert (spec.teacher.run_id, spec.initial.run_id) == run.depends_on == needed
    grid = {family_id(run.spec, "data") for run in plan.students if run.spec.variant is None}
    assert {family_id(run.spec, "data") for run in students} == grid
    assert all(run.depends_on == () for run in plan.teachers)


def test_an_initial_teacher_can_be_the_one_that_is_distilled(monkeypatch):
    monkeypatch.setattr(find("ada_alpha"), "grid", {"distil_from": ("initial",)})
    plan = planned("ada_alpha")
    (initial,) = [run for run in plan.teachers if run.spec.held_out is not None]
    (student,) = [run for run in plan.students if run.spec.variant is not None]
    assert student.spec.teacher.run_id == student.spec.initial.run_id == initial.run_id
    assert student.depends_on == (initial.run_id,)
    # It is compared with the others.
    assert len({family_id(run.spec, "data") for run in plan.students}) == 1
    assert student.spec.teacher.family == family_id(plan.teachers[0].spec, "data")


def test_a_shift_keeps_the_standard_teachers_network():
    settings = dataclasses.replace(SETTINGS, methods=("post_shift",), teacher_architecture="vgg8")
    plan = make_plan(settings, "data")
    (run,) = [run for run in plan.students if run.spec.variant is not None]
    assert run.spec.architecture == "vgg8"
    assert run.depends_on == (plan.teachers[0].run_id,)
    assert (run.work, run.spec.epochs) == (0, 0)
    beside = Schedule(plan, {run.run_id for run in plan.teachers}).take(9, 9)
    assert run not in beside


def test_a_student_without_a_teacher_goes_with_students():
    plan = planned("one_hot", seeds=(0, 1))
    schedule = Schedule(plan, {run.run_id for run in plan.teachers})
    taken = [schedule.take(teachers=1, students=9) for _ in range(4)]
    assert sorted(len(runs) for runs in taken) == [1, 1, 3, 3]


def test_the_first_candidate_needs_two_trainings_and_the_first_grid_comes_before_the_second():
    settings = dataclasses.replace(
        SETTINGS, alphas=(0.0, 1.0), temperatures=(1.0, 3.0), seeds=(1, 0)
    )
    plan = make_plan(settings, "data")
    schedule, order = Schedule(plan), []
    while not schedule.finished:
        (run,) = schedule.take()
        order.append(run.spec)
        schedule.complete(run.run_id)
    teacher, student = order[:2]
    assert (teacher.stage, teacher.objective, teacher.seed) == ("teacher", "standard", 1)
    assert (student.stage, student.objective, student.temperature) == ("student", "standard", 1.0)
    assert student.teacher.objective == "standard"
    assert [spec.seed for spec in order] == sorted((spec.seed for spec in order), reverse=True)
    of_seed = [spec.stage for spec in order if spec.seed == 1][2:]
    assert of_seed == sorted(of_seed, reverse=True)  # the other teachers, then the other students


def tree(parents):
    """A plan of runs ``0, 1, ...``; ``parents[i]`` are earlier runs."""
    spec = make_plan(SETTINGS, "data").runs[0].spec
    return Plan(
        tuple(PlannedRun(str(i), spec, tuple(map(str, needed))) for i, needed in enumerate(parents))
    )


@given(st.integers(1, 25), st.randoms(use_true_random=False))
def test_a_schedule_hands_out_everything_once_and_in_order(n, random):
    plan = tree([random.sample(range(i), random.randint(0, min(i, 3))) for i in range(n)])
    done = {run.run_id for run in plan.runs if random.random() < 0.2}
    schedule = Schedule(plan, done)
    completed, failed, running, taken = set(done), set(), [], []
    while not schedule.finished:
        most = random.randint(1, 3)
        runs = schedule.take(most, most) if random.random() < 0.5 else []
        assert len(runs) <= most
        for run in runs:
            assert completed.issuperset(run.depends_on)
            taken.append(run.run_id)
            running.append(run.run_id)
        if not runs and running:
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


def taken(schedule, most=1):
    return [run.run_id for run in schedule.take(most, most)]


def test_a_failure_takes_all_that_waits_for_it_and_nothing_else():
    schedule = Schedule(tree([[], [0], [1], [0, 4], []]))
    assert taken(schedule) == ["0"]
    assert [r.run_id for r in schedule.fail("0")] == ["0", "1", "3", "2"]
    assert taken(schedule) == ["4"]
    schedule.complete("4")
    assert schedule.finished


def test_a_restarted_run_joins_no_array():
    first = Schedule(tree([[], [], []]))
    assert taken(first) == ["0"]
    first.retry("0")
    assert {run.run_id for run in first.unfinished()} == {"0", "1", "2"}
    assert [taken(first, 9), taken(first, 9)] == [["0"], ["1", "2"]]
    later = Schedule(tree([[], [0], [], []]))
    assert [taken(later), taken(later)] == [["0"], ["2"]]
    later.retry("2")
    later.complete("0")
    assert [taken(later, 9), taken(later, 9)] == [["1", "3"], ["2"]]


def test_runs_that_others_wait_for_go_first():
    schedule = Schedule(tree([[], [], [1]]))
    assert taken(schedule) + taken(schedule) == ["1", "0"]
    assert taken(schedule) == []
    assert not schedule.finished


def test_a_run_restarted_alone_joins_no_array():
    schedule = Schedule(tree([[], [0], [], []]))

    def taken():
        return [run.run_id for run in schedule.take(4, 4)]

    assert taken() == ["0", "2", "3"]
    schedule.retry("2")
    schedule.complete("0")
    assert taken() == ["1"]  # which comes first, and would have company
    assert taken() == ["2"]


def test_taking_back_what_was_never_taken_is_a_bug():
    with pytest.raises(KeyError):
        Schedule(tree([[]])).complete("0")


def test_teachers_then_the_longest_then_in_the_plans_order():
    plan = make_plan(SETTINGS, "data")
    schedule = Schedule(plan, {run.run_id for run in plan.teachers[1:]})
    (first,) = schedule.take()
    assert first is plan.teachers[0]
    on_others = [run for run in plan.students if first.run_id not in run.depends_on]
    assert schedule.take() == [on_others[0]]
    schedule.complete(first.run_id)
    assert schedule.take() == [plan.students[0]]  # standard distillation, which the rest is held to
    spec = plan.runs[0].spec
    runs = [
        PlannedRun(
            str(epochs),
            spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"epochs": epochs})}),
            (),
        )
        for epochs in (1, 9, 5)
    ]
    schedule = Schedule(Plan(tuple(runs)))
    assert [schedule.take()[0].run_id for _ in runs] == ["9", "5", "1"]
