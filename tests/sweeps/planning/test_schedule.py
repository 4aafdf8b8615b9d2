"""Single steps of a schedule, and its state after each."""

import pytest

from rkd_core.specs import array_key
from sweeps.planning.plan import Plan, PlannedRun, make_plan
from sweeps.planning.schedule import Schedule
from tests.sweeps.planning.test_plan import SETTINGS, taken, tree


def ids(runs):
    return [run.run_id for run in runs]


def test_ready_counts_what_can_start_now():
    schedule = Schedule(tree([[], [0], [0], []]))
    assert schedule.ready == 2
    assert taken(schedule) == ["0"]
    assert schedule.ready == 1
    schedule.complete("0")
    assert schedule.ready == 3
    assert not schedule.finished
    assert taken(schedule, 9) == ["1", "2", "3"]
    assert schedule.ready == 0
    for run_id in "123":
        assert not schedule.finished
        schedule.complete(run_id)
    assert schedule.finished


def test_by_default_one_run_is_taken_at_a_time():
    schedule = Schedule(tree([[], [], [0], [0]]))
    assert ids(schedule.take()) == ["0"]
    assert ids(schedule.take()) == ["1"]
    schedule.complete("0")
    assert [ids(schedule.take()) for _ in range(3)] == [["2"], ["3"], []]
    plan = make_plan(SETTINGS, "data")
    grid = Schedule(plan, {run.run_id for run in plan.teachers})
    assert [len(grid.take()) for _ in plan.students] == [1] * len(plan.students)


def test_a_run_that_stopped_on_the_way_goes_on_in_company():
    schedule = Schedule(tree([[], [], []]))
    assert taken(schedule) == ["0"]
    schedule.go_on("0")
    assert schedule.ready == 3
    assert taken(schedule, 9) == ["0", "1", "2"]


def test_a_pruned_run_is_neither_left_nor_taken_again():
    schedule = Schedule(tree([[], []]))
    assert taken(schedule, 9) == ["0", "1"]
    schedule.prune("0")
    assert ids(schedule.unfinished()) == ["1"]
    assert taken(schedule) == []
    assert not schedule.finished
    schedule.complete("1")
    assert schedule.finished


def test_a_run_waits_for_all_that_it_depends_on():
    schedule = Schedule(tree([[], [], [0, 1]]))
    assert taken(schedule, 9) == ["0", "1"]
    assert ids(schedule.waiting_for("0")) == ids(schedule.waiting_for("1")) == ["2"]
    schedule.complete("1")
    assert taken(schedule) == []
    assert ids(schedule.waiting_for("0")) == ["2"]
    assert ids(schedule.waiting_for("1")) == []
    schedule.complete("0")
    assert taken(schedule) == ["2"]


def test_no_run_waits_for_what_is_completed_before():
    schedule = Schedule(tree([[], [0], [1], []]), completed={"0", "3"})
    assert schedule.ready == 1
    assert sorted(ids(schedule.unfinished())) == ["1", "2"]
    assert taken(schedule, 9) == ["1"]
    assert ids(schedule.waiting_for("1")) == ["2"]


def test_a_run_lost_by_one_failure_waits_for_no_other():
    schedule = Schedule(tree([[], [], [0, 1]]))
    assert taken(schedule, 9) == ["0", "1"]
    assert ids(schedule.fail("0")) == ["0", "2"]
    assert ids(schedule.waiting_for("1")) == []
    assert ids(schedule.fail("1")) == ["1"]
    assert schedule.finished


def test_runs_that_are_added_join_in_their_turn():
    plan = tree([[], [], [1], [2]])
    schedule = Schedule(Plan(plan.runs[:1]))
    schedule.add(plan.runs[1:])
    assert taken(schedule) == ["1"]  # for others wait for it
    schedule.complete("1")
    assert taken(schedule) == ["2"]
    assert taken(schedule) == ["0"]
    schedule.complete("2")
    assert taken(schedule) == ["3"]


def test_runs_that_are_taken_together_share_batches_and_teacher():
    """Take as many teachers or students as possible, all from the array of the first one."""
    plan = make_plan(SETTINGS, "data")
    schedule = Schedule(plan)
    teachers = schedule.take(teachers=2, students=50)
    assert ids(teachers) == ids(plan.teachers[:2])
    for run in teachers:
        schedule.complete(run.run_id)
    students = schedule.take(teachers=1, students=5)
    assert len(students) == 5
    assert students[0].spec.objective == "standard"  # standard distillation goes first
    assert len({array_key(run.spec) for run in students}) == 1
    assert {run.spec.teacher.run_id for run in students} == {plan.teachers[0].run_id}
    rest = schedule.take(teachers=9, students=50)
    assert ids(rest) == ids(plan.teachers[2:])  # then teachers, for students wait for them
    more = schedule.take(teachers=1, students=50)
    assert len(more) == 13  # of 6 objectives at 3 temperatures
    assert {run.spec.teacher.run_id for run in more} == {plan.teachers[0].run_id}


def test_shorter_runs_that_others_wait_for_go_before_longer_ones():
    spec = make_plan(SETTINGS, "data").runs[0].spec

    def run(name, epochs, *needed):
        recipe = spec.recipe.model_copy(update={"epochs": epochs})
        return PlannedRun(name, spec.model_copy(update={"recipe": recipe}), needed)

    runs = run("long", 9), run("short", 1), run("waits", 5, "short"), run("also long", 9)
    schedule = Schedule(Plan(runs))
    assert [taken(schedule)[0] for _ in range(3)] == ["short", "long", "also long"]


@pytest.mark.parametrize(
    ("fit", "arrays"), [(8, [6, 6, 6]), (12, [9, 9]), (18, [18]), (32, [18]), (1, [1] * 18)]
)
def test_students_of_a_teacher_are_divided_into_equal_arrays(fit, arrays):
    """Eight, eight and two would take as long as three arrays of eight."""
    schedule, found = Schedule(tree([[] for _ in range(18)])), []
    while runs := taken(schedule, fit):
        found.append(len(runs))
    assert found == arrays


def test_runs_that_are_retried_alone_do_not_count_in_the_division():
    schedule = Schedule(tree([[] for _ in range(5)]))
    assert taken(schedule, 9) == ["0", "1", "2", "3", "4"]
    for run_id in "01":
        schedule.retry(run_id)
    for run_id in "234":
        schedule.go_on(run_id)
    sizes = []
    while runs := taken(schedule, 2):
        sizes.append(len(runs))
    assert sorted(sizes) == [1, 1, 1, 2]
