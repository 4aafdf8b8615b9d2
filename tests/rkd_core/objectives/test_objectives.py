"""The margin loss against plain loops: equation 9, its gradient, and the corners of arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rkd_core.objectives import class_costs, margin_loss
from tests.rkd_core import reference
from tests.rkd_core.objectives.problems import (
    draw,
    gradient,
    problems,
    property_test,
    simplex,
    tensors,
)

# ---------------------------------------------------------------- the loss against eq. 9


@property_test
@given(problem=problems)
def test_margin_loss_is_equation_9(problem):
    logits, targets, costs = problem
    expected = reference.margin_loss(logits, targets, costs)
    loss = margin_loss(*tensors(*problem))
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-11, abs=1e-11)


@property_test
@given(problem=problems)
def test_costs_are_divided_by_m_only_on_request(problem):
    plain = margin_loss(*tensors(*problem)).item()
    scaled = margin_loss(*tensors(*problem), scale_by_classes=True).item()
    assert scaled == pytest.approx(plain / len(problem[2]), rel=1e-12, abs=1e-300)


@property_test
@given(problem=problems, constant=st.sampled_from([1e-6, 1.0, 7.0]))
def test_a_equal_costs_give_soft_cross_entropy(problem, constant):
    logits, targets, _ = problem
    costs = np.full(logits.shape[1], constant)
    expected = reference.soft_cross_entropy(logits, targets)
    assert margin_loss(*tensors(logits, targets, costs)).item() == pytest.approx(
        expected, rel=1e-11, abs=1e-9
    )
    m = logits.shape[1]
    scaled = margin_loss(*tensors(logits, targets, costs), scale_by_classes=True).item()
    assert m * scaled == pytest.approx(expected, rel=1e-11, abs=1e-9)


@property_test
@given(problem=problems, scale=st.sampled_from([1e-8, 0.3, 1e8]))
def test_b_scaling_the_costs_changes_nothing(problem, scale):
    logits, targets, costs = problem
    loss = margin_loss(*tensors(logits, targets, costs)).item()
    other = margin_loss(*tensors(logits, targets, scale * costs)).item()
    assert other == pytest.approx(loss, rel=1e-10, abs=1e-10)


def test_c_inverse_prior_costs_are_logit_adjustment():
    logits, targets, _ = draw(0, 5, 6)
    prior = simplex(1, 6)
    f, q = tensors(logits, targets)
    expected = F.cross_entropy(f + prior.log(), q)  # PyTorch's own, with soft targets
    torch.testing.assert_close(margin_loss(f, q, 1 / prior), expected, rtol=1e-12, atol=0)
    costs = class_costs("balanced", prior)
    torch.testing.assert_close(margin_loss(f, q, costs), expected, rtol=1e-12, atol=0)


def test_c_one_hot_targets_too():
    logits, _, _ = draw(2, 7, 4)
    labels = torch.tensor([0, 1, 2, 3, 3, 3, 1])
    (f,) = tensors(logits)
    prior = simplex(3, 4)
    expected = F.cross_entropy(f + prior.log(), labels)
    loss = margin_loss(f, F.one_hot(labels, 4).double(), class_costs("balanced", prior))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


# ---------------------------------------------------------------- gradients


@property_test
@given(problem=problems)
def test_d_gradient_is_softmax_minus_target(problem):
    expected = reference.margin_gradient(*problem)
    np.testing.assert_allclose(gradient(*problem), expected, rtol=0, atol=1e-11)
    m = problem[0].shape[1]
    scaled = gradient(*problem, scale_by_classes=True)
    np.testing.assert_allclose(scaled, expected / m, rtol=0, atol=1e-11)


def test_d_gradient_matches_finite_differences_of_the_loops():
    logits, targets, costs = draw(4, 3, 4)
    step = 1e-5
    numeric = np.zeros_like(logits)
    for i, y in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[i, y] += step
        down[i, y] -= step
        rise = reference.margin_loss(up, targets, costs)
        rise -= reference.margin_loss(down, targets, costs)
        numeric[i, y] = rise / (2 * step)
    np.testing.assert_allclose(gradient(logits, targets, costs), numeric, rtol=0, atol=1e-9)


def test_d_gradient_with_targets_that_do_not_sum_to_one():
    logits, targets, costs = draw(5, 3, 4)
    f, q, c = tensors(logits, 0.3 * targets, costs)
    f.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: margin_loss(x, q, c), (f,))


@property_test
@given(problem=problems)
def test_d_gradient_vanishes_at_log_cost_times_target(problem):
    _, targets, costs = problem
    targets = (targets + 1e-3) / (targets + 1e-3).sum(axis=1, keepdims=True)
    best = np.log(costs * targets)
    np.testing.assert_allclose(gradient(best, targets, costs), 0, rtol=0, atol=1e-13)
    # And it is a minimum: any other logits lose more.
    f, q, c = tensors(best, targets, costs)
    nudge = torch.randn(f.shape, dtype=f.dtype, generator=torch.Generator().manual_seed(0))
    assert margin_loss(f, q, c) <= margin_loss(f + nudge, q, c) + 1e-12


# ---------------------------------------------------------------- corners


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_and_tiny_costs_stay_exact(dtype):
    logits = [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]]
    targets = [[0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    costs = [1e-13, 1.0, 1e3]
    f, q, c = tensors(logits, targets, costs, dtype=dtype)
    f.requires_grad_()
    loss = margin_loss(f, q, c)
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(reference.margin_loss(logits, targets, costs), rel=1e-6)
    loss.backward()
    expected = reference.margin_gradient(logits, targets, costs)
    np.testing.assert_allclose(f.grad.numpy(), expected, rtol=0, atol=1e-6)


def test_tiny_costs_can_decide_against_the_logits():
    """The margin log(c) of a class at 1e-13 is 30 nats, and wins over logits of a few nats."""
    f, q, c = tensors([[2.0, -3.0]], [[0.5, 0.5]], [1.0, 1e-13])
    f.requires_grad_()
    margin_loss(f, q, c).backward()
    assert f.grad[0, 1].item() == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("value", [-1e4, 0.0, 3.0, 1e4])
def test_one_class_has_no_loss(value):
    f, q, c = tensors([[value]], [[1.0]], [2.5])
    f.requires_grad_()
    loss = margin_loss(f, q, c)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert f.grad.item() == pytest.approx(0, abs=1e-12)


def test_examples_without_target_mass_cost_nothing_but_count():
    logits, targets, costs = draw(16, 4, 3)
    targets[[1, 3]] = 0
    whole = margin_loss(*tensors(logits, targets, costs)).item()
    half = margin_loss(*tensors(logits[[0, 2]], targets[[0, 2]], costs)).item()
    assert whole == pytest.approx(half / 2, rel=1e-12)
    np.testing.assert_array_equal(gradient(logits, targets, costs)[[1, 3]], 0)


def test_classes_without_target_mass_cost_nothing_however_low_their_logit():
    f, q, c = tensors([[1.0, -1e4, 2.0]], [[0.5, 0.0, 0.5]], [1.0, 1.0, 1.0])
    kept, q2, c2 = tensors([[1.0, 2.0]], [[0.5, 0.5]], [1.0, 1.0])
    assert margin_loss(f, q, c).item() == pytest.approx(margin_loss(kept, q2, c2).item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("costs", [[1.0, 1.0, 1.0], [1e-13, 0.3, 7.0]])
def test_half_precision_logits_are_lifted_before_any_arithmetic(dtype, autocast, costs):
    logits, targets, _ = draw(17, 8, 3)
    f = torch.tensor(logits, dtype=dtype)
    q, c = tensors(targets, costs, dtype=torch.float32)
    expected = reference.margin_loss(f.double().numpy(), q.numpy(), c.numpy())
    slopes = reference.margin_gradient(f.double().numpy(), q.numpy(), c.numpy())
    f.requires_grad_()
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        loss = margin_loss(f, q, c)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=2e-6)
    assert f.grad.dtype == dtype
    resolution = torch.finfo(dtype).eps
    np.testing.assert_allclose(f.grad.double().numpy(), slopes, rtol=resolution, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_targets_are_read_as_they_are(dtype):
    logits, targets, costs = draw(18, 8, 3)
    f, c = tensors(logits, costs, dtype=torch.float32)
    q = torch.tensor(targets, dtype=dtype)
    expected = reference.margin_loss(f.numpy(), q.double().numpy(), c.numpy())
    loss = margin_loss(f, q, c)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=2e-6)


def test_float64_logits_stay_float64_under_autocast():
    problem = draw(19, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = margin_loss(*tensors(*problem))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(reference.margin_loss(*problem), rel=1e-12)


def test_relabeling_the_classes_changes_nothing():
    logits, targets, costs = draw(20, 5, 6)
    order = np.random.default_rng(0).permutation(6)
    loss = margin_loss(*tensors(logits, targets, costs)).item()
    other = margin_loss(*tensors(logits[:, order], targets[:, order], costs[order])).item()
    assert other == pytest.approx(loss, rel=1e-12)


def test_a_constant_added_to_an_examples_logits_changes_nothing():
    logits, targets, costs = draw(21, 5, 6)
    shift = np.array([[-50.0], [0.0], [3.0], [100.0], [1e3]])
    loss = margin_loss(*tensors(logits, targets, costs)).item()
    assert margin_loss(*tensors(logits + shift, targets, costs)).item() == pytest.approx(loss)


@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 2), (3,)), ((2, 3), (3,), (3,)), ((2, 3), (2, 3), (2,))]
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="margin_loss"):
        margin_loss(*(torch.ones(shape) for shape in shapes))
