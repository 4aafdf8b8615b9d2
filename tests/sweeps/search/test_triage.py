"""Prediction of students from measurements of their teachers."""

import numpy as np
import pytest

from rkd_core.metrics import calibration
from sweeps.search.informed import Informed
from sweeps.search.strategy import Cell
from sweeps.search.teacher_features import Teachers
from tests.sweeps.search.problems import GOAL, SPACE, row


def cells(*alphas):
    return [Cell(alpha, 0.5, 1.0) for alpha in alphas]


def test_rank_correlations_need_three_teachers():
    teachers = Teachers(1)
    for alpha, worst in ((None, 0.1), (0.0, 0.4)):
        teachers.see(alpha, row(worst, 0.8))
    assert teachers.places(cells(None, 0.0)) is None
    teachers.see(1.0, row(0.4, 0.7))
    places = teachers.places(cells(None, 0.0, 1.0))
    assert places.shape == (3, 2)
    assert places[0, 0] < places[1, 0] == places[2, 0]
    assert places[0, 1] == pytest.approx(places[1, 1], abs=0.02)
    assert places[2, 1] < places[1, 1] - 1
    assert places.std(axis=0) == pytest.approx([1, 1])


def test_a_teacher_that_is_not_trained_is_like_the_nearest_and_seeds_are_means():
    teachers = Teachers(1)
    for alpha, worst in ((None, 0.1), (0.0, 0.4), (1.0, 0.3), (1.0, 0.5)):
        teachers.see(alpha, row(worst, 0.8))
    near = teachers.places(cells(0.25, 0.0, 0.75, 1.0, None))
    assert (near[0] == near[1]).all()
    assert (near[2] == near[3]).all()
    assert near[1, 0] == pytest.approx(near[3, 0], rel=0.01)  # 0.4, and the mean of 0.3 and 0.5
    assert (near[4] != near[1]).any()


def test_the_calibration_error_of_the_worst_class_is_a_figure_where_it_is_known():
    rng = np.random.default_rng(0)
    teachers, errors = Teachers(1), []
    for alpha, off in ((None, 0.4), (0.0, 0.2), (1.0, 0.0)):
        images = rng.integers(20, 50, (10, 15))
        probability = np.tile((np.arange(15) + 0.5) / 15, (10, 1))
        positives = np.round(images * probability * (1 - off)).astype(int)
        bins = {"images": images, "positives": positives, "probability": probability}
        known = {f"val_calibration_{name}": value.tolist() for name, value in bins.items()}
        errors.append(calibration.errors(calibration.Bins(images, positives, probability)).max())
        teachers.see(alpha, row(0.4, 0.8) | known)
    places = teachers.places(cells(None, 0.0, 1.0))
    assert places.shape == (3, 3)
    wanted = np.log(errors)
    assert places[:, 2] - places[0, 2] == pytest.approx((wanted - wanted[0]) / wanted.std())


KNOWS = dict(zip(SPACE.objectives, (0.20, 0.60, 0.25, 0.58, 0.22, 0.24), strict=True))


def follows(cell):
    """Return students as good as their teacher, whose quality has no order in the trade-offs."""
    ripple = 0.01 * np.cos(7 * (cell.alpha_s or 0.0))
    return row(KNOWS[cell.alpha_t] + ripple - 0.01 * cell.temperature, 0.8)


def test_teachers_figures_count_where_students_follow_them():
    late = {}
    for told in (False, True):
        strategy = Informed(SPACE, GOAL)
        proposed, taught = [], set()
        for _ in range(20):
            point = strategy.ask()
            alpha = point.cell.alpha_t
            if told and alpha not in taught:
                strategy.taught(alpha, row(KNOWS[alpha], 0.8))
            taught.add(alpha)
            proposed.append(point.cell)
            strategy.tell(point, follows(point.cell))
        beside = strategy._posterior("worst_k", "counted").beside
        assert beside > 0.9 if told else beside == 0
        assert taught == set(SPACE.objectives)  # nobody is dismissed unprobed
        late[told] = [cell.alpha_t for cell in proposed[7:]]
    assert sum(alpha in (0.0, 0.5) for alpha in late[True]) >= 12
    assert 0.5 in late[True]  # knows as much as the best, though its first student does not show it
    assert 0.5 not in late[False]


def test_figures_that_students_do_not_follow_do_not_count():
    rng = np.random.default_rng(1)
    strategy = Informed(SPACE, GOAL)
    for alpha in SPACE.objectives:
        strategy.taught(alpha, row(float(rng.uniform(0.2, 0.6)), 0.8))
    for _ in range(25):
        point = strategy.ask()
        strategy.tell(point, row(0.5 - 0.2 * (point.cell.alpha_s or 0.0) ** 2, 0.8))
    assert strategy._posterior("worst_k", "counted").beside < 0.5
