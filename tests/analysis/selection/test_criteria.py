"""Each rule by itself, on accuracies that can be read off; and rules as options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.runs.combinations import combine
from analysis.selection import Selection, select
from analysis.selection.criteria import (
    Constrained,
    Criterion,
    Floors,
    Group,
    Lexicographic,
    WeightedSum,
)
from analysis.selection.rule_options import Rule
from rkd_core.errors import UserError
from tests.analysis import worlds

NAMES = ("cat", "dog", "fox")
WORLD = {  # recalls of 10, 10 and 20 images
    "plain": ("standard", [9, 6, 18]),  # average 82.5, balanced 80
    "steady": (0.0, [8, 7, 15]),  # 75, 75
    "narrow": (0.5, [7, 7, 20]),  # 85, 80
    "lofty": (1.0, [10, 5, 20]),  # 87.5, 83.3
}


def choose(criterion: Criterion) -> tuple[str, Selection]:
    rows = [
        worlds.student(name, student=s, val_class_total=[10, 10, 20], val_class_correct=correct)
        for name, (s, correct) in WORLD.items()
    ]
    selection = select(combine(worlds.table(rows)), criterion)
    return selection.combinations.run_ids(selection.selected)[0], selection


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"margin": 0.0}, "narrow"),
        ({"margin": 0.1}, "narrow"),
        ({"margin": 0.0, "keep": "balanced"}, "narrow"),
        ({"margin": 0.0, "keep": "balanced", "reference": 0.81}, "lofty"),
        ({"margin": 0.0, "reference": "best"}, "lofty"),
        ({"margin": 0.03, "reference": "best"}, "narrow"),
        ({"margin": 0.0, "reference": 0.86}, "lofty"),
        ({"margin": 0.1, "group": Group("few", (0, 1))}, "lofty"),
        ({"margin": 0.1, "group": Group("dog", (1,))}, "narrow"),
        ({"margin": 0.0, "group": Group("cat", (0,))}, "lofty"),
        ({"errors": 0.0, "reference": "best"}, "lofty"),
        ({"errors": 1.0, "reference": "best"}, "narrow"),
    ],
)
def test_constrained(options: dict[str, Any], expected: str) -> None:
    assert choose(Constrained(**options))[0] == expected


def test_the_error_of_a_balanced_accuracy_is_binomial_with_one_seed() -> None:
    _, selection = choose(Constrained(keep="balanced", reference=0.5, errors=2.0))
    variances = []
    for _, correct in WORLD.values():
        parts = [
            (c / n) * (1 - c / n) / n if 0 < c < n else (0.5 / (n + 1)) ** 2  # Wilson's
            for c, n in zip(correct, (10, 10, 20), strict=True)
        ]
        variances.append(sum(parts) / 9)
    assert selection.margin == pytest.approx(2 * np.sqrt(variances))


def test_weighted_sum() -> None:
    assert choose(WeightedSum(weight=0.0))[0] == "lofty"
    assert choose(WeightedSum(weight=1.0))[0] == "narrow"  # a tie of steady, by the average
    assert choose(WeightedSum(weight=0.5))[1].least_average is None


def test_floors() -> None:
    assert choose(Floors({0: 0.8}, NAMES))[0] == "steady"
    assert choose(Floors({0: 0.8, 2: 0.9}, NAMES))[0] == "plain"
    name, selection = choose(Floors({0: 0.9, 1: 0.7}, NAMES))
    assert not selection.feasible
    assert name == "plain"  # of those that lack a tenth, the one with the higher average
    assert selection.shortfall == pytest.approx([0.1, 0.1, 0.2, 0.2])
    asked = selection.criterion.words(selection.seen, 0, 0)[1]
    assert asked == "accuracies of at least 90 (cat), 70 (dog)"


def test_lexicographic() -> None:
    assert choose(Lexicographic())[0] == "narrow"
    assert choose(Lexicographic(tolerance=0.1))[0] == "narrow"
    assert choose(Lexicographic(tolerance=0.2))[0] == "lofty"
    assert choose(Lexicographic(order=("balanced", "worst_k")))[0] == "lofty"
    assert (
        choose(Lexicographic(order=("average", "balanced", "worst_k"), tolerance=0.05))[0]
        == "narrow"
    )


def test_options_make_the_criterion() -> None:
    assert Rule().criterion(NAMES) == Constrained()
    given = Rule(2, "2se", "balanced", "best", "pets=cat,dog").criterion(NAMES)
    assert given == Constrained(2, None, 2.0, "balanced", "best", Group("pets", (0, 1)))
    assert Rule(margin="0.01", reference="0.8").criterion(NAMES) == Constrained(1, 0.01, 1.0, reference=0.8)  # fmt: skip  # noqa: E501
    assert Rule(floor=["cat=0.8", "fox=0.5"]).criterion(NAMES) == Floors({0: 0.8, 2: 0.5}, NAMES)
    assert Rule(weight=0.25).criterion(NAMES) == WeightedSum(1, 0.25)
    found = Rule(order="average,worst_k", tolerance=0.1).criterion(NAMES)
    assert found == Lexicographic(1, ("average", "worst_k"), 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": "x"}, "margin must be a fraction, such as 0.005, or standard errors"),
        ({"margin": "se"}, "margin must be a fraction"),
        ({"margin": "7"}, "margin must be a fraction"),
        ({"margin": "infse"}, "margin must be a finite number"),
        ({"reference": "worst"}, "reference must be a fraction"),
        ({"reference": "2"}, "reference must be standard, best or a fraction"),
        ({"floor": ["cat"]}, "--floor must be like cat=0.8, not cat"),
        ({"floor": ["cow=0.8"]}, "no class is named cow; there are cat, dog, fox"),
        ({"floor": ["cat=80"]}, "the floor of cat must be a fraction, not 80"),
        ({"group": "cat"}, "--group must be like"),
        ({"group": "a=cow"}, "no class is named cow"),
        ({"weight": 2.0}, "weight must be a fraction"),
        ({"order": "worst"}, "order must name some of worst_k, average, balanced, not worst"),
        ({"order": "average", "tolerance": -1.0}, "tolerance must be a fraction"),
        ({"weight": 0.5, "order": "average"}, "--weight and --order exclude each other"),
        ({"weight": 0.5, "margin": "0.1"}, "--weight excludes --margin"),
    ],
)
def test_what_makes_no_sense_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule(**options).criterion(NAMES)
