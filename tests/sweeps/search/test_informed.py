"""The informed search strategy."""

from dataclasses import replace

import numpy as np
import pytest

from sweeps.search.informed import Informed
from sweeps.search.strategy import Cell, Goal, Point
from tests.sweeps.search.problems import BEST, GOAL, SPACE, accuracies, explore, outcome, row


def goal_of(margin):
    return Goal(replace(GOAL.criterion, margin=margin))


def test_standard_distillation_comes_first_and_every_teacher_is_probed():
    proposed = explore(Informed(SPACE, GOAL), 7)
    assert proposed[0] == Point(SPACE.reference, 0)
    assert {point.cell.alpha_t for point in proposed} == {None, 0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.02, 0.05])
def test_it_finds_what_is_good_in_a_tenth_of_the_grid_and_the_best_in_a_fifth(margin):
    """Compare with the best combination that the constraint admits."""
    least = accuracies(SPACE.reference)[1] - margin
    admitted = {c: accuracies(c)[0] for c in SPACE.cells if accuracies(c)[1] >= least - 1e-3}
    best = max(admitted.values())
    proposed = explore(Informed(SPACE, goal_of(margin)), 22)
    found = [admitted.get(point.cell, 0.0) for point in proposed]
    assert max(found) == best
    assert max(found[:12]) >= best - 0.03
    assert margin < 0.05 or best == accuracies(BEST)[0]


def test_every_point_is_proposed_exactly_once():
    small = replace(SPACE, alphas=(0.0, 1.0), temperatures=(1.0,), seeds=(3, 4))
    proposed = explore(Informed(small, GOAL), 1000, noise=0.01)
    assert len(proposed) == len(set(proposed)) == 9 * 2
    assert {point.seed for point in proposed} == {3, 4}


def test_running_points_are_not_proposed_again():
    strategy = Informed(SPACE, GOAL)
    explore(strategy, 12)
    together = [strategy.ask() for _ in range(6)]
    assert len(set(together)) == 6


def test_further_seeds_go_to_what_is_good_rather_than_to_what_is_not():
    space = replace(SPACE, seeds=tuple(range(6)))
    proposed = explore(Informed(space, GOAL), 60, noise=0.05)
    repeated = [p.cell for p in proposed if p.seed > 0 and not p.cell.is_standard]
    once = [point.cell for point in proposed]
    assert len(repeated) >= 5
    assert np.mean([accuracies(c)[0] for c in repeated]) > np.mean([accuracies(c)[0] for c in once])


def test_an_untrained_teacher_adds_to_the_cost():
    """A further seed of a student needs a further teacher."""
    space = replace(SPACE, seeds=(0, 1))
    further = [
        len({p.cell.alpha_t for p in explore(Informed(space, GOAL, cost), 30, 0.02) if p.seed})
        for cost in (0.0, 50.0)
    ]
    assert further[1] < further[0]


def test_the_search_concentrates_within_the_constraint():
    strict = goal_of(0.0)

    def told(point):
        worst, average = accuracies(point.cell)
        alone = point.cell.alpha_t is None or point.cell.alpha_s is None
        return row(worst, average if alone else average - 0.2)

    strategy, proposed = Informed(SPACE, strict), []
    for _ in range(30):
        point = strategy.ask()
        proposed.append(point.cell)
        strategy.tell(point, told(point))
    late = proposed[15:]
    admitted = [c for c in late if c.alpha_t is None or c.alpha_s is None]
    assert len(admitted) > len(late) / 2


@pytest.mark.parametrize("became", [None, row(0.2, 0.5, "pruned")])
def test_failed_and_pruned_runs_are_left_alone(became):
    space = replace(SPACE, seeds=(0, 1, 2))
    strategy, out = Informed(space, GOAL), Cell(0.5, 0.5, 1.0)
    strategy.tell(Point(out, 0), became)
    assert out not in {point.cell for point in explore(strategy, 35, noise=0.02)}


def test_without_standard_distillation_it_goes_on():
    strategy = Informed(replace(SPACE, alphas=(0.0, 1.0), temperatures=(1.0,)), GOAL)
    strategy.tell(strategy.ask(), None)
    proposed = explore(strategy, 100)
    assert len(proposed) == 8
    assert strategy.ask() is None


def test_results_that_were_not_proposed_are_used():
    strategy = Informed(SPACE, GOAL)
    known = [Point(cell, 0) for cell in SPACE.cells[:40]]
    for point in known:
        strategy.tell(point, outcome(point))
    assert not set(explore(strategy, 200)) & set(known)
