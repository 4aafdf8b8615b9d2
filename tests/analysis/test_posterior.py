"""The closed forms against dense float64 algebra, and the fit in worlds that it should know."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import posterior
from analysis.combinations import Combinations, combine
from analysis.posterior import fit
from tests.analysis import worlds


def counted(
    correct: np.ndarray, total: int, seeds: list[int] | None = None
) -> tuple[Combinations, np.ndarray]:
    """Counts ``(combinations, seeds, classes)`` along alpha_s; each with its number of seeds."""
    seeds = seeds or [correct.shape[1]] * len(correct)
    rows = [
        worlds.student(
            f"{i}-{s}",
            student=i / len(correct),
            seed=s,
            val_class_correct=correct[i, s].tolist(),
            val_class_total=[total] * correct.shape[2],
        )
        for i in range(len(correct))
        for s in range(seeds[i])
    ]
    c = combine(worlds.table(rows))
    return c, np.arcsin(np.sqrt((c.class_correct + 3 / 8) / (total + 3 / 4)))


def test_the_posterior_is_that_of_dense_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    seeds, classes = [3, 1, 2, 3], 3
    c, y = counted(rng.binomial(40, 0.7, (4, 3, classes)), 40, seeds)
    a, b = rng.standard_normal((4, 4)), rng.standard_normal((classes, classes))
    like, effects = a @ a.T + np.eye(4), 0.01 * (b @ b.T + np.eye(classes))
    noise = np.array([0.003, 0.005, 0.008])
    zero = np.zeros(classes)
    monkeypatch.setattr(posterior, "_noise", lambda *_: (noise, zero, zero))

    def given(white: np.ndarray, root: np.ndarray, *_: object) -> tuple[np.ndarray, ...]:
        unit = root / np.sqrt(root @ root)
        project = np.eye(4) - np.outer(unit, unit)
        values, vectors = np.linalg.eigh(project @ (like * np.outer(root, root)) @ project)
        scale = np.sqrt(noise)
        return vectors[:, 1:], values[1:], effects / np.outer(scale, scale)

    monkeypatch.setattr(posterior, "_fit_effects", given)
    found = fit(c)
    assert found is not None

    # y = level (flat prior) + effect, one number for each combination and class
    n = 4 * classes
    prior, error, mean = np.zeros((n, n)), np.zeros((n, n)), np.zeros(n)
    for i in range(4):
        runs = y[c.runs(i)]
        for k in range(classes):
            place = i * classes + k
            mean[place] = sum(float(run[k]) for run in runs) / len(runs)
            error[place, place] = noise[k] / len(runs)
            for j in range(4):
                for m in range(classes):
                    flat = 1e3 if m == k else 0.0
                    prior[place, j * classes + m] = like[i, j] * effects[k, m] + flat
    gain = prior @ np.linalg.inv(prior + error)
    assert found.mean.ravel() == pytest.approx(gain @ mean, abs=1e-5)
    covariance = np.linalg.inv(np.linalg.inv(prior) + np.linalg.inv(error))
    rows, columns = found.rows, found.columns
    dense = np.zeros((n, n))
    for i in range(4):
        for k in range(classes):
            for j in range(4):
                for m in range(classes):
                    parts = np.einsum(
                        "a,b,a,b,ab->", rows[i], columns[k], rows[j], columns[m], found.spread**2
                    )
                    level = found.level[k] ** 2 if k == m else 0.0
                    dense[i * classes + k, j * classes + m] = parts + level
    assert dense == pytest.approx(covariance, abs=1e-7)


def test_the_covariance_of_classes_is_found() -> None:
    rng = np.random.default_rng(1)
    slope = np.array([1.0, 2.0, 1.5, 0.5, 1.0])
    factor = np.array([1.0, -1.0, 0.5, 0.0, 1.0])
    truth = (4 * np.eye(5) + 9 * np.outer(factor, factor)) * np.outer(slope, slope)
    variance = rng.uniform(0.5, 2, 4000)
    rows = rng.multivariate_normal(np.zeros(5), truth, 4000) * np.sqrt(variance)[:, None]
    rows += rng.standard_normal(rows.shape)
    start = np.diag(slope**2)
    found, likelihood = posterior._class_covariance(rows, variance, slope, 1, 300, start)
    assert found == pytest.approx(truth, rel=0.1, abs=0.8)
    _, early = posterior._class_covariance(rows, variance, slope, 1, 2, start)
    assert likelihood > early


def test_seeds_that_agree_say_that_runs_share_the_luck_of_their_images() -> None:
    rng = np.random.default_rng(2)
    once = rng.binomial(50, 0.8, (12, 1, 6))
    same, _ = counted(np.repeat(once, 3, axis=1), 50)
    found = fit(same)
    assert found is not None
    assert found.shared == pytest.approx(0.99)
    assert found.level == pytest.approx(np.full(6, 1 / np.sqrt(4 * 50 + 2)), rel=0.01)
    apart = fit(counted(rng.binomial(50, 0.8, (60, 3, 6)), 50)[0])
    assert apart is not None
    assert apart.shared < 0.15
    assert (apart.level < 0.4 / np.sqrt(4 * 50 + 2)).all()


def test_one_seed_says_nothing_of_seeds() -> None:
    found = fit(counted(np.random.default_rng(3).binomial(50, 0.8, (8, 1, 4)), 50)[0])
    assert found is not None
    assert np.isnan(found.shared)
    assert not found.seed.any()


def test_where_all_are_alike_all_are_the_mean() -> None:
    rng = np.random.default_rng(4)
    c, y = counted(rng.binomial(100, 0.8, (60, 1, 5)), 100)
    found = fit(c)
    assert found is not None
    assert found.mean.std(axis=0).max() < 0.4 * y.std(axis=0).min()
    far = counted(np.stack([np.full((1, 5), 30 + 10 * (i % 2)) for i in range(20)]), 1000)
    kept = fit(far[0])
    assert kept is not None
    assert kept.mean == pytest.approx(far[1], abs=0.02)


@pytest.mark.parametrize("combinations", [1, 2, 3])
def test_few_combinations_are_no_error(combinations: int) -> None:
    correct = np.random.default_rng(5).binomial(20, 0.7, (combinations, 1, 3))
    found = fit(counted(correct, 20)[0])
    assert found is not None
    (draw,) = found.draws(1, 2)
    assert draw.recalls.shape == (combinations, 3)
    assert np.isfinite(draw.worst_k).all()


def test_a_class_without_images_and_runs_with_other_images() -> None:
    rows = [
        worlds.student(str(i), student=s, val_class_total=total, val_class_correct=[3, 2, 0])
        for i, (s, total) in enumerate((("standard", [4, 4, 0]), (0.5, [4, 4, 0])))
    ]
    found = fit(combine(worlds.table(rows)))
    assert found is not None
    (draw,) = found.draws(1, 1)
    assert np.isnan(draw.recalls[:, 2]).all()
    assert draw.worst_k == pytest.approx(np.nanmin(draw.recalls, axis=1))
    rows[1]["val_class_total"] = [4, 5, 0]
    assert fit(combine(worlds.table(rows))) is None


def test_draws_do_not_depend_on_how_many_are_made_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = fit(counted(np.random.default_rng(6).binomial(50, 0.8, (8, 3, 4)), 50)[0])
    assert found is not None
    together = list(found.draws(7, 2))
    monkeypatch.setattr(posterior, "_TOGETHER", 3 * 8 * 8 * 4)
    in_threes = list(found.draws(7, 2))
    assert len(together) == len(in_threes) == 7
    for one, other in zip(together, in_threes, strict=True):
        assert one.recalls == pytest.approx(other.recalls, rel=1e-12)
        assert one.worst_k == pytest.approx(other.worst_k, rel=1e-12)


def test_draws_are_the_same_each_time_and_worst_k_is_theirs() -> None:
    found = fit(counted(np.random.default_rng(6).binomial(50, 0.8, (8, 1, 4)), 50)[0])
    assert found is not None
    first, second = (list(found.draws(3, 2)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.recalls == other.recalls).all()
        by_hand = [sum(sorted(row)[:2]) / 2 for row in one.recalls.tolist()]
        assert one.worst_k == pytest.approx(by_hand)
    assert (first[0].recalls != first[1].recalls).any()
