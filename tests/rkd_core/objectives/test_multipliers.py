"""Algorithm 1's multipliers and class risks against plain loops, and their exact properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rkd_core.metrics import recalls
from rkd_core.multipliers import ascend, class_risks, uniform
from tests.rkd_core import reference

property_test = settings(deadline=None, max_examples=60)
FLOOR = -30.0


def simplex(seed: int, classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes))


def float64(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---------------------------------------------------------------- ascend


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_the_first_multipliers_are_uniform(classes):
    first = uniform(classes)
    assert first.dtype == torch.float64
    np.testing.assert_allclose(first.numpy(), np.full(classes, -math.log(classes)), atol=1e-14)


steps = {
    "seed": st.integers(0, 2**32 - 1),
    "classes": st.integers(1, 8),
    "step_size": st.sampled_from([0.01, 0.1, 0.5, 1.0]),
}


@property_test
@given(**steps)
def test_a_step_is_exponentiated_gradient_ascent(seed, classes, step_size):
    before = simplex(seed, classes)
    risks = np.random.default_rng(seed + 1).uniform(0, 1, classes)
    after = ascend(float64(before).log(), float64(risks), step_size)
    assert after.dtype == torch.float64
    assert after.shape == (classes,)
    expected = reference.ascend(before, risks, step_size)
    # A share near exp(-30) may have met the floor; the absolute tolerance is of that size.
    np.testing.assert_allclose(after.exp().numpy(), expected, rtol=1e-10, atol=2e-13)


@property_test
@given(**steps)
def test_g_multipliers_stay_on_the_simplex(seed, classes, step_size):
    rng = np.random.default_rng(seed)
    log_multipliers = uniform(classes)
    for _ in range(20):
        log_multipliers = ascend(log_multipliers, float64(rng.uniform(0, 1, classes)), step_size)
        assert log_multipliers.exp().sum().item() == pytest.approx(1, abs=1e-12)


@property_test
@given(**steps, risk=st.floats(0, 1))
def test_g_equal_risks_leave_the_multipliers_alone(seed, classes, step_size, risk):
    before = float64(0.9 * simplex(seed, classes) + 0.1 / classes).log()
    after = ascend(before, torch.full((classes,), risk, dtype=torch.float64), step_size)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@property_test
@given(seed=steps["seed"], classes=st.integers(2, 8), step_size=steps["step_size"])
def test_g_the_worst_class_strictly_gains(seed, classes, step_size):
    before = float64(0.9 * simplex(seed, classes) + 0.1 / classes).log()
    risks = float64(np.random.default_rng(seed + 1).uniform(0, 0.9, classes))
    risks[seed % classes] = 1.0
    after = ascend(before, risks, step_size)
    assert after[seed % classes] > before[seed % classes]
    assert after[risks.argmin()] < before[risks.argmin()]


def test_multipliers_and_risks_must_fit_and_be_finite():
    with pytest.raises(ValueError, match="risks"):
        ascend(uniform(3), float64([0.1, 0.2]), 0.1)
    with pytest.raises(ValueError, match="finite"):
        ascend(uniform(2), float64([0.1, float("nan")]), 0.1)


def test_float32_arguments_are_lifted():
    after = ascend(uniform(3).float(), torch.tensor([1.0, 0.0, 0.0]), 0.1)
    assert after.dtype == torch.float64


def test_only_differences_of_risks_matter():
    before, risks = float64(simplex(0, 5)).log(), float64([0.1, 0.5, 0.2, 0.0, 0.4])
    shifted = ascend(before, risks + 0.5, 1.0)
    torch.testing.assert_close(shifted, ascend(before, risks, 1.0), rtol=0, atol=1e-12)


def test_two_steps_are_one_of_the_summed_risks():
    before = uniform(4)
    first, second = float64([0.1, 0.9, 0.5, 0.0]), float64([0.7, 0.2, 0.0, 0.4])
    both = ascend(ascend(before, first, 0.5), second, 0.5)
    torch.testing.assert_close(both, ascend(before, first + second, 0.5), rtol=0, atol=1e-12)


def test_arguments_are_not_changed():
    before, risks = uniform(3), float64([1.0, 0.0, 0.5])
    kept_before, kept_risks = before.clone(), risks.clone()
    ascend(before, risks, 1.0)
    assert torch.equal(before, kept_before)
    assert torch.equal(risks, kept_risks)


def test_one_class_keeps_all_the_weight():
    after = uniform(1)
    for _ in range(10):
        after = ascend(after, float64([0.7]), 1.0)
    assert after.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("step_size", [0.1, 1.0])
@pytest.mark.parametrize("classes", [2, 10, 200])
def test_5000_steps_never_lose_a_class(step_size, classes):
    """Unprojected, the ratios would reach 5,000 nats; floored, a forgotten class can come back."""
    risks = torch.zeros(classes, dtype=torch.float64)
    risks[0] = 1.0
    log_multipliers = uniform(classes)
    for _ in range(5000):
        log_multipliers = ascend(log_multipliers, risks, step_size)
    assert log_multipliers.dtype == torch.float64
    assert torch.isfinite(log_multipliers).all()
    assert log_multipliers.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_multipliers[0].item() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(log_multipliers[1:].numpy(), FLOOR, atol=0.1)

    # The tide turns: 30 nats at `step_size` a step, and a bit over, bring the last class back.
    turned = torch.zeros(classes, dtype=torch.float64)
    turned[-1] = 1.0
    for _ in range(math.ceil(35 / step_size)):
        log_multipliers = ascend(log_multipliers, turned, step_size)
    assert log_multipliers.argmax().item() == classes - 1
    assert log_multipliers[-1].exp().item() > 0.9


def test_5000_random_steps_follow_the_cumulative_risks():
    """Away from the floor there is no drift: the last iterate is softmax(gamma sum_k R^k)."""
    rng = np.random.default_rng(0)
    trace = rng.uniform(0.4, 0.6, (5000, 4))
    log_multipliers = uniform(4)
    for risks in trace:
        log_multipliers = ascend(log_multipliers, float64(risks), 0.1)
    expected = reference.softmax([0.1 * math.fsum(trace[:, j]) for j in range(4)])
    np.testing.assert_allclose(log_multipliers.exp().numpy(), expected, rtol=1e-9)


# ---------------------------------------------------------------- class_risks


@property_test
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 12),
    classes=st.integers(1, 6),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_risks_are_those_of_algorithm_1(seed, n, classes, dtype):
    rng = np.random.default_rng(seed)
    probabilities = torch.tensor(rng.dirichlet(np.full(classes, 0.3), size=n)).to(dtype)
    predictions = rng.integers(0, classes, n)
    risks = class_risks(probabilities, torch.tensor(predictions))
    assert risks.dtype == torch.float64
    assert risks.shape == (classes,)
    expected = reference.class_risks(probabilities.double().numpy(), predictions)
    np.testing.assert_allclose(risks.numpy(), expected, rtol=1e-9, atol=1e-12)
    assert (risks >= 0).all()
    assert (risks <= 1 + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sums_over_a_whole_validation_set_are_float64(dtype):
    """In float16 a sum of 5,000 shares would stop growing long before its end."""
    rng = np.random.default_rng(1)
    probabilities = torch.tensor(rng.dirichlet(np.full(4, 0.3), size=5000)).to(dtype)
    predictions = rng.integers(0, 4, 5000)
    expected = reference.class_risks(probabilities.double().numpy(), predictions)
    risks = class_risks(probabilities, torch.tensor(predictions))
    np.testing.assert_allclose(risks.numpy(), expected, rtol=1e-10)


@property_test
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=40), seed=st.integers(0, 2**32 - 1))
def test_risks_under_true_labels_are_one_minus_recall(labels, seed):
    """val_labels = true: one-hot labels. Absent classes have risk 0, not NaN."""
    y = torch.tensor(labels)
    predictions = torch.tensor(np.random.default_rng(seed).integers(0, 5, len(labels)))
    total = np.bincount(labels, minlength=5)
    correct = np.bincount(y[y == predictions].numpy(), minlength=5)
    expected = np.where(total > 0, 1 - np.nan_to_num(recalls(correct, total)), 0)
    risks = class_risks(F.one_hot(y, 5).double(), predictions).numpy()
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-12)


def test_known_risks():
    probabilities = float64([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    risks = class_risks(probabilities, torch.tensor([0, 1, 1]))
    # Class 0 has mass 1.75, of which 1.25 is predicted elsewhere; class 1 has 1.25, of which 0.5.
    np.testing.assert_allclose(risks.numpy(), [1.25 / 1.75, 0.5 / 1.25, 0.0], rtol=1e-12)


def test_a_class_predicted_always_has_no_risk_and_the_others_all():
    probabilities = float64(np.random.default_rng(2).dirichlet(np.ones(3), size=9))
    risks = class_risks(probabilities, torch.full((9,), 1))
    np.testing.assert_allclose(risks.numpy(), [1.0, 0.0, 1.0], rtol=0, atol=1e-12)


def test_a_class_without_mass_has_no_risk_and_does_not_stop_the_ascent():
    risks = class_risks(float64([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 1]))
    np.testing.assert_array_equal(risks.numpy(), [1.0, 0.0])
    assert torch.isfinite(ascend(uniform(2), risks, 0.1)).all()


def test_a_tiny_mass_is_not_taken_for_none():
    risks = class_risks(float64([[1.0, 1e-20], [1.0, 3e-20]]), torch.tensor([1, 0]))
    np.testing.assert_allclose(risks.numpy(), [0.5, 0.75], rtol=1e-9)


@pytest.mark.parametrize("true_labels", [False, True])
def test_risks_of_batches_with_the_priors_of_the_whole_average_to_the_whole(true_labels):
    """Each batch divides by the whole set's class shares, so no batch divides by almost nothing."""
    rng = np.random.default_rng(3)
    probabilities = float64(rng.dirichlet([5.0, 1.0, 0.2], size=40))
    if true_labels:
        probabilities = F.one_hot(probabilities.argmax(dim=1), 3).double()
    predictions = torch.tensor(rng.integers(0, 3, 40))
    whole = class_risks(probabilities, predictions)
    batches = [
        class_risks(probabilities[i : i + 8], predictions[i : i + 8], probabilities.mean(dim=0))
        for i in range(0, 40, 8)
    ]
    torch.testing.assert_close(torch.stack(batches).mean(dim=0), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("probabilities", "predictions"),
    [
        (torch.ones(3), torch.zeros(3, dtype=torch.int64)),
        (torch.ones(3, 2), torch.zeros(2, dtype=torch.int64)),
        (torch.ones(0, 2), torch.zeros(0, dtype=torch.int64)),
    ],
)
def test_risks_of_nothing_or_of_shapes_that_differ_are_refused(probabilities, predictions):
    with pytest.raises(ValueError, match="class_risks"):
        class_risks(probabilities, predictions)


