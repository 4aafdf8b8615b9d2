"""Estimates of averages over all images stay near their counts for any classes and images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.runs.combinations import Combinations, combine
from analysis.selection.criteria import Constrained
from analysis.selection.posterior import fit
from analysis.selection.uncertainty import choose, decide
from tests.analysis import worlds


def counted(correct: np.ndarray, total: np.ndarray) -> Combinations:
    """Counts ``(combinations, seeds, classes)``; the first is standard distillation."""
    rows = [
        worlds.student(
            f"{i}-{s}",
            student=i / len(correct) if i else "standard",
            seed=s,
            val_class_correct=runs[s].tolist(),
            val_class_total=total.tolist(),
            test_class_correct=[0],
            test_class_total=[1],
        )
        for i, runs in enumerate(correct)
        for s in range(len(runs))
    ]
    return combine(worlds.table(rows))


def bound(c: Combinations) -> np.ndarray:
    """Return each count's standard error, ``sqrt(p (1 - p) / images)``, over all seeds."""
    p = np.array([c.class_correct[c.runs(i)].sum() for i in range(len(c))])
    n = np.array([c.class_total[c.runs(i)].sum() for i in range(len(c))])
    return np.sqrt(p / n * (1 - p / n) / n) + 1e-9


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    classes=st.one_of(st.integers(2, 30), st.integers(2, 1000)),
    images=st.one_of(st.integers(1, 5), st.integers(1, 1000)),
    combinations=st.integers(2, 8),
    seeds=st.integers(1, 3),
    uneven=st.booleans(),
    easy=st.floats(0.02, 0.98),
    apart=st.floats(0.0, 0.2),
    number=st.integers(0, 1000),
)
def test_an_average_is_within_its_standard_error(
    classes: int,
    images: int,
    combinations: int,
    seeds: int,
    uneven: bool,
    easy: float,
    apart: float,
    number: int,
) -> None:
    rng = np.random.default_rng(number)
    total = np.full(classes, images)
    if uneven:
        total = np.maximum((images * rng.random(classes) ** 3).astype(int), 1)
    recalls = rng.beta(4 * easy, 4 * (1 - easy), classes) - apart * rng.random((combinations, 1))
    recalls = np.clip(recalls, 0, 1)[:, None]
    c = counted(rng.binomial(total, np.repeat(recalls, seeds, axis=1)), total)
    chosen = choose(c, Constrained(margin=0.01))
    off = np.abs(chosen.seen.means.average - chosen.means.average)
    assert (off <= bound(c)).all()
    posterior = fit(c)
    assert posterior is not None
    expected = posterior.recalls() @ c.share
    # what the draws are about, but for counts next to none or all
    inner = (chosen.means.average > 0.1) & (chosen.means.average < 0.9)
    assert (np.abs(expected - chosen.means.average) <= bound(c) + 1e-6)[inner].all()


def test_a_student_that_counts_far_less_is_not_admitted() -> None:
    """500 classes of 2 images: 71 % is not within a point of 80 %."""
    rng = np.random.default_rng(1)
    easy = rng.beta(6, 1.5, 500)
    evener = np.clip(easy - 0.09 - 0.6 * (easy - easy.mean()), 0.01, 0.99)
    total = np.full(500, 2)
    recalls = np.array([easy] + [evener] * 9)
    c = counted(rng.binomial(total, recalls)[:, None], total)
    selection, sure, _ = decide(c, Constrained(margin=0.01))
    assert selection.means.average[0] - selection.means.average[1:].max() > 0.05
    assert selection.admitted.tolist() == [True] + [False] * 9
    assert selection.selected == 0
    assert sure is not None
    assert sure.probability_admitted[1:].max() < 0.05


def test_classes_are_about_the_average_and_not_about_one_half() -> None:
    rng = np.random.default_rng(2)
    total = np.ones(200, dtype=int)
    c = counted(rng.binomial(total, np.full((6, 1, 200), 0.9)), total)
    posterior = fit(c)
    assert posterior is not None
    recalls = posterior.recalls()
    assert recalls.mean() == pytest.approx(c.class_correct.mean(), abs=0.01)
    # a class whose one image all or none of six students get right is known a little
    assert recalls.min() > 0.55
    assert recalls.std() < 0.5 * c.recalls().std()
