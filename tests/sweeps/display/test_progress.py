import heapq
import inspect
import io
import threading
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from analysis.selection.criteria import Constrained
from rkd_core import records
from rkd_core.specs import MultiplierOptions
from sweeps.display import progress
from sweeps.display.progress import LiveDisplay, PlainLines, Tally, display_for
from sweeps.planning import cost
from sweeps.planning.cost import CostModel, Kind, asking_epochs, duration, kind_of
from sweeps.planning.plan import make_plan
from sweeps.running.watcher import Watcher
from tests.sweeps.planning.test_plan import SETTINGS
from tests.sweeps.running.test_sweep import Notes

PLAN = make_plan(SETTINGS, "data")
ROW = {
    "val_worst_class_accuracy": 0.5,
    "val_average_accuracy": 0.9,
    "train_seconds": 10.0,
}


def tally(tmp_path, completed=(), **options):
    fields = {"images": 100, "slots": 2, "criterion": Constrained()} | options
    return Tally(PLAN, set(completed), tmp_path, CostModel(), **fields)


def both(some, display):
    """Return a watcher that passes events on to a tally and a display, as a sweep does."""
    told = {
        name: lambda *arguments, name=name: [getattr(w, name)(*arguments) for w in (some, display)]
        for name in ("started", "progressed", "completed", "failed", "retried", "paused", "added")
    }
    return SimpleNamespace(**told)


def console(terminal):
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def test_plain_lines_name_finished_runs_and_the_remaining_number(tmp_path):
    screen = console(terminal=False)
    some = tally(tmp_path)
    with display_for(some, screen, quiet=False) as display:
        assert isinstance(display, PlainLines)
        events = both(some, display)
        teacher, student = PLAN.teachers[0], PLAN.students[0]
        events.started([teacher])
        events.completed(teacher, ROW)
        events.started([student])
        events.failed(student, "out of luck")
    lines = screen.file.getvalue().splitlines()
    assert lines == [
        "[1/114] teacher standard, seed 0: validation worst-class 50.0%, average 90.0% in 10 s; "
        "time left unknown until a student has ended",
        f"[2/114] failed: {student.label}: out of luck",
    ]


def test_the_live_display_shows_bars_and_what_is_under_way(tmp_path):
    screen = console(terminal=True)
    done = [run.run_id for run in PLAN.teachers]
    some = tally(tmp_path, done)
    display, run = LiveDisplay(some, screen), PLAN.students[0]
    events = both(some, display)
    events.started([run])
    screen.print(display._render())
    events.progressed(run, {"epoch": 3, "epochs": 40, "train_loss": 1.25})
    screen.print(display._render())
    text = screen.file.getvalue()
    assert "6 of 6" in text
    assert "0 of 108" in text
    assert run.label in text
    assert "starting" in text
    assert "epoch 3 of 40" in text
    assert "1.250" in text


