"""Plans whose students have several networks."""

from collections import Counter
from dataclasses import replace

import pytest

from rkd_core.errors import UserError
from sweeps.cli.checks import check
from sweeps.cli.parse import parse
from sweeps.cli.repeats import repeats
from sweeps.planning.networks import given_networks
from sweeps.planning.plan import make_plan
from sweeps.planning.schedule import Schedule
from sweeps.planning.settings import load_data, resolve
from sweeps.running.pruning import Pruner
from tests.sweeps.planning.test_plan import SETTINGS

NETWORKS = ("digits_cnn", "resnet8", "resnet20")
CHANGES = {
    "alphas": (0.0, 1.0),
    "temperatures": (1.0, 3.0),
    "seeds": (0, 1),
    "undistilled": True,
    "methods": ("tradeoff", "dkd", "ada_margin", "post_shift", "repeated_distillation:rounds=2"),
    "repeats": repeats(("standard/0/3=2",)),
}
SEVERAL = replace(SETTINGS, student_architectures=NETWORKS, **CHANGES)


def plan_of(*networks):
    return make_plan(replace(SEVERAL, student_architectures=networks), "data")


def test_the_plan_is_that_of_each_network_with_the_same_teachers():
    plan = plan_of(*NETWORKS)
    alone = [plan_of(name) for name in NETWORKS]
    assert [run.run_id for run in plan.teachers] == [run.run_id for run in alone[0].teachers]
    ids = [run.run_id for run in plan.runs]
    assert len(ids) == len({*ids})
    assert {*ids} == {run.run_id for one in alone for run in one.runs}
    per_network = Counter(run.spec.architecture for run in plan.students if run.spec.epochs)
    assert len({*per_network.values()}) == 1
    assert {*per_network} == {*NETWORKS}


def test_labels_name_the_network_only_if_there_are_several():
    labels = [run.label for run in plan_of("digits_cnn", "resnet8").runs]
    assert len(labels) == len({*labels})
    assert "student resnet8 standard, T=1, on teacher standard, seed 0" in labels
    assert "teacher standard, seed 0" in labels
    (one,) = {run.network for run in plan_of("resnet8").runs}
    assert one == ""


def test_standard_distillation_of_each_network_is_trained_first():
    schedule = Schedule(plan_of(*NETWORKS))
    (teacher,) = schedule.take()
    assert teacher.label == "teacher standard, seed 0"
    schedule.complete(teacher.run_id)
    first = [schedule.take()[0] for _ in NETWORKS]
    assert [run.spec.architecture for run in first] == [*NETWORKS]
    assert {(run.spec.objective, run.spec.teacher.objective) for run in first} == {
        ("standard", "standard")
    }


def test_an_array_has_students_of_one_network_and_as_many_as_it_allows():
    schedule = Schedule(plan_of(*NETWORKS))
    (teacher,) = schedule.take()
    schedule.complete(teacher.run_id)
    sizes = Counter()
    while runs := schedule.take(1, 3, {"resnet20": 2}):
        (name,) = {run.spec.architecture for run in runs}
        if runs[0].spec.stage == "student" and runs[0].spec.teacher is not None:
            sizes[name] = max(sizes[name], len(runs))
    assert sizes == {"digits_cnn": 3, "resnet8": 3, "resnet20": 2}


def test_students_are_pruned_against_their_own_network(monkeypatch):
    plan = plan_of("digits_cnn", "resnet8")
    pruner = Pruner(parse([]).selection.resolve(("a", "b")))
    students = [run for run in plan.students if run.spec.variant is None and not run.spec.seed]
    own, others = (
        [run for run in students if run.spec.architecture == name]
        for name in ("digits_cnn", "resnet8")
    )
    for run in own:
        pruner.see(
            run,
            {
                "status": "completed",
                "val_class_total": [100, 100],
                "val_class_correct": [90, 90],
                "val_epochs": [10, 20],
                "val_epoch_class_correct": [[80, 80], [85, 85]],
                "val_average_accuracy": 0.9,
            },
        )
    assert pruner.until(own[-1]) == 10
    assert pruner.until(others[-1]) is None


def test_networks_are_separated_by_blanks_or_commas_outside_of_parentheses():
    expected = ("resnet8", "mlp(hidden=(64, 32))", "n.py:F(a='x,)', b=1)", "timm:resnet10t")
    for line in (
        ["--student-architecture", *expected],
        ["--student-architecture", ",".join(expected[:2]), ", ".join(expected[2:])],
        ["--student-architecture=" + ",".join(expected)],
    ):
        assert parse(line).training.student_architecture == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["resnet8", "resnet9"], "unknown --student-architecture 'resnet9'"),
        (["resnet8", "resnet8"], "--student-architecture names resnet8 twice"),
        (["resnet8", "resnet20", "--search", "informed"], "give one --student-architecture"),
        (["resnet8", "resnet20", "--budget", "40%"], "give one --student-architecture"),
        (["resnet8", "resnet20", "--student-weights", "a"], "--student-weights are those of one"),
        (["resnet8,,resnet20"], "unknown --student-architecture ''"),
        ([], "--student-architecture names no network"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_the_data_are_read(line, message):
    with pytest.raises(UserError, match=message):
        check(parse(["--student-architecture", *line]))


def test_two_texts_for_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(
            "from torch import nn\n\n\ndef net(num_classes):\n"
            f"    return nn.Sequential(nn.Flatten(), nn.Linear(64, {len(folder)}0))\n"
        )
    texts = [f"{tmp_path / folder / 'nets.py'}:net" for folder in ("a", "b")]
    options = parse(["--dataset", "digits", "--student-architecture", *texts])
    data = load_data(options)
    with pytest.raises(UserError, match=r"are both called .*net in records; rename one"):
        resolve(options, data, False, networks=given_networks(options.training, data))
