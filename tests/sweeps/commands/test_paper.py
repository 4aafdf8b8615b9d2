"""The sweep of a part of a table: settings of the table and of the command line."""

from dataclasses import fields

import pytest

from analysis.papers import TABLES, table
from analysis.papers.definitions import Part
from rkd_core import methods
from rkd_core.models import architectures
from sweeps.cli.method_names import chosen, variants
from sweeps.cli.options import Options
from sweeps.cli.parse import parse
from sweeps.commands import paper
from sweeps.commands.adult import Options as AdultOptions
from sweeps.commands.entry import CommandLine
from sweeps.commands.paper import PaperOptions, _dataset, _options
from sweeps.stop import Stop


def said(*arguments: str) -> PaperOptions:
    return parse(arguments, "paper.py", PaperOptions)


def test_settings_of_the_table_override_the_command_line() -> None:
    part = Part(
        "kd,dkd",
        alphas=(1.0,),
        temperatures=(1.0,),
        imbalance=5,
        networks=("resnet32x4", "resnet8x4"),
        small_networks=("resnet20", "resnet8"),
    )
    line = said("--imbalance", "50", "--seeds", "3", "--student-architecture", "vgg8")
    for scale, networks in (("paper", part.networks), ("small", part.small_networks)):
        found = _options(line, part, scale)
        training = found.training
        teacher, student = networks
        assert training.teacher_architecture == teacher
        assert training.student_architecture == (student,)
        assert (training.scale, found.data.imbalance, found.grid.seeds) == (scale, 5, (3,))
        assert (found.grid.methods, found.grid.alphas) == ("kd,dkd", (1.0,))
        assert found.grid.temperatures == (1.0,)


def test_settings_it_leaves_open_come_from_the_command_line() -> None:
    line = said("--imbalance", "50", "--alphas", "0.5", "--student-architecture", "vgg8")
    found = _options(line, Part("kd"), "paper")
    assert (found.data.imbalance, found.grid.alphas) == (50, (0.5,))
    assert found.training.student_architecture == ("vgg8",)
    assert found.training.teacher_architecture is None


def test_every_other_option_is_forwarded() -> None:
    """Among them are the trackers."""
    given = ("--mlflow", "sqlite:///a.db", "--wandb", "p", "--worst-k", "2", "--serial", "--quiet")
    line = said(*given)
    found = _options(line, Part("kd"), "small")
    assert (found.tracking.mlflow, found.tracking.wandb) == (("sqlite:///a.db",), "p")
    for name in {field.name for field in fields(Options)} - {"data", "grid", "training"}:
        assert getattr(found, name) == getattr(line, name)


def test_every_table_names_methods_options_and_networks_that_there_are() -> None:
    """Check also that the part of each cell trains its method."""
    for name in TABLES:
        found = table(name, "cifar100-lt")
        for place, part in enumerate(found.parts):
            trained = [method for text in chosen(part.methods) for method in variants(text)]
            for pair in (part.networks, part.small_networks):
                assert set(pair or ()) <= set(architectures())
            for cell in (cell for cell in found.cells if cell.part == place):
                for what in (getattr(cell.what, "of", cell.what), getattr(cell.what, "over", None)):
                    method, options = getattr(what, "method", None), getattr(what, "options", None)
                    if method is not None and options is not None:
                        assert methods.create(method, options) in trained, (name, cell)
                    elif method is not None:
                        assert method in {known.name for known in trained}, (name, cell)


def test_a_subset_of_the_classes_is_another_data_set() -> None:
    """ImageNet-100 has figures of its own, and none of ImageNet's."""
    whole, subset = said("--dataset", "imagenet"), said("--dataset", "imagenet", "--classes", "100")
    assert (_dataset(whole), _dataset(subset)) == ("imagenet", "imagenet-100")
    assert _dataset(said("--dataset", "my/birds/", "--classes", "5")) == "my/birds-5"
    gains = {
        name: [c.paper for c in table("pet-1", name).cells if c.row == "gain"]
        for name in ("imagenet", "imagenet-100")
    }
    assert gains["imagenet"] == [{"average": 0.39, "teacher-worst-10": -0.43}]
    assert gains["imagenet-100"] == [{"average": 0.09, "teacher-worst-10": 0.06}]
    for cell in table("pet-3", "imagenet-100").cells:
        assert set(cell.paper.values()) == {None}
    assert "worst-1" in table("pet-3", "cifar10-5").metrics


def test_adult_has_the_split_and_the_threshold_of_the_paper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[AdultOptions] = []
    monkeypatch.setattr(paper, "run_adult", asked.append)
    for more in ([], ["--seeds", "7", "8"]):
        line = CommandLine("paper.py", ["--table", "pet-9", *more], ["paper"])
        assert paper.main(line, Stop()) == 0
    assert [(o.split, o.threshold, o.seeds) for o in asked] == [
        ("published", 0.33, AdultOptions.seeds),
        ("published", 0.33, (7, 8)),
    ]
