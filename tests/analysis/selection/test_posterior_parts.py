"""Steps of the posterior's fit against loops in plain float64."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from analysis.runs.combinations import Combinations, combine
from analysis.selection import posterior
from analysis.selection.pairing import positive
from analysis.selection.posterior import Draw, fit
from tests.analysis import worlds

SEEDS = {"standard": (0, 1, 2), 0.0: (1, 2), 0.5: (0,), 1.0: (0, 2)}
"""Seeds of each combination: one has a single one, and none but the first has all."""


def uneven(classes: int = 3) -> Combinations:
    rng = np.random.default_rng(5)
    rows = [
        worlds.student(
            f"{alpha}-{seed}",
            student=alpha,
            seed=seed,
            val_class_total=[50] * classes,
            val_class_correct=rng.binomial(50, 0.8, classes).tolist(),
        )
        for alpha, seeds in SEEDS.items()
        for seed in seeds
    ]
    return combine(worlds.table(rows))


@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_noise_of_uneven_seeds_is_that_of_loops(spread: float) -> None:
    c = uneven()
    y = 1.1 + spread * np.random.default_rng(1).standard_normal((8, 3))
    images = np.array([0.005, 0.006, 0.004])
    # Deviations from a combination's mean; of those, what a seed does to all that have several.
    runs = [(i, int(seed)) for i in range(4) for seed in c.seed[c.runs(i)]]
    within, together, number = {}, {}, {}
    for row, (i, _) in enumerate(runs):
        members = [r for r, (j, _) in enumerate(runs) if j == i]
        for k in range(3):
            within[row, k] = y[row, k] - statistics.fmean(y[r, k] for r in members)
    several = [row for row, (i, _) in enumerate(runs) if c.seeds[i] > 1]
    for seed in range(3):
        rows = [row for row in several if runs[row][1] == seed]
        number[seed] = len(rows)
        for k in range(3):
            together[seed, k] = statistics.fmean(within[row, k] for row in rows)
    free = (2 + 1 + 0 + 1) - (3 - 1)
    rest = [
        sum((within[row, k] - together[runs[row][1], k]) ** 2 for row in several) / free / images[k]
        for k in range(3)
    ]
    ratio = [max((free * r + 10 * statistics.fmean(rest)) / (free + 10), 0.01) for r in rest]
    count = statistics.fmean(number.values())
    by_seed = statistics.fmean(
        sum(together[s, k] ** 2 for s in range(3)) / 2 / images[k] - ratio[k] / count
        for k in range(3)
    )
    of_seeds = max(by_seed, 0.0)
    shared = max(1 - statistics.fmean(ratio), 0.0)
    above = [max(r - 1, 0.0) for r in ratio]
    part = max(sum(r - 1 for r in ratio), 0.0) / max(sum(above), 1e-12)

    noise, common, seed = posterior._noise(c, y, images)
    assert noise == pytest.approx([r * n for r, n in zip(ratio, images, strict=True)])
    assert common == pytest.approx([shared * n + of_seeds * n / 3 for n in images])
    expected = [math.sqrt((of_seeds + a * part) * n) for a, n in zip(above, images, strict=True)]
    assert seed == pytest.approx(expected)


def test_levels_of_unequal_variances_are_those_of_loops() -> None:
    counted, variance = [0.4, 1.0, 1.1, 1.3, 0.9], [0.02, 0.01, 0.04, 0.01, 0.03]
    spread = statistics.variance(counted) - statistics.fmean(variance)
    weights = [1 / (spread + v) for v in variance]
    center = sum(w * y for w, y in zip(weights, counted, strict=True)) / sum(weights)
    drawn = [2 / 4 * v / (spread + v) for v in variance]
    level, left = posterior._levels(np.array(counted), np.array(variance))
    pairs = list(zip(counted, drawn, strict=True))
    assert level == pytest.approx([y + d * (center - y) for y, d in pairs])
    assert left == pytest.approx([(1 - d) * v for d, v in zip(drawn, variance, strict=True)])


def test_levels_that_differ_by_noise_alone_go_all_the_way_that_few_classes_allow() -> None:
    level, left = posterior._levels(np.array([1.0, 1.0, 1.0, 1.2]), np.full(4, 0.5))
    assert level == pytest.approx([1 + 0.05 / 3] * 3 + [1.2 - 0.15 / 3])  # (4 - 3) / (4 - 1)
    assert left == pytest.approx([0.5 * 2 / 3] * 4)


def test_hardness_is_the_standardized_logit_and_nothing_where_all_are_alike() -> None:
    accuracies = [0.5, 0.8, 0.9]
    level = np.arcsin(np.sqrt(accuracies))
    logits = [math.log(p / (1 - p)) for p in accuracies]
    deviation = statistics.pstdev(logits)
    expected = [(x - statistics.fmean(logits)) / deviation for x in logits]
    assert posterior._hardness(level) == pytest.approx(expected)
    assert posterior._hardness(np.full(4, 1.1)).tolist() == [0, 0, 0, 0]
    ends = posterior._hardness(np.array([-1.0, 0.0, np.pi / 2, 3.0]))  # kept off 0 and 1
    assert ends == pytest.approx([-1, -1, 1, 1])


def test_positive_parts_add_up_to_what_all_do() -> None:
    assert positive(np.array([0.5, -0.2, 0.1])) == pytest.approx([1 / 3, 0, 1 / 15])
    assert positive(np.array([0.5, -0.6])).tolist() == [0, 0]
    assert positive(np.array([-0.5, -0.6])).tolist() == [0, 0]


def test_places_of_combinations_have_an_axis_for_standard() -> None:
    cells = [
        ("standard", "standard", 1.0),
        ("standard", "robust", 4.0),
        ("balanced", 0.25, 1.0),
        (0.5, 1.0, 0.5),
        (0.5, 1.0, 2.0),
    ]
    c = combine(worlds.table(worlds.student(str(i), *cell) for i, cell in enumerate(cells)))
    assert posterior._settings(c).tolist() == [
        [0, 1, 0, 1, 0],
        [0, 1, 1, 0, 1],
        [0, 0, 0.25, 0, 0],
        [0.5, 0, 1, 0, -0.5],
        [0.5, 0, 1, 0, 0.5],
    ]
    alone = combine(worlds.table([worlds.variant("a", "one_hot", None, teacher_id=None)]))
    assert posterior._settings(alone)[0, 4] == 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_worst_k_of_angles(k: int) -> None:
    y = np.array([[1.2, 0.3, 0.8], [0.5, 1.5, 0.1]])
    expected = [statistics.fmean(sorted(math.sin(a) ** 2 for a in row)[:k]) for row in y.tolist()]
    assert posterior._worst_k(y.copy(), k) == pytest.approx(expected)


def test_angles_outside_are_folded_to_where_the_accuracy_is_the_same() -> None:
    y = np.array([-0.2, 0.0, 0.7, np.pi / 2, 1.7, 2.5])
    folded = posterior._folded(y.copy())
    assert ((folded >= 0) & (folded <= np.pi / 2)).all()
    assert np.sin(folded) ** 2 == pytest.approx(np.sin(y) ** 2)


def test_an_average_weighs_classes_by_their_images() -> None:
    draw = Draw(np.array([[0.5, np.nan, 1.0], [0.2, np.nan, 0.4]]), np.array([0.5, 0.2]))
    assert draw.average(np.array([0.75, 0.0, 0.25])) == pytest.approx([0.625, 0.25])


@pytest.mark.parametrize(("together", "number"), [(1, 3), (10**6, 5), (2 * 8 * 12, 5)])
def test_blocks_hold_each_draw_once(
    together: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posterior, "_TOGETHER", together)
    found = fit(uneven())
    assert found is not None
    blocks = found.blocks(number)
    assert [n for block in blocks for n in range(block.start, block.stop)] == list(range(number))
    most = max(together // (8 * 4 * 3), 1)  # eight seeds of four combinations' three classes
    assert max(block.stop - block.start for block in blocks) == min(most, number)


def test_calibrated_averages_stay_within_the_limit_of_their_counts() -> None:
    """Compare with a root of the same equation found by bisection in plain float64."""
    c = uneven()
    found = fit(c)
    assert found is not None
    moved = np.array([[0.05], [-0.3], [0.2], [0.0]])  # as if other combinations drew them far
    far = posterior.replace(found, mean=found.mean + moved)
    variance = far._variance()

    def average(y: list[float], v: list[float]) -> float:
        return statistics.fmean(
            (1 - math.cos(2 * a) * math.exp(-2 * b)) / 2 for a, b in zip(y, v, strict=True)
        )

    counts, errors = [], []
    for i in range(4):
        runs = c.class_correct[c.runs(i)].tolist()
        counts.append(statistics.fmean(sum(run) / 150 for run in runs))
        errors.append(math.sqrt(counts[i] * (1 - counts[i]) / (150 * len(runs))))
    drawn = [average(far.mean[i].tolist(), variance[i].tolist()) - counts[i] for i in range(4)]
    mean = sum(n * d for n, d in zip(c.seeds.tolist(), drawn, strict=True)) / c.seeds.sum()
    calibrated = posterior._calibrated(far, c)
    bounded = 0
    for i in range(4):
        limit = posterior._LIMIT * errors[i]
        target = counts[i] + min(max(drawn[i] - mean, -limit), limit)
        bounded += abs(drawn[i] - mean) > limit
        assert average(calibrated[i].tolist(), variance[i].tolist()) == pytest.approx(target)
        direction = [max(math.sin(2 * a), 0.05) for a in far.mean[i].tolist()]
        steps = (calibrated[i] - far.mean[i]) / direction
        assert steps == pytest.approx([steps[0]] * 3)  # the same for each class, as logits
    assert bounded  # at least one is held back


def test_slopes_are_derivatives_by_the_logit_and_never_quite_flat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three classes, whose levels are not shrunk: near 0.5, near 0.9, and all but certain."""
    rows = [
        worlds.student(
            f"{alpha}-{seed}",
            student=alpha,
            seed=seed,
            val_class_total=[4000] * 3,
            val_class_correct=[2000 + 40 * seed, 3600 - 20 * seed, 3999],
        )
        for alpha in ("standard", 0.5)
        for seed in (0, 1)
    ]
    c = combine(worlds.table(rows))
    given = {}

    def keep(white, root, settings, slope, hardness, start):  # type: ignore[no-untyped-def]
        given.update(white=white, root=root, slope=slope, hardness=hardness)
        return real(white, root, settings, slope, hardness, start)

    real = posterior.fit_effects
    monkeypatch.setattr(posterior, "fit_effects", keep)
    found = fit(c)
    assert found is not None
    values = posterior.responses(c.class_correct, c.class_total[0], c.start, c.seeds).values
    slopes = []
    for level in values.mean(axis=0).tolist():
        logit, step = math.log(math.sin(level) ** 2 / math.cos(level) ** 2), 1e-4
        low, high = (math.asin(math.sqrt(1 / (1 + math.exp(-(logit + s))))) for s in (-step, step))
        slopes.append((high - low) / (2 * step))
    assert slopes[2] < 0.05 < min(slopes[:2])
    slopes[2] = 0.05
    assert given["slope"] * found.scale == pytest.approx(slopes, rel=1e-6)
    assert given["root"] == pytest.approx([math.sqrt(2)] * 2)
    assert given["hardness"] == pytest.approx(posterior._hardness(values.mean(axis=0)))
    apart = [values[c.runs(i)].mean(axis=0) - values.mean(axis=0) for i in range(2)]
    assert given["white"] == pytest.approx(math.sqrt(2) * np.array(apart) / found.scale)


def test_one_seed_leaves_half_of_the_image_noise_unknown() -> None:
    rows = [
        worlds.student(str(a), student=a, val_class_total=[200] * 2, val_class_correct=[150, 160])
        for a in ("standard", 0.5, 1.0)
    ]
    found = fit(combine(worlds.table(rows)))
    assert found is not None
    assert found.untold == pytest.approx([math.sqrt(0.5 / (4 * 200))] * 2, rel=0.02)


def test_means_over_seeds_are_of_four_seeds_and_their_opposites(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = fit(uneven())
    assert found is not None
    found = posterior.replace(found, seed=np.array([0.1, 0.2, 0.4]))
    shapes, drawn = [], []

    def keep(self, y, half, worst_k):  # type: ignore[no-untyped-def]
        shapes.append((y.shape, half.shape, worst_k))
        drawn.append(half)
        return Draw(y, y[..., 0])

    monkeypatch.setattr(posterior.Posterior, "seen", keep)
    list(found.many(1000, 2))
    assert shapes == [((1000, 4, 3), (1000, 4, 3), 2)]
    assert drawn[0].std(axis=(0, 1)) == pytest.approx([0.1, 0.2, 0.4], rel=0.05)
