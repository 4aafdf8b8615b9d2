"""Joint noise from predictions, against loops in plain float64 and a case worked by hand."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from analysis.runs.combinations import Combinations, combine
from analysis.runs.outcomes import Outcomes
from analysis.selection import pairing as pairing_module
from analysis.selection.pairing import pairing
from analysis.selection.posterior import Draw, Posterior, fit
from analysis.selection.responses import responses
from analysis.selection.shift_levels import ShiftLevels, fit_levels
from analysis.selection.uncertainty import choose, decide
from tests.analysis import worlds


def students(correct: np.ndarray, images: list[int], seeds: int = 1) -> Combinations:
    """Return students ``(runs, images)`` along alpha_s, the first one standard, and outcomes."""
    begun = np.cumsum(images) - images
    counts: np.ndarray = np.add.reduceat(correct, begun, axis=1, dtype=np.int64)
    number = len(correct) // seeds
    rows = [
        worlds.student(
            f"{i}-{s}",
            student=i / number if i else "standard",
            seed=s,
            val_class_correct=counts[i * seeds + s].tolist(),
            val_class_total=images,
        )
        for i in range(number)
        for s in range(seeds)
    ]
    c = combine(worlds.table(rows))
    place = {row["run_id"]: number for number, row in enumerate(rows)}
    order = np.array([place[run_id] for run_id in c.run_id.to_pylist()])
    bit = np.zeros(len(order), dtype=np.int64)
    return replace(c, outcomes=Outcomes(correct.astype(np.uint8), np.array(images), order, bit))


def alike(rng: np.random.Generator, runs: int, images: list[int], share: float) -> np.ndarray:
    """Return the correctness of runs that agree on this share of the images."""
    total = sum(images)
    easy, own = rng.random(total) < 0.8, rng.random((runs, total)) < 0.8
    return np.where(rng.random((runs, total)) < share, easy, own)


def test_a_case_worked_by_hand() -> None:
    """Two students, one class of four images: right on 1 and 2, and right on 2 and 3."""
    c = students(np.array([[1, 1, 0, 0], [0, 1, 1, 0]]), [4])
    found = pairing(c)
    assert found is not None
    # Both have 2 of 4, so the accuracy changes by sin(2 * pi / 4) = 1 per unit: z = +-0.5, whose
    # squares sum to 1 for each student, and weigh 1. Their mean is (0, 0.5, 0, -0.5), with squares
    # of 0.5 in common; the rests are (0.5, 0, -0.5, 0) and its opposite, with 0.5 each.
    assert found.noise == pytest.approx([0.5 / 16], rel=1e-6)
    assert found.common == pytest.approx([0.5 / 16], rel=1e-6)
    # The covariance of z over the images is known with weight 1 of 1 + 4; the target has the same
    # shares, and its parts are independent.
    covariance = np.cov(found.draws(np.random.default_rng(0), 200_000)[:, :, 0].T)
    of_images = np.array([[1, 0], [0, 1]]) / 16
    target = np.array([[1, 0.5], [0.5, 1]]) / 16
    assert covariance == pytest.approx(0.2 * of_images + 0.8 * target, abs=5e-4)
    assert np.isnan(found.alike)
    assert not found.seed.any()


def test_noise_is_that_of_loops_in_float64() -> None:
    images = [30, 12, 50]
    c = students(alike(np.random.default_rng(1), 5, images, 0.6), images)
    found = pairing(c)
    assert found is not None
    assert c.outcomes is not None
    steep = responses(c.class_correct, np.array(images), c.start, c.seeds).steep
    correct = c.outcomes.correct().astype(float)
    total, rest, common, weight = [], [], [], []
    cross = []
    begun = 0
    for k, number in enumerate(images):
        z = np.zeros((5, number))
        for i in range(5):
            mean = statistics.fmean(correct[i, begun : begun + number])
            z[i] = [(x - mean) / steep[i, k] for x in correct[i, begun : begun + number]]
        shared = z.mean(axis=0)
        total.append((z**2).sum() / 5)
        rest.append(((z - shared) ** 2).sum() / 5 / total[-1])
        common.append((shared**2).sum() / total[-1])
        weight.append(total[-1] * (steep[:, k] ** 2).mean())
        cross.append(z @ z.T / total[-1])
        begun += number

    def shrunk(shares: list[float]) -> list[float]:
        mean = sum(w * x for w, x in zip(weight, shares, strict=True)) / sum(weight)
        return [(w * x + 4 * mean) / (w + 4) for w, x in zip(weight, shares, strict=True)]

    noise = responses(c.class_correct, np.array(images), c.start, c.seeds).noise
    assert found.noise == pytest.approx(np.array(shrunk(rest)) * noise, rel=1e-5)
    assert found.common == pytest.approx(np.array(shrunk(common)) * noise, rel=1e-5)
    draws = found.draws(np.random.default_rng(0), 100_000)
    mean_rest, mean_common = (
        sum(w * x for w, x in zip(weight, shares, strict=True)) / sum(weight)
        for shares in (rest, common)
    )
    for k in range(3):
        certain = weight[k] / (weight[k] + 4)
        target = mean_common * np.ones((5, 5)) + mean_rest * np.eye(5)
        expected = (certain * cross[k] + (1 - certain) * target) * noise[k]
        assert np.cov(draws[:, :, k].T) == pytest.approx(expected, abs=0.04 * noise[k])


def test_seeds_beyond_their_images_are_randomness_of_trainings() -> None:
    """Three seeds whose accuracies differ by more than their images explain, and three alike."""
    rng, images = np.random.default_rng(3), [400, 400]
    level = np.repeat(rng.uniform(0.6, 0.95, (24, 2)), 400, axis=1)
    apart = pairing(students(rng.random((24, 800)) < level, images, seeds=3))
    same = pairing(students(rng.random((24, 800)) < 0.8, images, seeds=3))
    assert apart is not None
    assert same is not None
    spread = np.std([np.arcsin(np.sqrt(x)) for x in rng.uniform(0.6, 0.95, 10_000)])
    assert apart.seed == pytest.approx([spread] * 2, rel=0.35)
    assert same.seed.max() < 0.35 * spread
    assert same.alike < 0.1
    agree = alike(rng, 8, images, 0.5)
    copies = pairing(students(np.repeat(agree, 3, axis=0), images, seeds=3))
    assert copies is not None
    assert copies.alike == pytest.approx(1)
    assert copies.seed == pytest.approx(0, abs=1e-8)


def test_randomness_of_trainings_is_that_of_loops() -> None:
    rng, images = np.random.default_rng(12), [40, 25]
    c = students(rng.random((12, 65)) < np.repeat(rng.uniform(0.5, 0.9, (12, 1)), 65, 1), images, 3)
    counts = responses(c.class_correct, np.array(images), c.start, c.seeds)
    spread = pairing_module.WithinSpread(
        own=np.array([3.0, 4.5]), together=np.array([0.6, 0.3]), free=6, seeds=3, runs=4.0
    )
    found = pairing_module._luck(c, counts, spread)
    # Four combinations of three seeds: deviations from their means, and of those the seeds' part.
    y = np.array(counts.values).reshape(4, 3, 2)
    noise, own, together = counts.noise, [], []
    for k in range(2):
        within = [[y[i, s, k] - statistics.fmean(y[i, :, k]) for s in range(3)] for i in range(4)]
        seed = [statistics.fmean(within[i][s] for i in range(4)) for s in range(3)]
        rest = sum((within[i][s] - seed[s]) ** 2 for i in range(4) for s in range(3))
        own.append(rest / 6 / noise[k])  # (3 - 1) (4 - 1) degrees of freedom
        together.append(sum(x**2 for x in seed) / 2 / noise[k])
    own = [(6 * x + 10 * statistics.fmean(own)) / 16 for x in own]
    expected = [3.0 / 6, 4.5 / 6]
    beyond = [x - e for x, e in zip(own, expected, strict=True)]
    part = max(sum(beyond), 0) / sum(max(x, 0) for x in beyond)
    assert found.own == pytest.approx([max(x, 0) * part for x in beyond])
    of_seeds = [
        t - x / 4 - (i / 2 - e / 4)
        for t, x, i, e in zip(together, own, (0.6, 0.3), expected, strict=True)
    ]
    assert found.together == pytest.approx(max(statistics.fmean(of_seeds), 0.0))
    assert found.seeds == 3
    assert found.alike == pytest.approx(1 - statistics.fmean(expected))


def test_seeds_of_paired_draws_have_the_deviation_of_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, images = np.random.default_rng(13), [40] * 3
    found = fit(students(alike(rng, 6, images, 0.5), images))
    assert found is not None
    found = replace(found, seed=np.array([0.1, 0.2, 0.4]))
    halves = []

    def keep(self: Posterior, y: np.ndarray, half: np.ndarray, worst_k: int) -> Draw:
        halves.append(half)
        return Draw(y, y[..., 0])

    monkeypatch.setattr(Posterior, "seen", keep)
    list(found.many(3000, 1, blocks=[slice(0, 3000)]))
    assert halves[0].shape == (3000, 4, 3)  # and the four opposite ones
    assert halves[0].std(axis=(0, 1)) == pytest.approx([0.1, 0.2, 0.4], rel=0.05)


def test_runs_that_err_on_the_same_images_differ_more_certainly() -> None:
    rng, images = np.random.default_rng(4), [100] * 4
    c = students(alike(rng, 12, images, 0.9), images)
    _, paired, _ = decide(c)
    _, counted, _ = decide(replace(c, outcomes=None))
    assert paired is not None
    assert counted is not None
    width = [np.diff(each.worst_k_gain, axis=0)[0, 1:].mean() for each in (paired, counted)]
    assert width[0] < 0.7 * width[1]
    width = [np.diff(each.average_gain, axis=0)[0, 1:].mean() for each in (paired, counted)]
    assert width[0] < 0.5 * width[1]


def test_errors_are_those_of_the_linear_estimate() -> None:
    """Compare with the estimate itself, computed from data with the drawn effects and noise."""
    rng, images = np.random.default_rng(5), [60] * 3
    found = fit(students(alike(rng, 6, images, 0.5), images))
    assert found is not None
    e = found.effects
    effects = rng.standard_normal((4, len(e.variance), 3))
    noise = rng.standard_normal(effects.shape)
    for d in range(4):
        estimate = e.mean(effects[d] + noise[d])
        assert e.errors(effects, noise)[d] == pytest.approx(estimate - effects[d], abs=1e-9)
    drawn = e.drawn(
        *(rng.standard_normal((20_000, len(e.variance), n)) for n in (3, len(e.loadings)))
    )
    for i, variance in enumerate(e.variance):
        assert np.cov(drawn[:, i].T) == pytest.approx(variance * e.covariance(), rel=0.1, abs=0.05)


def test_independent_images_have_the_posterior_of_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a covariance from images, errors have the covariance of the posterior by counts."""
    monkeypatch.setattr(pairing_module, "_PRIOR", 1e12)  # the target alone
    rng, images = np.random.default_rng(6), [80] * 3
    found = fit(students(rng.random((8, 240)) < 0.8, images))
    assert found is not None
    assert found.paired is not None
    ((noise, normal),) = found.paired.blocks([slice(0, 40_000)])
    errors = found.errors(rng, noise, normal)
    effect = found.rows**2 @ found.effects.conditional().variance() * found.scale**2
    level = found.paired.common + found.paired.noise / 8
    assert errors.var(axis=0) == pytest.approx(effect + level, rel=0.1)


