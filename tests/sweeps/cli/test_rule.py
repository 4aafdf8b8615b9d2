"""The selection rule of a sweep has the options of ``analysis.select``."""

import argparse
from dataclasses import astuple

import pytest

from analysis.selection.criteria import Constrained, Floors, Group, Lexicographic, WeightedSum
from analysis.selection.rule_options import add_options, rule_of
from rkd_core.errors import UserError
from sweeps.cli.checks import check
from sweeps.cli.economy_checks import average_constraint
from sweeps.cli.parse import parse

NAMES = ("cat", "dog", "fox")
RULES = {
    "": Constrained(),
    "--worst-k 2 --margin 0.01": Constrained(2, 0.01),
    "--margin 2se --keep balanced --reference 0.8": Constrained(1, None, 2.0, "balanced", 0.8),
    "--tolerance 0.02": Constrained(tolerance=0.02),
    "--group g=cat --group g=dog": Constrained(group=Group("g", (0, 1))),
    "--floor cat=0.8 --floor fox=0.5": Floors({0: 0.8, 2: 0.5}, NAMES),
    "--weight 0.25": WeightedSum(1, 0.25),
    "--order average,worst_k --tolerance 0.1": Lexicographic(1, ("average", "worst_k"), 0.1),
}


def test_both_commands_read_the_same_metric():
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = parse(["--metric", "f1", "--worst-k", "2", "--margin", "0.01"])
    check(options)
    found = options.selection.resolve(NAMES)
    assert (found.figure.name, found.by_accuracy()) == ("f1", Constrained(2, 0.01))
    with pytest.raises(UserError, match="unknown --metric 'precison': did you mean precision"):
        check(parse(["--metric", "precison"]))


@pytest.mark.parametrize(("line", "criterion"), RULES.items())
def test_both_commands_read_the_same_rule(line, criterion):
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = parse([*line.split(), "--estimate", "raw"])
    check(options)
    assert options.selection.resolve(NAMES) == criterion
    alone = rule_of(parser.parse_args([*line.split(), "--estimate", "raw"]))
    assert astuple(alone) == astuple(options.selection)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--weight 2", "--weight must be a fraction"),
        ("--weight 0.5 --floor cat=0.5", "--weight and --floor exclude each other"),
        ("--floor cat", "--floor must be like cat=0.8"),
        ("--floor cat=0.5 --tolerance 0.01", "--floor excludes --tolerance"),
        ("--weight 0.5 --tolerance 0.01", "--weight excludes --tolerance"),
        ("--tolerance 2", "--tolerance must be a fraction, not 2"),
        ("--tolerance nan", "--tolerance must be a fraction, not nan"),
        ("--order best", "--order must name some of worst_k"),
        ("--reference worst", "--reference must be a fraction"),
    ],
)
def test_a_rule_without_sense_is_refused_before_the_data_are_read(line, named):
    with pytest.raises(UserError, match=named):
        check(parse(line.split()))


@pytest.mark.parametrize("line", list(RULES))
def test_searches_follow_a_constraint_on_the_average(line):
    criterion = parse(line.split()).selection.resolve(NAMES)
    if line in ("", "--worst-k 2 --margin 0.01", "--tolerance 0.02"):
        assert average_constraint(criterion, "--search") == criterion
    else:
        with pytest.raises(UserError, match=r"--search follows .*leave out --weight"):
            average_constraint(criterion, "--search")
