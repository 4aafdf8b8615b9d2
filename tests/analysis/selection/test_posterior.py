"""The posterior against dense float64 algebra, and the fit in simulated worlds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.runs.combinations import Combinations, combine
from analysis.selection import posterior
from analysis.selection.effects import Effects
from analysis.selection.posterior import Posterior, fit
from analysis.selection.responses import responses
from tests.analysis import worlds


def counted(
    correct: np.ndarray, total: int, seeds: list[int] | None = None
) -> tuple[Combinations, np.ndarray]:
    """Counts ``(combinations, seeds, classes)`` along alpha_s, and their working responses."""
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
    images = np.full(correct.shape[2], total)
    return c, responses(c.class_correct, images, c.start, c.seeds).values


def test_the_posterior_is_that_of_dense_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    seeds, classes = [3, 1, 2, 3], 3
    c, y = counted(rng.binomial(40, 0.7, (4, 3, classes)), 40, seeds)
    a = rng.standard_normal((4, 4))
    like, noise = a @ a.T + np.eye(4), np.array([0.003, 0.005, 0.008])
    slope, loadings = np.array([1.0, 0.5, 2.0]), rng.standard_normal((2, classes))
    scale = np.sqrt(noise)
    effects = (0.3 * np.diag(slope**2) + loadings.T @ loadings) * np.outer(scale, scale)
    zero = np.zeros(classes)
    monkeypatch.setattr(posterior, "_noise", lambda *_: (noise, zero, zero))
    monkeypatch.setattr(posterior, "_calibrated", lambda found, _: found.mean)

    def given(white: np.ndarray, root: np.ndarray, *_: object) -> Effects:
        unit = root / np.sqrt(root @ root)
        project = np.eye(4) - np.outer(unit, unit)
        values, vectors = np.linalg.eigh(project @ (like * np.outer(root, root)) @ project)
        return Effects(vectors[:, 1:], values[1:], slope, 0.3, loadings)

    monkeypatch.setattr(posterior, "fit_effects", given)
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
    rows, (spread, columns) = found.rows, found.modes()
    dense = np.zeros((n, n))
    for i in range(4):
        for k in range(classes):
            for j in range(4):
                for m in range(classes):
                    parts = np.einsum(
                        "a,b,a,b,ab->", rows[i], columns[k], rows[j], columns[m], spread**2
                    )
                    level = found.level[k] ** 2 if k == m else 0.0
                    dense[i * classes + k, j * classes + m] = parts + level
    assert dense == pytest.approx(covariance, abs=1e-7)
    expected = (1 - np.cos(2 * found.mean) * np.exp(-2 * covariance.diagonal().reshape(4, 3))) / 2
    assert found.recalls() == pytest.approx(expected, abs=1e-7)

    # draws have that mean and covariance, by their order on the arcsine scale
    monkeypatch.setattr(Posterior, "seen", lambda self, y, half, worst_k: y)
    (draws,) = (np.concatenate(list(found.many(20_000, 1))),)  # type: ignore[arg-type]
    assert draws.mean(axis=0) == pytest.approx(found.mean, abs=0.003)
    assert np.cov(draws.reshape(len(draws), n).T) == pytest.approx(covariance, abs=3e-4)


def test_levels_of_four_classes_or_more_are_drawn_towards_their_mean() -> None:
    counted, variance = np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.1, 0.1, 0.1, 0.1])
    level, left = posterior._levels(counted, variance)
    # variance over classes 2 / 3, of which 0.1 is noise; (4 - 3) / (4 - 1) of 0.1 / (2 / 3)
    drawn = 1 / 3 * 0.1 / (2 / 3)
    assert level == pytest.approx([drawn, 1, 1, 2 - drawn])
    assert left == pytest.approx((1 - drawn) * variance)
    level, left = posterior._levels(counted[:3], variance[:3])
    assert level.tolist() == [0, 1, 1]
    assert left.tolist() == [0.1, 0.1, 0.1]


def test_noise_is_split_into_what_runs_share_and_what_seeds_do() -> None:
    """Two combinations of two seeds, by hand; one class with images of variance 0.02."""
    rows = [
        worlds.student(f"{i}-{s}", student=float(i), seed=s, val_class_correct=[3],
                       val_class_total=[10])
        for i in range(2) for s in range(2)
    ]  # fmt: skip
    c = combine(worlds.table(rows))
    y = np.array([[0.5], [0.7], [0.4], [0.5]])
    # within: -0.1, 0.1, -0.05, 0.05; the seeds' part: -0.075, 0.075; the rest: 0.025 each
    # free = 2 - 1; squares of the rest over it: 4 * 0.025^2 = 0.0025, in units of images 0.125
    # (1 * 0.125 + 10 * 0.125) / 11 = 0.125
    # by seed: 2 * 0.075^2 / 1 / 0.02 = 0.5625, less 0.125 / 2 combinations = 0.5
    noise, common, seed = posterior._noise(c, y, np.array([0.02]))
    assert noise == pytest.approx([0.125 * 0.02])
    # common to all: the rest of the images' noise, and the seeds' part over 2 seeds
    assert common == pytest.approx([(1 - 0.125) * 0.02 + 0.5 * 0.02 / 2])
    assert seed == pytest.approx([np.sqrt(0.5 * 0.02)])


def test_noise_beyond_that_of_images_is_of_seeds() -> None:
    rows = [
        worlds.student(f"{i}-{s}", student=float(i), seed=s, val_class_correct=[3],
                       val_class_total=[10])
        for i in range(2) for s in range(2)
    ]  # fmt: skip
    y = np.array([[0.1], [0.9], [0.9], [0.1]])
    # within: -0.4, 0.4, 0.4, -0.4: seeds do nothing to both; squares 0.64 over 1, by 0.02: 32
    noise, common, seed = posterior._noise(combine(worlds.table(rows)), y, np.array([0.02]))
    assert noise == pytest.approx([0.64])
    assert common == pytest.approx([0.0])
    assert seed == pytest.approx([np.sqrt((32 - 1) * 0.02)])


def test_means_over_seeds_are_means() -> None:
    c, _ = counted(np.full((6, 3, 4), 40), 50)
    found = fit(c)
    assert found is not None
    assert found.recalls() == pytest.approx(np.full((6, 4), 0.8), abs=0.002)


def test_a_drawn_worst_k_accuracy_is_a_mean_over_seeds_and_their_opposites() -> None:
    rng = np.random.default_rng(7)
    found = fit(counted(rng.binomial(50, 0.8, (6, 3, 4)), 50)[0])
    assert found is not None
    deviation = np.array([0.1, 0.2, 0.05, 0.1])
    found = replace(found, seed=deviation)
    y, half = rng.uniform(0.7, 1.5, (2, 6, 4)), 0.2 * rng.standard_normal((2, 3, 4))
    draw = found.seen(y, half, 2)
    for d in range(2):
        for i in range(6):
            total = 0.0
            for sign in (1, -1):
                for seed in half[d]:
                    pairs = zip(y[d, i], seed, strict=True)
                    recalls = sorted(math.sin(a + sign * b) ** 2 for a, b in pairs)
                    total += (recalls[0] + recalls[1]) / 2
            assert draw.worst_k[d, i] == pytest.approx(total / 6)
            for k in range(4):  # mean of sin^2 over normal seeds, by a dense sum
                grid = np.linspace(-6, 6, 4001)
                weight = np.exp(-(grid**2) / 2)
                mean = (np.sin(y[d, i, k] + deviation[k] * grid) ** 2 * weight).sum() / weight.sum()
                assert draw.recalls[d, i, k] == pytest.approx(mean, abs=1e-6)


def test_one_seed_leaves_shared_image_noise_unknown() -> None:
    correct = np.random.default_rng(3).binomial(50, 0.8, (8, 3, 4))
    one, several = fit(counted(correct[:, :1], 50)[0]), fit(counted(correct, 50)[0])
    assert one is not None
    assert several is not None
    assert not several.untold.any()
    assert one.untold == pytest.approx(np.full(4, np.sqrt(posterior._UNTOLD / (4 * 50))), rel=0.05)
    described, wide = (
        np.concatenate([many.average(np.full(4, 0.25)) for many in one.many(500, 1, untold)])
        for untold in (False, True)
    )
    assert wide.std(axis=0).min() > 1.05 * described.std(axis=0).max() > 0


def test_agreeing_seeds_imply_shared_image_noise() -> None:
    rng = np.random.default_rng(2)
    once = rng.binomial(50, 0.8, (12, 1, 3))
    same, _ = counted(np.repeat(once, 3, axis=1), 50)
    found = fit(same)
    assert found is not None
    assert found.shared == pytest.approx(0.99)
    assert found.level == pytest.approx(np.full(3, 1 / np.sqrt(4 * 50)), rel=0.01)
    apart = fit(counted(rng.binomial(50, 0.8, (60, 3, 6)), 50)[0])
    assert apart is not None
    assert apart.shared < 0.15
    assert (apart.level < 0.4 / np.sqrt(4 * 50 + 2)).all()


def test_one_seed_gives_no_variance_over_seeds() -> None:
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