def test_the_time_left_is_learnt_from_what_has_ended(tmp_path):
    some = tally(tmp_path)
    assert some.seconds_left() == "teacher"
    for run in (PLAN.teachers[0], PLAN.teachers[1], PLAN.students[0], PLAN.students[5]):
        unknown = "teacher" if not some.ended["teacher"] else "student"
        if not some.ended["student"]:
            assert some.left() == f"time left unknown until a {unknown} has ended"
        some.started([run])
        some.completed(run, ROW)
    # One or two of each kind have ended: within a factor of 2 or 1.5.
    standard = sum(run.spec.multipliers is None for run in PLAN.students) - 1
    kinds = Counter(kind_of(run) for run in PLAN.runs)
    seen = Counter(map(kind_of, (*PLAN.teachers[:2], PLAN.students[0], PLAN.students[5])))
    wide = {kind: 1 + 1 / seen[kind] if kind in seen else 3 for kind in kinds}
    assert standard > 0
    low, high = some.seconds_left()
    left = {kind: 10 * (count - seen[kind]) for kind, count in kinds.items()}
    assert low == pytest.approx(sum(left[kind] / wide[kind] for kind in kinds) / 2)
    assert high == pytest.approx(sum(left[kind] * wide[kind] for kind in kinds) / 2)


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("start", [0.0, 20.0])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_time_left_is_right_or_a_range_or_unknown(tmp_path, monkeypatch, slots, start, noise):
    """Simulate a sweep: processes start slowly, teachers are slow, commits take time."""
    rng = np.random.default_rng(0)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    some = tally(tmp_path, slots=slots)
    waiting, busy, said = deque(PLAN.runs), [], []
    free = [start] * slots  # when each slot begins to train
    while waiting or busy:
        while waiting and len(busy) < slots:
            run = waiting.popleft()
            trained = (8.0 if run.spec.stage == "teacher" else 4.0) * np.exp(noise * rng.normal())
            some.started([run])
            begin = max(clock.now, free.pop()) if free else clock.now
            heapq.heappush(busy, (begin + trained + 1.0, run.run_id, run, trained))
        clock.now, _, run, trained = heapq.heappop(busy)
        some.completed(run, ROW | {"train_seconds": trained})
        said.append((clock.now, some.left(), some.seconds_left()))
    assert said[-1][1] == ""
    judged = [
        found[0] * 0.85 - 5 <= clock.now - now <= found[1] * 1.15 + 5
        for now, text, found in said[:-1]
        if not isinstance(found, str) or not text.startswith("time left unknown")
    ]
    assert len(judged) > 90
    assert np.mean(judged) > 0.95
    students = sum(not isinstance(found, str) for _, _, found in said[:9])
    early = [text for _, text, _ in said[: 9 - students + 2]]
    assert all(text.startswith("time left unknown") or " to " in text for text in early)
    late = [text for _, text, _ in said[60:-5]]
    assert noise > 0 or sum(text.startswith("about ") for text in late) > len(late) / 2


def test_a_range_of_time_in_words():
    assert cost.span(60, 70) == "about 65 s"
    assert cost.span(120, 360) == "2 min to 6 min"
    assert cost.span(40, 400) == "40 s to 7 min"
    assert cost.span(0, 0) == "about 0 s"


def test_quiet_is_quiet_but_for_failures(tmp_path):
    screen = console(terminal=True)
    some = tally(tmp_path)
    with display_for(some, screen, quiet=True) as display:
        events = both(some, display)
        events.started([PLAN.teachers[0]])
        events.completed(PLAN.teachers[0], ROW)
        assert screen.file.getvalue() == ""
        events.failed(PLAN.teachers[1], "out of luck")
    assert "out of luck" in screen.file.getvalue()


def test_the_best_so_far_comes_from_the_ledger(tmp_path):
    runs = [r for r in PLAN.students if r.spec.objective == "standard"][:1]
    for run in runs:
        counts = {"val_class_total": [10, 10], "val_class_correct": [9, 4]}
        row = records.identity(run.spec, run.run_id, "data")
        records.write(tmp_path / "records", row | counts | {"status": "completed"})
    assert "40.0% worst" in tally(tmp_path, [runs[0].run_id]).best()
    assert tally(tmp_path / "elsewhere").best() is None
    assert tally(tmp_path, [runs[0].run_id], beyond=["digits_cnn"]).best() is None


def test_estimates_scale_with_epochs_and_images_and_know_what_they_do_not_know():
    costs = CostModel()
    student = PLAN.students[0]
    assert costs.seconds(student, 100) is None
    assert costs.total(PLAN.students, 100) is None
    for seconds in (1.0, 2.0, 30.0):
        costs.see(Kind("student", "digits_cnn", False), seconds, epochs=20, images=50)
    epochs = student.spec.recipe.epochs
    assert costs.seconds(student, 100) == 2.0 * epochs / 20 * 100 / 50
    assert costs.total(PLAN.students, 100) == 108 * 2.0 * epochs / 20 * 100 / 50
    assert costs.total(PLAN.runs, 100) is None


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle():
    costs = CostModel()
    for seconds in (8.0, 1.0, 2.0, 4.0):
        costs.see(Kind("student", "digits_cnn", False), seconds, epochs=1, images=1)
    assert costs.seconds_of(Kind("student", "digits_cnn", False), 1, 1) == 3.0


