"""Metrics of each class, against scikit-learn and plain loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from rkd_core.metrics.per_class import Sample, cost, find

CLASSES, IMAGES = 5, 300


def sample(seed: int = 0, decimals: int = 2, top: int | None = None) -> Sample:
    """Predictions with ties in every column, and one class that is never predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, IMAGES, p=[0.4, 0.3, 0.15, 0.1, 0.05]).astype(np.int32)
    logits = (rng.standard_normal((IMAGES, CLASSES)) + 1.2 * np.eye(CLASSES)[labels]).round(1)
    logits[:, 4] -= 6
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    classes = None if top is None else np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return Sample(labels, CLASSES, logits.argmax(1), classes, None if top else log_p)


def weights(seed: int = 3, number: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (number, IMAGES)).astype(np.float64)


def by_sklearn(name: str, one: Sample, weight: np.ndarray) -> np.ndarray:
    labels, every = one.labels, range(CLASSES)
    kind = {"recall": sk.recall_score, "precision": sk.precision_score, "f1": sk.f1_score}
    if name in kind:
        return np.asarray(
            kind[name](
                labels,
                one.predicted,
                labels=[*every],
                average=None,
                sample_weight=weight,
                zero_division=0,
            )
        )
    assert one.log_probabilities is not None
    score = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[name]
    return np.array(
        [score(labels == k, one.log_probabilities[:, k], sample_weight=weight) for k in every]
    )


@pytest.mark.parametrize("name", ["recall", "precision", "f1", "auroc", "average_precision"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_metrics_of_many_weightings_are_those_of_scikit_learn(name: str, dtype: type) -> None:
    one, given = sample(), weights()
    found = find(name).evaluate(one, given.astype(dtype))
    expected = [by_sklearn(name, one, weight) for weight in given]
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype is np.float64 else 1e-6)
    assert (found[:, 4] == 0).all() or name in ("auroc", "average_precision")


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_recall_is_that_of_scikit_learn_with_all_logits(k: int) -> None:
    one = sample()
    found = find(f"top-{k}").evaluate(one, np.ones((1, IMAGES)))[0]
    for label in range(CLASSES):
        own = one.labels == label
        assert one.log_probabilities is not None
        score = sk.top_k_accuracy_score(
            one.labels[own], one.log_probabilities[own], k=k, labels=range(CLASSES)
        )
        assert found[label] == pytest.approx(score)


def test_top_k_recall_from_the_largest_logits() -> None:
    one = sample(top=3)
    assert one.top is not None
    hits = [label in row[:2] for label, row in zip(one.labels, one.top, strict=True)]
    expected = [np.mean(np.array(hits)[one.labels == k]) for k in range(CLASSES)]
    np.testing.assert_allclose(find("top-2").evaluate(one, np.ones((1, IMAGES)))[0], expected)
    assert find("top-5").needs == "top"
    assert find("top-6").needs == "logits"


def test_calibration_error_against_a_loop_over_bins() -> None:
    one, given = sample(), weights()
    found = find("ece").evaluate(one, given)
    assert one.log_probabilities is not None
    for weight, row in zip(given, found, strict=True):
        for k in range(CLASSES):
            p, y = np.exp(one.log_probabilities[:, k]), one.labels == k
            total = 0.0
            for b in range(15):
                inside = (p >= b / 15) & (p < (b + 1) / 15 if b < 14 else p <= 1)
                if weight[inside].sum() > 0:
                    gap = np.average(p[inside], weights=weight[inside])
                    gap -= np.average(y[inside], weights=weight[inside])
                    total += weight[inside].sum() / weight.sum() * abs(gap)
            assert row[k] == pytest.approx(total, abs=1e-12)
    assert find("ece").sign == -1


def test_cost_is_the_mean_over_the_images_of_a_class() -> None:
    one, matrix = sample(), np.arange(CLASSES**2, dtype=float).reshape(CLASSES, CLASSES)
    found = cost(matrix).evaluate(one, np.ones((1, IMAGES)))[0]
    for k in range(CLASSES):
        assert found[k] == pytest.approx(matrix[k, one.predicted[one.labels == k]].mean())


@pytest.mark.parametrize("name", ["recall", "precision", "f1", "auroc", "top-2", "ece"])
def test_a_class_without_images_has_no_figure(name: str) -> None:
    one = sample()
    present = one.labels != 1
    assert one.log_probabilities is not None
    rest = Sample(
        one.labels[present],
        CLASSES,
        one.predicted[present],
        None,
        one.log_probabilities[present],
    )
    found = find(name).evaluate(rest, np.ones((1, int(present.sum()))))[0]
    assert np.isnan(found).tolist() == [k == 1 for k in range(CLASSES)]
