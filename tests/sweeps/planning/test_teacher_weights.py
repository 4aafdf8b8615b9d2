"""Teachers from a file of weights: plans, refusals and estimates."""

import dataclasses

import pytest
import torch

from analysis.selection.criteria import Constrained
from rkd_core import models
from rkd_core.datasets import load
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from sweeps.cli.checks import check
from sweeps.cli.parse import parse
from sweeps.display.progress import Tally
from sweeps.pareto import main
from sweeps.planning.cost import CostModel, asking_epochs, kind_of
from sweeps.planning.networks import given_weights
from sweeps.planning.plan import make_plan
from sweeps.planning.settings import resolve
from tests.rkd_core.training.test_loop import colourful
from tests.sweeps.planning.test_plan import SETTINGS

DIGITS = ("digits_cnn", 10, 1, (8, 8))
COLOUR = ("mobilenet_v2", 3, 3, (12, 12))


def saved(folder, network, name="w.pth", state=None):
    path = folder / name
    torch.save(state or models.build(*network, seed=0).state_dict(), path)
    return path


def settings(*arguments, data=None):
    options = parse([str(a) for a in arguments])
    check(options)
    data = data or load("digits", DataOptions())
    return resolve(options, data, gpu=False, weights=given_weights(options.training, data, {}))


def test_students_start_from_a_file_with_and_without_teachers(tmp_path):
    path = saved(tmp_path, DIGITS)
    weights = ("--student-architecture", "digits_cnn", "--student-weights", path)
    plan, plain = planned(settings(*weights)), planned(settings())
    digest = models.read_pretrained(path, *DIGITS).digest
    assert {run.spec.initial_weights for run in plan.students} == {digest}
    assert {run.spec.initial_weights for run in plan.teachers} == {None}
    assert {run.run_id for run in plan.teachers} == {run.run_id for run in plain.teachers}
    assert not {run.run_id for run in plan.students} & {run.run_id for run in plain.students}
    with pytest.raises(UserError, match="--student-weights needs --student-architecture"):
        settings("--student-weights", path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"--student-weights .* cannot be read as weights"):
        settings(*weights)


def from_file(path, *more, **named):
    weights = ("--teacher-architecture", "digits_cnn", "--teacher-weights", path)
    return settings(*weights, *more, **named)


def planned(chosen):
    return make_plan(chosen, "data")


def alone(plan):
    """Run ids of the students without a teacher, which do not depend on its weights."""
    return {run.run_id for run in plan.students if run.spec.teacher is None}


def test_every_teacher_of_the_grid_starts_from_the_file_and_no_student_does(tmp_path):
    path = saved(tmp_path, DIGITS)
    plan = planned(from_file(path, "--teacher-epochs", 3, "--teacher-learning-rate", 0.01))
    plain = planned(settings())
    assert len(plan.teachers) == len(plain.teachers) == 6
    digest = models.read_pretrained(path, *DIGITS).digest
    for run in plan.teachers:
        assert run.spec.initial_weights == digest
        assert (run.spec.recipe.epochs, run.spec.recipe.learning_rate) == (3, 0.01)
    recipes = {run.spec.recipe for run in plain.runs}
    assert {run.spec.recipe for run in plan.students} == recipes
    assert {run.spec.initial_weights for run in plan.students} == {None}
    assert {run.run_id for run in plan.runs} & {run.run_id for run in plain.runs} == alone(plain)
    assert str(tmp_path) not in "".join(run.spec.model_dump_json() for run in plan.runs)
    judged = planned(from_file(path, "--teacher-epochs", 3, "--methods", "ada_alpha"))
    (initial,) = [run.spec for run in judged.teachers if run.spec.held_out is not None]
    assert (initial.initial_weights, initial.recipe.epochs) == (digest, 3)


def test_the_files_place_is_not_what_is_trained(tmp_path):
    path = saved(tmp_path, DIGITS)
    before = {run.run_id for run in planned(from_file(path)).runs}
    moved = path.rename(tmp_path / "elsewhere.pt")
    assert {run.run_id for run in planned(from_file(moved)).runs} == before
    other = saved(tmp_path, DIGITS, state=models.build(*DIGITS, seed=1).state_dict())
    after = planned(from_file(other))
    assert {run.run_id for run in after.runs} & before == alone(after)


def test_without_them_run_ids_are_as_before():
    assert settings("--teacher-epochs", 40).teacher_recipe == SETTINGS.recipe
    chosen = dataclasses.replace(SETTINGS, teacher_recipe=SETTINGS.recipe)
    assert planned(chosen) == planned(SETTINGS)


def test_weights_as_they_are_make_one_teacher_for_students_of_every_alpha(tmp_path):
    path = saved(tmp_path, DIGITS)
    plan = planned(from_file(path, "--teacher-epochs", 0, "--seeds", 0, 1))
    assert [run.spec.epochs for run in plan.teachers] == [0, 0]
    assert {run.spec.objective for run in plan.teachers} == {"standard"}
    students = {(run.spec.alpha, run.spec.temperature, run.spec.seed) for run in plan.students}
    assert len(students) == len(plan.students) == 6 * 3 * 2 + 6 * 2
    assert len(alone(plan)) == 6 * 2