def test_estimates_learn_from_what_was_completed_and_add_the_asking_to_teachers():
    row = {
        "status": "completed",
        "stage": "teacher",
        "architecture": "resnet8",
        "method": "standard",
        "variant": None,
        "multipliers": None,
        "train_seconds": 6.0,
        "epochs": 2,
        "train_class_total": [1, 2],
    }
    rows = [
        row,
        row | {"stage": "student"},
        row | {"status": "failed", "train_seconds": 9000.0},
        row | {"train_seconds": None},
    ]
    costs = CostModel(0.25, rows)
    assert costs.seconds_of(Kind("teacher", "resnet8", False), 1, 1) == 1.25
    assert costs.seconds_of(Kind("student", "resnet8", False), 1, 1) == 1.0


def test_teacher_logits_cost_a_third_of_a_step_for_each_view():
    recipe = SETTINGS.recipe.model_copy(update={"crop_padding": 4, "flip": True})  # 162 views
    few, many = (recipe.model_copy(update={"epochs": n}) for n in (10, 324))
    assert asking_epochs(few, "table") == pytest.approx(10 / 3)
    assert asking_epochs(many, "table") == pytest.approx(162 / 3)
    assert asking_epochs(few, "live") == 0
    assert asking_epochs(SETTINGS.recipe, "table") == 0  # the clean pass has answered already


@pytest.mark.parametrize(
    ("period", "batch", "images"),
    [(None, None, 300), (None, 100, 100), (4, 100, 300), (5, 1000, 600), (32, 100, 100)],
)
def test_each_multiplier_update_costs_a_batch_of_validation(period, batch, images):
    data = SimpleNamespace(train=range(1000), val=range(300))
    recipe = SETTINGS.recipe.model_copy(update={"batch_size": 100})  # 10 steps an epoch
    options = MultiplierOptions(period=period, batch=batch)
    assert cost._updates_share(options, recipe, data) == images / 1000


def test_durations_are_for_people():
    assert [duration(s) for s in (0.4, 59, 90, 3600, 5400, 100000)] == [
        "0 s",
        "59 s",
        "2 min",
        "60 min",
        "1 h 30 min",
        "27 h 47 min",
    ]


def test_the_time_left_is_the_sum_over_what_is_left_however_it_is_kept(tmp_path):
    plan, costs, slots = PLAN, CostModel(), 4
    some = Tally(
        plan,
        {run.run_id for run in plan.students[3:9]},
        tmp_path,
        costs,
        images=100,
        slots=slots,
        criterion=Constrained(),
    )
    left = [run for run in plan.runs if run not in plan.students[3:9]]
    for place, run in enumerate(left[:50]):
        some.started([run])
        left.remove(run)
        if place % 7 == 3:
            some.failed(run, "out of luck")
        else:
            some.completed(run, {"train_seconds": 10.0 + place})
        total = costs.total_range(left, 100)
        if total is None:
            assert some.seconds_left() in ("teacher", "student")
        else:
            assert some.seconds_left() == pytest.approx((total[0] / slots, total[1] / slots))
    assert total is not None
    # Of one under way, what has passed is taken off, but never more than it was to take.
    some.started([left[0]])
    before = some.seconds_left()
    under_way = some.running[left[0].run_id]
    under_way.began -= 5
    for then, now in zip(before, some.seconds_left(), strict=True):
        assert then - now == pytest.approx(5 / slots, abs=0.2)
    under_way.began -= 1e6
    low, high = costs.total_range(left[1:], 100)
    assert some.seconds_left() == pytest.approx((low / slots, high / slots))


