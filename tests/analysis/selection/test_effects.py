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