def test_ascent_finds_the_least_favorable_weights():
    """Two classes, one threshold: the game's value is where both risks are equal.

    The student plays its best reply to the multipliers, the margin loss's own minimiser
    argmax_y lambda_y p_y / pihat_y, on labels that are soft; the averaged multipliers then sit
    where the classes are equally bad.
    """
    eta = np.linspace(0.02, 0.7, 401)
    labels = float64(np.stack([1 - eta, eta], axis=1))
    prior = labels.mean(dim=0)
    log_multipliers, mean_risks = uniform(2), torch.zeros(2, dtype=torch.float64)
    K = 2000
    for _ in range(K):
        predictions = (log_multipliers + labels.log() - prior.log()).argmax(dim=1)
        risks = class_risks(labels, predictions)
        mean_risks += risks / K
        log_multipliers = ascend(log_multipliers, risks, 0.05)
    plain = class_risks(labels, labels.argmax(dim=1))
    assert (plain[1] - plain[0]).item() > 0.2
    assert abs(mean_risks[1] - mean_risks[0]).item() < 0.01
    assert mean_risks.max() < plain.max()


def test_a_class_without_mass_has_no_risk_even_if_the_batch_has_images_of_it():
    """Priors are those of the whole validation set, which a batch need not agree with."""
    one_hot = float64([[1.0, 0.0], [0.0, 1.0]])
    risks = class_risks(one_hot, torch.tensor([1, 0]), priors=float64([0.5, 0.0]))
    assert risks.tolist() == [1.0, 0.0]  # (1 / 0.5) (1 / 2) 1, and 0 by definition