def test_a_method_is_estimated_by_its_like_and_else_as_standard_distillation():
    costs = CostModel()
    costs.see(Kind("student", "digits_cnn", False), 10.0, epochs=10, images=100)
    review = Kind("student", "digits_cnn", False, "review_kd")
    assert costs.seconds_of(review, epochs=10, images=100) == pytest.approx(10)
    costs.see(review, 30.0, epochs=10, images=100)
    assert costs.seconds_of(review, epochs=10, images=100) == pytest.approx(30)
    assert costs.seconds_of(review._replace(method=None), 10, 100) == pytest.approx(10)
    assert costs.seconds_of(review._replace(method="dkd"), 10, 100) == pytest.approx(10)
    assert costs.seconds_of(review._replace(architecture="vgg8"), 10, 100) is None


def test_of_trainings_side_by_side_each_has_spent_its_part():
    """Four share the time: after 8 s, 2 s of each have passed."""
    plan, costs = PLAN, CostModel()
    costs.see(kind_of(plan.students[0]), 10.0, plan.students[0].spec.recipe.epochs, 100)
    done = {run.run_id for run in plan.runs} - {run.run_id for run in plan.students[:4]}
    some = Tally(plan, done, Path("unused"), costs, images=100, slots=1, criterion=Constrained())
    assert some.seconds_left() == pytest.approx((20, 80))  # one of the kind was seen
    some.started(plan.students[:4])
    for under_way in some.running.values():
        under_way.began -= 8
    assert some.seconds_left() == pytest.approx((12, 72), abs=0.2)


@pytest.mark.parametrize("width", [40, 80])
def test_the_live_display_fits_the_terminal(tmp_path, width):
    screen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    some = tally(tmp_path)
    display, runs = LiveDisplay(some, screen), PLAN.students[-6:]
    events = both(some, display)
    events.started(runs)
    events.progressed(runs[0], {"epoch": 3, "epochs": 40, "train_loss": 1.25})
    screen.print(display._render())
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("of 6" in line or "of 108" in line for line in lines) == 2
    blank = [place for place, line in enumerate(lines) if not line.strip()]
    assert blank == [2, 3 + len(runs)]  # a line for each training, however long its label


@pytest.mark.parametrize(
    ("terminal", "term", "kind"),
    [
        (True, "xterm", LiveDisplay),
        (True, "dumb", PlainLines),
        (True, "unknown", PlainLines),
        (False, "xterm", PlainLines),
    ],
)
@pytest.mark.parametrize("forced", [None, "1"])
def test_only_a_terminal_that_can_redraw_is_redrawn(tmp_path, terminal, term, kind, forced):
    class File(io.StringIO):
        def isatty(self):
            return terminal

    environment = {"TERM": term} | ({"FORCE_COLOR": forced} if forced else {})
    screen = Console(file=File(), width=40, _environ=environment)
    with display_for(tally(tmp_path), screen, quiet=False) as display:
        assert isinstance(display, kind)


@pytest.mark.parametrize("kind", [Tally, LiveDisplay, PlainLines, progress.Silence, Notes])
def test_a_watcher_has_all_events_of_the_base_class(kind):
    """A sweep calls each of them with these arguments."""
    for name, method in vars(Watcher).items():
        if not name.startswith("_"):
            assert issubclass(kind, Watcher)
            own = inspect.signature(getattr(kind, name)).parameters
            assert list(own) == list(inspect.signature(method).parameters)


def test_a_tally_takes_the_arguments_of_events_by_name(tmp_path):
    some, run = tally(tmp_path), PLAN.students[0]
    some.started(runs=[run])
    some.paused(run, pruned=True)
    assert (some.pruned, some.running) == (1, {})


def test_a_display_may_draw_while_trainings_end(tmp_path):
    """Drawing reads in a thread what events change."""
    some, stop = tally(tmp_path), threading.Event()
    display = LiveDisplay(some, console(terminal=True))
    faults = []

    def draw():
        try:
            while not stop.is_set():
                display._render()
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    for _ in range(20):
        for run in PLAN.students:
            some.started([run])
            some.retried(run, "again")
    stop.set()
    thread.join()
    assert not faults
