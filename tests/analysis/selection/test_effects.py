"""The low-rank covariance of effects against dense float64 algebra."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.selection import effects
from analysis.selection.effects import Effects, fit_effects


def made(rows: int = 5, classes: int = 6, factors: int = 2) -> tuple[Effects, np.ndarray]:
    """Return random effects, and noisy data of them."""
    rng = np.random.default_rng(0)
    some = Effects(
        rotation=np.eye(rows + 1)[:, 1:],
        variance=rng.uniform(0.3, 3, rows),
        slope=rng.uniform(0.5, 2, classes),
        own=0.4,
        loadings=rng.standard_normal((factors, classes)),
    )
    return some, rng.standard_normal((rows, classes))


@pytest.mark.parametrize("factors", [0, 1, 3])
def test_likelihood_and_posterior_are_those_of_dense_algebra(factors: int) -> None:
    some, data = made(factors=factors)
    conditional, mean = some.conditional(), some.mean(data)
    likelihood = 0.0
    draws = 40_000
    rng = np.random.default_rng(1)
    own = rng.standard_normal((draws, *data.shape))
    drawn = conditional.drawn(own, rng.standard_normal((draws, len(data), factors)))
    for i, (v, x) in enumerate(zip(some.variance, data, strict=True)):
        prior = v * some.covariance()
        total = prior + np.eye(len(x))
        likelihood -= (np.linalg.slogdet(total)[1] + x @ np.linalg.solve(total, x)) / 2
        assert mean[i] == pytest.approx(prior @ np.linalg.solve(total, x))
        left = prior - prior @ np.linalg.solve(total, prior)
        assert conditional.variance()[i] == pytest.approx(left.diagonal())
        assert np.cov(drawn[:, i].T) == pytest.approx(left, abs=0.02)
    assert some.posterior(data).likelihood == pytest.approx(likelihood)


def test_a_step_never_loses_what_is_maximized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "_OWN_WEIGHT", 0.0)  # priors are no part of the likelihood
    monkeypatch.setattr(effects, "_SHARED_WEIGHT", 0.0)
    some, data = made(rows=30, factors=3)
    known = np.array([some.slope, some.slope * np.linspace(-1, 1, 6)])
    some = Effects(
        some.rotation, some.variance, some.slope, 1.0, np.vstack([known, some.loadings[2:]])
    )
    before = some.posterior(3 * data).likelihood
    for _ in range(20):
        some = effects._step(some, some.posterior(3 * data), 3 * data, known)
        after = some.posterior(3 * data).likelihood
        assert after >= before - 1e-9
        before = after


def test_a_step_is_that_of_dense_algebra() -> None:
    some, data = made(rows=7, factors=2)
    known = np.array([1.5 * some.loadings[0]])
    moments, own, scores = [], [], []
    for v, x in zip(some.variance, data, strict=True):
        # The unknowns of a row: a score for each factor and an own part for each class.
        parts = np.vstack([some.loadings, np.diag(some.slope)])  # what each adds to the data
        prior = v * np.diag([1.0, 1.0, *[some.own] * 6])
        gain = prior @ parts @ np.linalg.inv(parts.T @ prior @ parts + np.eye(6))
        mean, left = gain @ x, prior - gain @ parts.T @ prior
        second = left + np.outer(mean, mean)
        moments.append(second[:2, :2] / v)
        own.append(second.diagonal()[2:] / v)
        scores.append((mean, second))
    found = effects._step(some, some.posterior(data), data, known)
    # A known direction keeps its form; half a row of the prior has the variance of own parts.
    variance = (sum(float(o.sum()) for o in own) + 5 * 0.5) / (7 * 6 + 5)
    assert found.own == pytest.approx(variance)
    ratio = (known[0] @ known[0]) / (some.loadings[0] @ some.loadings[0])
    size = (sum(m[0, 0] for m in moments) + 0.5 * variance * ratio) / (7 + 0.5)
    assert found.loadings[0] == pytest.approx(np.sqrt(size) * some.loadings[0])
    # An unknown direction is a weighted least-squares fit, with the own parts among the noise.
    for k in range(6):
        diagonal = 1 + some.variance * some.own * some.slope[k] ** 2
        firsts = [m[1] * x[k] for (m, _), x in zip(scores, data, strict=True)]
        crossed = [s[1, 0] * some.loadings[0, k] for _, s in scores]
        squares = [s[1, 1] for _, s in scores]
        integrated = sum(
            (f - c) / d for f, c, d in zip(firsts, crossed, diagonal, strict=True)
        ) / sum(s / d for s, d in zip(squares, diagonal, strict=True))
        assert found.loadings[1, k] == pytest.approx(integrated)


@pytest.mark.parametrize(
    ("rows", "classes", "factors"), [(20, 8, 4), (3, 8, 2), (20, 3, 2), (1, 8, 0), (20, 1, 0)]
)
def test_as_many_directions_as_the_data_allow(
    rows: int, classes: int, factors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "_PENALTY", -1e6)  # each direction is worth it
    some, data = made(rows, classes, factors=1)
    start = Effects(some.rotation, some.variance, some.slope, 0.4, some.loadings)
    _, found = effects._with_best_factors(start, data, some.loadings)
    assert len(found.loadings) == 1 + factors


@pytest.mark.parametrize(
    ("likelihoods", "factors"),
    [([0, 5.2, 99], 0), ([0, 5.3, 10.5], 1), ([0, 5.3, 10.6, 15.7], 2), ([0, 6, 12, 18, 24], 4)],
)
def test_a_direction_costs_a_third_of_the_log_of_rows_for_each_class(
    likelihoods: list[float], factors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, data = made(rows=20, classes=5, factors=1)  # 0.35 * 5 * log(20) = 5.243
    monkeypatch.setattr(
        effects, "_maximize", lambda e, *_: (e, float(likelihoods[len(e.loadings) - 1]))
    )
    value, found = effects._with_best_factors(some, data, some.loadings)
    assert len(found.loadings) == 1 + factors
    assert value == pytest.approx(likelihoods[factors] - 0.35 * (5 * factors + 1) * np.log(20))


@pytest.mark.parametrize(("gained", "known"), [(1.0, 1), (1.1, 2)])
def test_a_second_known_direction_costs_one_parameter(
    gained: float, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, data = made(rows=20, classes=5, factors=2)  # 0.35 * log(20) = 1.049
    monkeypatch.setattr(effects, "_FACTORS", 0)
    monkeypatch.setattr(
        effects, "_maximize", lambda e, *_: (e, gained * float(len(e.loadings) == 2))
    )
    found = effects._with_best_directions(some, data, some.loadings)
    assert (len(found.loadings), found.known) == (known, known)


def test_candidate_kernels_have_each_share_and_length_once() -> None:
    assert sorted(effects._KERNELS) == [
        *[(share, length) for share in (0.05, 0.2, 0.5) for length in (0.5, 1.0, 2.0, 4.0)],
        (1.0, 0.5),  # independent combinations: the length has no effect
    ]


def test_the_covariance_of_classes_is_found() -> None:
    rng = np.random.default_rng(1)
    slope = np.array([1.0, 2.0, 1.5, 0.5, 1.0])
    factor = np.array([1.0, -1.0, 0.5, 0.0, 1.0])
    truth = 4 * np.diag(slope**2) + 9 * np.outer(factor * slope, factor * slope)
    variance = rng.uniform(0.5, 2, 4000)
    data = rng.multivariate_normal(np.zeros(5), truth, 4000) * np.sqrt(variance)[:, None]
    data += rng.standard_normal(data.shape)
    start = Effects(np.zeros((1, 4000)), variance, slope, 1.0, np.zeros((0, 5)))
    none, alone = effects._maximize(start, data, np.zeros((0, 5)), 300)
    found, likelihood = effects._maximize(
        effects._with_another(none, data), data, np.zeros((0, 5)), 300
    )
    assert likelihood > alone + 1000
    assert found.covariance() == pytest.approx(truth, rel=0.1, abs=0.8)


def test_an_effect_common_to_all_classes_is_estimated_from_all_of_them() -> None:
    """A shift of the whole combination, far below the noise of a class, is not shrunk away."""
    rng = np.random.default_rng(2)
    combinations, classes = 12, 400
    shift = np.linspace(-0.5, 0.5, combinations)[:, None]
    slope = np.ones(classes)
    white = shift + rng.standard_normal((combinations, classes))
    white -= white.mean(axis=0)
    places = np.column_stack([np.arange(combinations), *[np.zeros(combinations)] * 4])
    found = fit_effects(white, np.ones(combinations), places, slope, np.zeros(classes))
    mean = found.rotation @ found.mean(found.rotation.T @ white)
    assert mean.mean(axis=1) == pytest.approx(white.mean(axis=1), abs=0.05)
    assert mean.std(axis=1).max() < 0.3  # from classes alone it would be noise of 1


def simulated(harder: float, seed: int) -> tuple[np.ndarray, np.ndarray, Effects]:
    """Return slopes, hardness and the fit of 60 unlike combinations on 8 classes.

    Effects have a standard deviation of 0.1 on the logit scale for each class by itself and for
    all together, and ``harder`` times the hardness; noise has about 0.3.
    """
    rng = np.random.default_rng(seed)
    combinations, slope = 60, np.linspace(2.5, 4, 8)
    hardness = np.linspace(-1.6, 1.6, 8)
    logits = 0.1 * rng.standard_normal((combinations, 8))
    logits += 0.1 * rng.standard_normal((combinations, 1))
    logits += harder * rng.standard_normal((combinations, 1)) * hardness
    white = logits * slope + rng.standard_normal((combinations, 8))
    white -= white.mean(axis=0)
    places = 10.0 * rng.standard_normal((combinations, 5))
    return slope, hardness, fit_effects(white, np.ones(combinations), places, slope, hardness)


def aligned(slope: np.ndarray, hardness: np.ndarray, found: Effects) -> bool:
    """Return whether a loading is the direction of the hard classes."""
    direction = slope * hardness / np.linalg.norm(slope * hardness)
    sizes = np.linalg.norm(found.loadings, axis=1)
    return bool((np.abs(found.loadings @ direction) > 0.999 * sizes).any())


def test_hard_classes_move_more_only_if_the_data_show_it() -> None:
    """Otherwise their effects, and so those of the worst class, would be shrunk too little."""
    without = [simulated(0.0, seed) for seed in range(8)]
    assert sum(aligned(*each) for each in without) <= 1
    assert all(aligned(*simulated(0.4, seed)) for seed in range(4))


def test_the_prior_does_not_add_to_what_all_classes_have_in_common() -> None:
    """A fit of many combinations has the variance of the data."""
    variances = []
    for seed in range(8):
        slope, _, found = simulated(0.0, seed)
        variances.append(found.variance.mean() * (found.loadings[0] / slope)[0] ** 2)
    assert np.mean(variances) == pytest.approx(0.01, abs=0.004)