def test_all_correct_and_a_single_image_are_no_error() -> None:
    rng = np.random.default_rng(7)
    correct = rng.random((6, 61)) < 0.8
    correct[:, :40] = True
    c = students(correct, [40, 20, 1])
    _, sure, _ = decide(c)
    assert sure is not None
    assert np.isfinite(sure.worst_k_gain).all()
    everything = students(np.ones((4, 20)), [10, 10])
    assert choose(everything).selected == choose(replace(everything, outcomes=None)).selected


def test_counts_alone_select_as_without_predictions() -> None:
    rng, images = np.random.default_rng(8), [40] * 3
    c = students(alike(rng, 10, images, 0.8), images)
    _, counted, _ = decide(c, estimate="counts")
    _, without, _ = decide(replace(c, outcomes=None))
    assert counted is not None
    assert without is not None
    assert (counted.worst_k_gain == without.worst_k_gain).all()
    assert choose(c, estimate="counts").selected == choose(replace(c, outcomes=None)).selected


def test_a_student_and_its_shift_are_paired() -> None:
    """A shift that changes one image in twenty: its gain is known far better than the accuracy."""
    rng, images = np.random.default_rng(9), [200] * 3
    plain = rng.random((10, 600)) < np.linspace(0.5, 0.9, 10)[:, None]
    moved = plain ^ (rng.random(plain.shape) < 0.05)
    one = students(plain, images)
    two = students(moved, images)
    both = worlds_of_two_levels(one, two)
    found = fit_levels(both)
    assert isinstance(found, ShiftLevels)
    assert found.paired is not None
    draws = found.paired.draws(rng, 5000)
    assert draws.shape == (5000, 20, 3)
    own, shifted = draws[:, :10], draws[:, 10:]
    assert (own - shifted).var(axis=0).mean() < 0.4 * own.var(axis=0).mean()
    average = np.concatenate([many.recalls.mean(axis=2) for many in found.many(400, 1)])
    apart = average[:, 10:] - average[:, :10]
    assert apart.std(axis=0).mean() < 0.8 * average.std(axis=0).mean()


def worlds_of_two_levels(one: Combinations, two: Combinations) -> Combinations:
    """Return worlds of students with and without a shift."""
    assert one.outcomes is not None
    assert two.outcomes is not None
    pairs = {
        name: np.concatenate([getattr(one, name), getattr(two, name)])
        for name in (
            "teacher_objective", "alpha_t", "student_objective", "alpha_s", "temperature",
            "seeds", "seed", "class_total", "class_correct",
        )
    }  # fmt: skip
    texts = {
        name: pa.concat_arrays([getattr(one, name), getattr(two, name)])
        for name in ("variant", "tuned", "network", "run_id", "teacher_id")
    }
    bits = (one.outcomes.bits | two.outcomes.bits << 1).astype(np.uint8)
    outcomes = Outcomes(
        bits,
        one.outcomes.images,
        np.concatenate([one.outcomes.row, two.outcomes.row]),
        np.repeat([0, 1], len(one.seed)),
    )
    return Combinations(
        **pairs,
        **texts,
        shift=np.repeat([np.nan, 0.5], len(one)),
        start=np.arange(2 * len(one)),
        outcomes=outcomes,
    )
