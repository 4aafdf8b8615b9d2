"""Further seeds go to combinations that may change the selection."""

from sweeps.search import seed_value
from sweeps.search.strategy import Cell, Point
from tests.sweeps.search.problems import GOAL, row

REFERENCE = Cell(None, None, 1.0)
LOSERS = [Cell(a, s, 1.0) for a in (None, 0.0, 0.5) for s in (0.25, 0.5, 0.75, 1.0)]
CONTENDERS = [Cell(1.0, 0.25, 1.0), Cell(1.0, 0.75, 1.0)]


def sweep(first, second, seeds=2):
    """Losers 20 points behind, two contenders, and standard distillation."""
    worst = dict.fromkeys(LOSERS, 0.5) | dict(zip(CONTENDERS, (first, second), strict=True))
    worst[REFERENCE] = 0.4
    return {
        Point(cell, seed): row(value + 0.01 * (-1) ** seed, 0.75 if cell == REFERENCE else 0.85)
        for cell, value in worst.items()
        for seed in range(seeds)
    }


def test_they_are_worth_most_to_those_between_which_the_choice_is_open():
    gains = seed_value.gains(sweep(0.7, 0.7), GOAL)
    best = sorted(gains, key=gains.__getitem__, reverse=True)[:2]
    assert set(best) == set(CONTENDERS)
    assert gains[best[0]] > 0.0001
    others = [gain for cell, gain in gains.items() if cell not in CONTENDERS]
    assert max(others) < gains[best[1]] / 3


def test_further_seeds_have_no_value_once_the_selection_is_settled():
    gains = seed_value.gains(sweep(0.75, 0.6), GOAL)
    assert max(gains.values()) < 0.00001


def test_of_few_combinations_or_without_standard_distillation_nothing_is_known():
    seen = sweep(0.7, 0.7)
    few = {p: r for p, r in seen.items() if p.cell in (REFERENCE, *CONTENDERS)}
    assert seed_value.gains(few, GOAL) == {}
    assert seed_value.gains({p: r for p, r in seen.items() if p.cell != REFERENCE}, GOAL) == {}
