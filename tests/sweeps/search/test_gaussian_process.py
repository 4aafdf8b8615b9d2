"""The posterior of the accuracies of all combinations."""

import numpy as np
import pytest
from scipy import integrate, stats

from rkd_core.metrics import arcsine_scaled
from sweeps.search import gaussian_process
from sweeps.search.gaussian_process import Posterior, Results, accuracy, fit_posterior
from tests.sweeps.search.problems import SPACE

PLACES = np.array([cell.place for cell in SPACE.cells])
NOBODY = np.array([], dtype=int)


def results(rows, values, images=500, seeds=1):
    rows = np.array(rows)
    values = np.broadcast_to(np.asarray(values, dtype=float), rows.shape)
    return Results(rows, values, np.full(len(rows), images), np.full(len(rows), seeds))


def hill(rows):
    return 0.6 - 0.3 * (PLACES[rows, 0] - 0.5) ** 2 - 0.2 * PLACES[rows, 2] ** 2


def test_one_process_matches_the_textbook_formula(monkeypatch):
    """Compare with the same normal distribution, written out and inverted directly."""
    for name, one in (("LENGTHS", 0.8), ("SPREADS", 0.1), ("SEEDS", 0.02)):
        monkeypatch.setattr(gaussian_process, f"_{name}", (one,))
    shares = (0.3, 0.5, 0.2)
    monkeypatch.setattr(gaussian_process, "_SHARES", (shares,))
    seen, seeds = np.array([3, 40, 71, 99]), np.array([1, 2, 1, 3])
    images, values = np.array([100, 100, 50, 400]), np.array([0.2, 0.5, 0.45, 0.7])
    found = fit_posterior(PLACES, Results(seen, values, images, seeds), NOBODY)

    def matern(axes, i, j):
        d = np.sqrt(3) * np.linalg.norm(PLACES[i][axes] - PLACES[j][axes]) / 0.8
        return (1 + d) * np.exp(-d)

    def covariance(i, j):
        t, s = matern([0, 1], i, j), matern([2, 3, 4], i, j)
        return 1.0 + 0.01 * (0.3 * t + 0.5 * s + 0.2 * t * s)

    among = np.array([[covariance(i, j) for j in seen] for i in seen])
    inverse = np.linalg.inv(among + np.diag((1 / (4 * images + 2) + 0.02**2) / seeds))
    for place in (0, 3, 50, 107):
        to = np.array([covariance(place, j) for j in seen])
        mean = 0.7 + to @ inverse @ (np.arcsin(np.sqrt(values)) - 0.7)
        variance = 1.01 - to @ inverse @ to
        assert found.mean[place] == pytest.approx(mean, abs=1e-9)
        assert found.deviation[place] == pytest.approx(np.sqrt(variance), abs=1e-7)
        look = np.mean(1 / (4 * images + 2)) + 0.02**2
        shown = variance / np.sqrt(variance + look)
        assert found.shown[0, place] == pytest.approx(shown, abs=1e-7)


def test_it_is_near_observations_and_wide_far_from_them():
    rows = [k for k, cell in enumerate(SPACE.cells) if cell.temperature == 1 and cell.alpha_t]
    found = fit_posterior(PLACES, results(rows, hill(rows), 5000, 5), NOBODY)
    np.testing.assert_allclose(accuracy(found.mean[rows]), hill(rows), atol=0.02)
    far = next(k for k, c in enumerate(SPACE.cells) if c.is_standard and c.temperature == 5)
    assert found.deviation[far] > 3 * found.deviation[rows].max()


def test_more_images_and_seeds_narrow_the_posterior():
    rows = list(range(0, 108, 9))
    deviations = [
        fit_posterior(PLACES, results(rows, hill(rows), images, seeds), NOBODY)
        .deviation[rows]
        .mean()
        for images, seeds in ((20, 1), (20, 9), (20_000, 9))
    ]
    assert deviations[0] > deviations[1] > deviations[2]


def test_running_points_reduce_variance_and_keep_the_mean():
    rows = np.arange(0, 108, 9)
    before = fit_posterior(PLACES, results(rows, hill(rows)), NOBODY)
    after = fit_posterior(PLACES, results(rows, hill(rows)), np.array([50, 50, 9]))
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-9)
    assert after.deviation[50] < 0.7 * before.deviation[50]
    assert (after.deviation <= before.deviation + 1e-9).all()


def test_few_results_give_a_finite_posterior():
    for rows in ([0], [0, 0], [0, 7]):
        found = fit_posterior(PLACES, results(rows, 0.0), NOBODY)
        assert np.isfinite(found.mean).all()
        assert (found.deviation > 0).all()
        assert found.weights.sum() == pytest.approx(1)


MIXTURE = Posterior(
    weights=np.array([0.25, 0.75]),
    means=np.array([[0.5, 0.9], [0.8, 1.5]]),
    deviations=np.array([[0.2, 0.1], [0.05, 0.3]]),
    shown=np.array([[0.1, 0.05], [0.04, 0.2]]),
    beside=0.0,
)


@pytest.mark.parametrize("best", [0.0, 0.4, 0.9])
def test_expected_improvement_is_an_expectation(best):
    found = MIXTURE.improvement(best)
    for place in (0, 1):
        wanted = 0.0
        for weight, mean, shown in zip(
            MIXTURE.weights, MIXTURE.means[:, place], MIXTURE.shown[:, place], strict=True
        ):
            law = stats.norm(mean, shown)
            gain, _ = integrate.quad(
                lambda z, law=law: law.pdf(z) * max(accuracy(z) - best, 0), -1, 3, limit=500
            )
            wanted += weight * gain
        assert found[place] == pytest.approx(wanted, abs=2e-5)


def test_moments_and_chances_are_those_of_the_mixture():
    rng = np.random.default_rng(0)
    which = rng.choice(2, 400_000, p=MIXTURE.weights)
    draws = rng.normal(MIXTURE.means[which], MIXTURE.deviations[which])
    assert MIXTURE.mean == pytest.approx(draws.mean(axis=0), abs=2e-3)
    assert MIXTURE.deviation == pytest.approx(draws.std(axis=0), abs=2e-3)
    above = (draws >= np.arcsin(np.sqrt(0.5))).mean(axis=0)
    assert MIXTURE.at_least(0.5) == pytest.approx(above, abs=3e-3)


def test_further_coordinates_count_where_they_make_results_likelier():
    rng = np.random.default_rng(1)
    figure = rng.standard_normal(6)[[SPACE.objectives.index(c.alpha_t) for c in SPACE.cells]]
    rows = np.arange(0, 108, 4)
    follow = results(rows, 0.5 + 0.1 * figure[rows])
    assert fit_posterior(PLACES, follow, NOBODY).beside == 0
    assert fit_posterior(PLACES, follow, NOBODY, figure[:, None]).beside > 0.8
    assert fit_posterior(PLACES, results(rows, hill(rows)), NOBODY, figure[:, None]).beside < 0.3


def test_uninformative_coordinates_are_penalized():
    """With equal coordinates for all teachers, the likelihood is the same and the penalty is 2."""
    rows = np.arange(0, 108, 4)
    found = fit_posterior(PLACES, results(rows, hill(rows)), NOBODY, np.zeros((108, 2)))
    assert found.beside == pytest.approx(1 / (1 + np.exp(2)))


def test_the_scale_goes_both_ways():
    fractions = np.linspace(0, 1, 11)
    np.testing.assert_allclose(accuracy(arcsine_scaled(fractions)), fractions)
    assert accuracy(-0.1) == 0
    assert accuracy(2.0) == 1
