"""Group DRO: the sequence of weights and its limits."""

import pytest
import torch
from hypothesis import given

from rkd_core import methods
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import context, draw, inputs, problems, property_test


def weights(loss):
    return loss.log_q.exp().tolist()


def made(step_size, counts=None, **options):
    about = context(len(counts), class_counts=counts) if counts else context(4)
    return methods.create("group_dro", {"step_size": step_size, **options}).loss(about)


@property_test
@given(problem=problems)
def test_a_step_size_of_0_is_the_mean_over_classes_of_mean_losses(problem):
    f, z, y = problem
    m = len(f[0])
    loss = made(0, counts=(1,) * m)
    expected = sum(ref.class_losses(f, y)) / m
    assert loss(inputs(f, z, y)).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert weights(loss) == pytest.approx([1 / m] * m)


def test_the_weights_follow_the_losses_of_each_batch_and_come_before_the_loss():
    loss, q = made(0.7), [0.25] * 4
    for seed in range(4):
        f, z, y = draw(seed, 6, 4)
        q = ref.group_dro_weights(q, ref.class_losses(f, y), 0.7, 0, [1] * 4)
        assert loss(inputs(f, z, y)).item() == pytest.approx(ref.group_dro(f, y, q), rel=1e-9)
        assert weights(loss) == pytest.approx(q, rel=1e-9)


def test_equal_losses_leave_the_weights_as_they_are():
    loss = made(5)
    loss(inputs([[0.0] * 4] * 4, [[0.0] * 4] * 4, [0, 1, 2, 3]))
    assert weights(loss) == pytest.approx([0.25] * 4, rel=1e-12)


def test_an_endless_step_size_is_the_worst_class():
    f, z, y = draw(0, 8, 4)
    loss = made(1e6)
    worst = max(ref.class_losses(f, y))
    assert loss(inputs(f, z, y)).item() == pytest.approx(worst, rel=1e-9)
    assert max(weights(loss)) == pytest.approx(1)


def test_absent_classes_lose_weight_relatively_only():
    loss = made(0.1)
    loss(inputs([[1.0, 0.0, 0.0, 0.0]] * 2, [[0.0] * 4] * 2, [0, 1]))
    q = weights(loss)
    assert q[2] == pytest.approx(q[3])
    assert q[2] < q[0] < q[1]


def test_the_adjustment_favours_small_classes_and_is_no_part_of_the_loss():
    counts = (400, 100, 25, 1)
    loss = made(0.1, counts=counts, adjustment=3)
    f, z, y = draw(1, 6, 4)
    q = ref.group_dro_weights([0.25] * 4, ref.class_losses(f, y), 0.1, 3, counts)
    assert loss(inputs(f, z, y)).item() == pytest.approx(ref.group_dro(f, y, q), rel=1e-9)
    assert weights(loss) == pytest.approx(q, rel=1e-9)


def test_a_weight_that_has_been_tiny_can_rise_again():
    loss = made(1e3)
    for labels, times in (([0], 1), ([1], 3)):
        for _ in range(times):
            loss(inputs([[0.0] * 4], [[0.0] * 4], labels))
    assert weights(loss)[1] == pytest.approx(1)


def test_the_weights_carry_no_gradient():
    f, z, y = draw(2, 6, 4)
    given_ = inputs(f, z, y)
    given_.logits.requires_grad_()
    loss = made(0.5)
    result = loss(given_)
    result.backward()
    assert not loss.log_q.requires_grad
    q = torch.tensor(weights(loss), dtype=torch.float64)
    p = torch.tensor(f, dtype=torch.float64).softmax(dim=1)
    truth = torch.nn.functional.one_hot(torch.tensor(y), 4)
    n = truth.sum(dim=0)[torch.tensor(y)]
    expected = (p - truth) * (q[torch.tensor(y)] / n)[:, None]
    torch.testing.assert_close(given_.logits.grad, expected, rtol=1e-9, atol=1e-12)