def test_torchvisions_weights_bring_their_normalisation(tmp_path):
    data = colourful()
    state = models.build(*COLOUR, seed=0).state_dict()
    own = saved(tmp_path, COLOUR, "own.pth", state)
    renamed = {
        n.replace("classifier.", "classifier.1.").removeprefix("body."): v for n, v in state.items()
    }
    published = saved(tmp_path, COLOUR, "published.pth", renamed)

    def normalization(path, *more):
        arguments = ("--teacher-architecture", "mobilenet_v2", "--teacher-weights", path)
        chosen = settings("--dataset", "cifar10", *arguments, *more, data=data)
        return chosen.teacher_recipe.normalization, chosen.recipe.normalization

    assert normalization(published) == ("imagenet", "per_channel")
    assert normalization(own) == ("per_channel", "per_channel")
    other = ("--teacher-normalization", "symmetric")
    assert normalization(published, *other) == ("symmetric", "per_channel")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--teacher-epochs", "0"], "--teacher-epochs 0 needs --teacher-weights"),
        (["--teacher-epochs", "-1"], "--teacher-epochs must be 0 or more"),
        (["--teacher-learning-rate", "0"], "--teacher-learning-rate must be above 0"),
        (["--teacher-weights", "w.pth"], "--teacher-weights needs --teacher-architecture"),
        (["--teacher-normalization", "imagenet"], "is for color images, and digits is grey"),
        (
            ["--teacher-normalization", "x"],
            "invalid choice 'x' for argument '--teacher-normalization'",
        ),
        (["--averaged-iterates", "5", "--teacher-epochs", "3"], "exceeds the 3 epochs"),
        (
            ["--teacher-epochs", "0", "--methods", "kd,ada_alpha,ada_margin:holdout=validation"],
            "--teacher-epochs 0 leaves no unseen images to evaluate a teacher on for ada_alpha",
        ),
    ],
)
def test_options_that_do_not_go_together(arguments, named):
    with pytest.raises(UserError, match=named):
        settings(*arguments)


def test_files_that_cannot_be_used_are_named_with_the_option(tmp_path):
    with pytest.raises(UserError, match=r"^--teacher-weights .*absent.pth does not exist"):
        from_file(tmp_path / "absent.pth")
    seven = saved(tmp_path, ("digits_cnn", 7, 1, (8, 8)))
    with pytest.raises(UserError, match=r"w.pth has 7 classes and digits has 10"):
        from_file(seven, "--teacher-epochs", 0)
    assert from_file(seven).initial_weights is not None
    with pytest.raises(UserError, match=r"^--teacher-weights .* is 16 x 3 x 3 x 3, not 16 x 1"):
        from_file(saved(tmp_path, ("digits_cnn", 10, 3, (8, 8))))


def test_a_run_without_training_costs_only_inference(tmp_path):
    path = saved(tmp_path, DIGITS)
    plan = planned(from_file(path, "--teacher-epochs", 0))
    (teacher,), student = plan.teachers, plan.students[0]
    assert CostModel().seconds(teacher, 100) == 0
    assert CostModel().seconds(student, 100) is None
    asked = CostModel(asking=2.0)
    assert asked.seconds(teacher, 100) is None
    asked.see(kind_of(teacher), 30.0, epochs=3, images=100)
    assert asked.seconds(teacher, 100) == 20
    costs = CostModel()
    costs.see(kind_of(student), 10.0, student.spec.epochs, images=100)
    some = Tally(plan, set(), tmp_path, costs, images=100, slots=1, criterion=Constrained())
    for run in plan.runs[:3]:  # the teacher is among them, and says nothing about speed
        some.started([run])
        some.completed(run, {"train_seconds": 10.0})
    low, high = some.seconds_left()
    assert low < 10 * (len(plan) - 3) < high
    assert (low, high) == pytest.approx(costs.total_range(plan.runs[3:], 100))


def test_asking_is_counted_in_the_students_views_whatever_the_teachers_epochs():
    recipe = SETTINGS.recipe.model_copy(update={"epochs": 6, "flip": True, "crop_padding": 4})
    assert asking_epochs(recipe, "table") == 2
    assert asking_epochs(recipe, "live") == asking_epochs(SETTINGS.recipe, "table") == 0
    costs = CostModel(asking=2.0)
    teacher = planned(SETTINGS).teachers[0]
    costs.see(kind_of(teacher), 1.0, epochs=1, images=100)
    assert costs.seconds(teacher, 100) == teacher.spec.epochs + 2


def test_choices_from_a_checkpoint_are_reported(tmp_path, capsys):
    average, plain = (models.build(*DIGITS, seed=seed).state_dict() for seed in (1, 2))
    path = saved(tmp_path, DIGITS, "w.ckpt", {"state_dict": plain, "state_dict_ema": average})
    arguments = ["--teacher-architecture", "digits_cnn", "--teacher-weights", str(path)]
    assert main(["--dry-run", *arguments, "--out", str(tmp_path / "out")]) == 0
    said = f"--teacher-weights {path}: used state_dict_ema, not state_dict"
    assert said in capsys.readouterr().out.splitlines()
