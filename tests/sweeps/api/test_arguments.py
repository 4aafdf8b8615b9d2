"""Keyword arguments of the Python interface."""

from pathlib import Path

import numpy as np
import pytest

from rkd_core.errors import UserError
from sweeps import Sweep
from sweeps.api.arguments import as_arguments, names, rule_of
from sweeps.cli.options import Options
from sweeps.cli.parse import parse


def test_arguments_are_the_options_of_the_command():
    given = {
        "dataset": "digits-lt",
        "alphas": (0, np.float64(0.5)),
        "temperatures": 2,
        "serial": True,
        "prune": False,
        "epochs": None,
        "group": ["a=1,2", "b=3"],
        "out": Path("x"),
    }
    line = as_arguments(given)
    assert line == [
        *("--dataset=digits-lt", "--alphas", "0", "0.5", "--temperatures=2", "--serial"),
        *("--group=a=1,2", "--group=b=3", "--out=x"),
    ]
    assert Sweep(**given).options == parse(line)


def test_every_option_of_the_command_is_an_argument():
    found = names(Options)
    assert {"dataset", "alphas", "worst_k", "serial", "watch"} <= {*found}
    assert len(found) == len({*found})


def test_networks_have_short_names():
    options = Sweep("digits", teacher="resnet20", student="resnet8").options.training
    assert options.teacher_architecture == "resnet20"
    assert options.student_architecture == ("resnet8",)
    options = Sweep("digits", student=["resnet8", "mlp(hidden=(64, 32))"]).options.training
    assert options.student_architecture == ("resnet8", "mlp(hidden=(64, 32))")


def test_switches():
    assert as_arguments({"undistilled": False, "prune": True}) == ["--no-undistilled", "--prune"]
    assert as_arguments({"undistilled": True, "prune": False, "serial": None}) == []
    assert not Sweep("digits", undistilled=False).options.grid.undistilled
    assert Sweep("digits").options.grid.undistilled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alfas": (0, 1)}, "unknown argument 'alfas': did you mean alphas"),
        ({"epochs": "many"}, "epochs cannot be many"),
        ({"data": "digits", "dataset": "cifar10"}, "give data or dataset, not both"),
        ({"data": "digits", "name": "mine"}, "name and class_names are for data in memory"),
        ({"data": (1, 2, 3, 4), "name": "digits"}, "'digits' is that of a built-in data set"),
        ({"data": (1, 2, 3, 4), "train_list": "x"}, "train_list is for data on disk"),
        ({"teacher": "resnet8", "teacher_architecture": "vgg8"}, "not both"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(UserError, match=message) as refused:
        Sweep(**arguments)
    assert "--" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "^epochs must be 1 or more"),
        ({"student": "resnet9"}, "unknown student_architecture 'resnet9': did you mean resnet"),
        ({"data": (1, 2, 3, 4)}, "has 4 parts"),
        ({"data": "nowhere"}, "unknown dataset 'nowhere'"),
    ],
)
def test_a_sweep_checks_before_it_trains(arguments, message, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=message):
        Sweep(out=out, serial=True, **arguments).run()
    assert not out.exists()


def test_rules():
    assert rule_of({"worst_k": 2, "floor": "0=0.5"}).floor == ("0=0.5",)
    with pytest.raises(UserError, match="unknown argument 'worst'"):
        rule_of({"worst": 2})
    with pytest.raises(UserError, match=r"^margin"):
        rule_of({"margin": "much"})
