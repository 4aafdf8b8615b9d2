"""Each rule by itself, on simple accuracies; and rules as options."""

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
        (
            {"margin": 0.1, "tolerance": 0.19},
            "narrow",
        ),  # worst classes 70 and 50, averages 85, 87.5
        ({"margin": 0.1, "tolerance": 0.2}, "lofty"),
        ({"margin": -0.02, "tolerance": 0.19}, "narrow"),
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
    assert Rule().resolve(NAMES) == Constrained()
    given = Rule(2, "2se", "balanced", "best", "pets=cat,dog").resolve(NAMES)
    assert given == Constrained(2, None, 2.0, "balanced", "best", Group("pets", (0, 1)))
    assert Rule(margin="0.01", reference="0.8").resolve(NAMES) == Constrained(1, 0.01, 1.0, reference=0.8)  # fmt: skip  # noqa: E501
    assert Rule(floor=["cat=0.8", "fox=0.5"]).resolve(NAMES) == Floors({0: 0.8, 2: 0.5}, NAMES)
    assert Rule(weight=0.25).resolve(NAMES) == WeightedSum(1, 0.25)
    found = Rule(order="average,worst_k", tolerance=0.1).resolve(NAMES)
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
def test_nonsensical_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule(**options).resolve(NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": ["cat=80"]}, "^the floor of cat must be a fraction, not 80"),
        ({"weight": 2.0}, "^--weight must be a fraction"),
        ({"floor": ["cat"]}, "^--floor must be like cat=0.8, not cat"),
    ],
)
def test_options_are_checked_without_classes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule(**options).check()


@pytest.mark.parametrize(
    ("criterion", "maximized", "asked"),
    [
        (
            Constrained(margin=0.01),
            "worst-class accuracy",
            "an average of 81.5 or more (standard distillation's less 1.0)",
        ),
        (
            Constrained(2, margin=0.02, keep="balanced", reference="best"),
            "worst-2 accuracy",
            "a balanced accuracy of 81.3 or more (the best there is less 2.0)",
        ),
        (
            Constrained(margin=0.0, reference=0.8, group=Group("few", (0, 1))),
            "few accuracy",
            "an average of 80.0 or more",
        ),
        (WeightedSum(weight=0.25), "0.25 × worst-class + 0.75 × average", ""),
        (Lexicographic(2, ("average", "worst_k")), "average, then worst-2 accuracy", ""),
        (Floors({1: 0.5}, NAMES, 2), "worst-2 accuracy", "accuracies of at least 50 (dog)"),
    ],
)
def test_each_rule_in_words(criterion: Criterion, maximized: str, asked: str) -> None:
    _, selection = choose(criterion)
    assert criterion.words(selection.seen, selection.reference, 0) == (maximized, asked)


def test_each_rule_as_plain_data() -> None:
    assert Constrained().describe()["margin_rule"] == "standard_error"
    assert Constrained(margin=0.0).describe()["margin_rule"] == "fixed"
    weighted = {"name": "weighted_sum", "worst_k": 1, "weight": 0.5}
    assert WeightedSum().describe() == weighted
    floors = {"name": "floors", "worst_k": 2, "floors": {"dog": 0.5}}
    assert Floors({1: 0.5}, NAMES, 2).describe() == floors


def test_excluded_combinations_stay_excluded() -> None:
    """Use averages 0.825, 0.75, 0.85, 0.875; balanced 0.8, 0.75, 0.8, 0.833; worst 0.6 to 0.5."""
    order = ("average", "balanced", "worst_k")
    _, selection = choose(Lexicographic(order=order, tolerance=0.05))
    keys = selection.criterion.objective(selection.seen)
    worst = [0.6, 0.7, 0.7, 0.5]
    np.testing.assert_allclose(keys, np.column_stack([[1, 0, 1, 1], [1, 0, 1, 1], worst]))
    _, selection = choose(Lexicographic(order=order, tolerance=0.03))
    keys = selection.criterion.objective(selection.seen)
    np.testing.assert_allclose(keys, np.column_stack([[0, 0, 1, 1], [0, 0, 0, 1], worst]))


def test_rules_without_a_constraint_admit_everything() -> None:
    for criterion in (WeightedSum(), Lexicographic()):
        _, selection = choose(criterion)
        assert selection.feasible
        assert selection.admitted.all()
        assert np.isnan(selection.margin).all()
        assert (selection.shortfall == -np.inf).all()
        assert selection.least_average is None


def test_the_least_average_is_that_of_standard_distillation_less_the_margin() -> None:
    assert choose(Constrained(margin=0.01))[1].least_average == pytest.approx(0.815)
    assert choose(Constrained(margin=0.0, reference=0.8))[1].least_average == pytest.approx(0.8)
    assert choose(Constrained(margin=0.01, keep="balanced"))[1].least_average is None


def test_a_floor_of_a_class_without_images_is_never_met() -> None:
    rows = [
        worlds.student("plain", val_class_total=[10, 10, 0], val_class_correct=[9, 6, 0]),
        worlds.student("b", student=0.5, val_class_total=[10, 10, 0], val_class_correct=[8, 8, 0]),
    ]
    selection = select(combine(worlds.table(rows)), Floors({0: 0.85, 2: 0.1}, NAMES))
    assert selection.shortfall.tolist() == [np.inf, np.inf]
    assert not selection.feasible


def test_the_limits_of_fractions_are_fractions() -> None:
    for fraction in (0.0, 1.0):
        assert Constrained(reference=fraction).reference == fraction
        assert WeightedSum(weight=fraction).weight == fraction
        assert Lexicographic(tolerance=fraction).tolerance == fraction
        assert Floors({0: fraction}, NAMES).floors == {0: fraction}
        assert Constrained(margin=-fraction).margin == -fraction
    for margin in (1.01, -1.01, float("nan")):
        with pytest.raises(UserError, match="margin must be a fraction"):
            Constrained(margin=margin)
