"""one_hot, standard, kd, weighted_soft_labels, dkd, dist: their identities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rkd_core import methods
from rkd_core.methods.common.correlation import agreement
from rkd_core.methods.dkd import decoupled
from rkd_core.methods.weighted_soft_labels import image_weights
from rkd_core.objectives import class_costs, margin_loss
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import draw, problems, property_test, value


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


# ---------------------------------------------------------------- one-hot, standard


@property_test
@given(problem=problems)
def test_standard_is_the_cell_of_the_grid(problem):
    f, z, y = problem
    costs = class_costs("standard", tensor([1 / len(f[0])] * len(f[0])))
    expected = margin_loss(tensor(f), (tensor(z) / 3).softmax(dim=1), costs).item()
    assert value(methods.create("standard", {"temperature": 3}), f, z, y) == expected


def test_one_hot_weight_of_one_is_one_hot_and_a_certain_teacher_too():
    f, z, y = draw(0, 4, 5)
    expected = value(methods.create("one_hot"), f, z, y)
    mixed = methods.create("standard", {"one_hot_weight": 1})
    assert value(mixed, f, z, y) == pytest.approx(expected, rel=1e-12)
    certain = [[1e4 if j == label else 0.0 for j in range(5)] for label in y]
    assert value(methods.create("standard"), f, certain, y) == pytest.approx(expected, rel=1e-12)


def test_the_temperature_of_standard_softens_the_teacher_only():
    f, z, y = draw(1, 4, 5)
    hot = value(methods.create("standard", {"temperature": 4}), f, z, y)
    cooled = [[v / 4 for v in row] for row in z]
    assert hot == pytest.approx(value(methods.create("standard"), f, cooled, y), rel=1e-12)


# ---------------------------------------------------------------- kd


def test_the_temperature_of_kd_softens_both_with_its_square():
    f, z, y = draw(2, 4, 5)
    hot = value(methods.create("kd", {"label_weight": 0, "soft_weight": 1}), f, z, y)
    cooled = [[[v / 4 for v in row] for row in logits] for logits in (f, z)]
    plain = {"label_weight": 0, "soft_weight": 1, "temperature": 1}
    assert hot == pytest.approx(16 * value(methods.create("kd", plain), *cooled, y), rel=1e-12)


def test_kd_at_a_temperature_of_one_is_standard_up_to_the_teachers_entropy():
    f, z, y = draw(3, 4, 5)
    plain = {"label_weight": 0, "soft_weight": 1, "temperature": 1}
    entropy = ref.mean(ref.cross_entropy(row, ref.softmax(row)) for row in z)
    expected = value(methods.create("standard"), f, z, y) - entropy
    assert value(methods.create("kd", plain), f, z, y) == pytest.approx(expected, rel=1e-10)


def test_kd_between_equals_is_the_label_term():
    f, _, y = draw(4, 4, 5)
    expected = 0.1 * value(methods.create("one_hot"), f, f, y)
    assert value(methods.create("kd"), f, f, y) == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------- weighted soft labels


@property_test
@given(problem=problems)
def test_weights_of_images(problem):
    f, z, y = problem
    ours = image_weights(
        *(
            tensor(
                [ref.cross_entropy(r, ref.one_hot(k, len(r))) for r, k in zip(a, y, strict=True)]
            )
            for a in (f, z)
        )
    )
    assert ours.tolist() == pytest.approx(ref.image_weights(f, z, y), rel=1e-9, abs=1e-12)
    assert ours.min() >= 0
    assert ours.max() <= 1  # 1 only by rounding


def test_weight_of_equals_and_of_a_perfect_student():
    loss = tensor([0.3, 2.0, 50.0])
    assert image_weights(loss, loss).tolist() == pytest.approx([1 - 1 / math.e] * 3, rel=1e-6)
    assert image_weights(torch.zeros(3), loss).tolist() == [0, 0, 0]
    assert image_weights(tensor([1e-3]), tensor([1e9])).item() < 1e-11


def test_weights_of_one_give_kd_up_to_the_teachers_entropy():
    """A teacher without doubt about the true label has a loss of 0, and every weight is 1."""
    f, _, y = draw(5, 4, 5)
    z = [[1e3 if j == label else 0.0 for j in range(5)] for label in y]
    weighted = methods.create("weighted_soft_labels", {"temperature": 200, "weight": 2})
    options = {"temperature": 200, "label_weight": 1, "soft_weight": 2}
    entropy = ref.mean(ref.cross_entropy([v / 200 for v in r], ref.softmax(r, 200)) for r in z)
    expected = value(methods.create("kd", options), f, z, y) + 2 * 200**2 * entropy
    assert value(weighted, f, z, y) == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------- dkd


@property_test
@given(problem=problems)
def test_divergence_is_target_part_plus_the_rest_of_the_mass_times_the_other(problem):
    f, z, y = problem
    target, others = decoupled(tensor(f), tensor(z), torch.tensor(y))
    for i, (row, teacher, label) in enumerate(zip(f, z, y, strict=True)):
        expected = ref.kl(ref.log_softmax(teacher), ref.log_softmax(row))
        rest = math.fsum(p for j, p in enumerate(ref.softmax(teacher)) if j != label)
        assert (target[i] + rest * others[i]).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_divergence_of_improbable_classes_is_not_lost():
    """Issue 60 of the reference code: a mask of -1000 is not far enough away."""
    row, teacher = [0.0, -2e3, -2.001e3], [0.0, -2.001e3, -2e3]
    _, others = decoupled(tensor([row]), tensor([teacher]), torch.tensor([0]))
    assert others.item() == pytest.approx(ref.decoupled(row, teacher, 0, 1)[1], rel=1e-9)
    assert others.item() == pytest.approx(math.tanh(0.5), rel=1e-9)


@pytest.mark.parametrize(("name", "soft"), [("dkd", "soft"), ("review_kd", "maps")])
def test_warm_up_rises_to_one_over_its_share_of_the_epochs(name, soft):
    f, z, y = draw(6, 4, 5)
    method = methods.create(name, {"warmup": 0.5})  # 6 of 12 epochs
    hard = value(methods.create("one_hot"), f, z, y)
    values = _values(method, f, z, y, epochs=(0, 1, 3, 6, 12))
    parts = [(v - hard) / (values[-1] - hard) for v in values]
    assert parts == pytest.approx([0, 1 / 6, 1 / 2, 1, 1], abs=1e-6)
    always = _values(methods.create(name, {"warmup": 0}), f, z, y, epochs=(0,))
    assert always[0] == pytest.approx(values[-1], rel=1e-12)


def _values(method, f, z, y, epochs):
    from tests.rkd_core.methods.problems import context, inputs

    loss = method.loss(context(5)).double()
    return [loss(inputs(f, z, y, epoch=epoch)).item() for epoch in epochs]


# ---------------------------------------------------------------- dist


def test_dist_between_equals_is_the_label_term():
    f, _, y = draw(7, 6, 5)
    expected = value(methods.create("one_hot"), f, f, y)
    assert value(methods.create("dist"), f, f, y) == pytest.approx(expected, abs=1e-4)


@property_test
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(5, 9))
def test_rows_are_invariant_to_positive_affine_maps_and_turn_with_negative_ones(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 4, classes, generator=generator, dtype=torch.float64)
    weights = (1.0, 0.0)
    once = agreement(a, b, *weights)
    torch.testing.assert_close(agreement(3 * a + 7, b, *weights), once, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(agreement(a, b / 2 - 1, *weights), once, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(agreement(-2 * a, b, *weights), -once, rtol=1e-4, atol=1e-4)
    turned = agreement(a.T, b.T, 0.0, 1.0)
    torch.testing.assert_close(turned, once)


def test_the_gradient_of_agreement_is_that_of_its_value():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: agreement(a, b, 2.0, 3.0), a)


def test_agreement_with_what_is_constant_is_nothing_and_has_no_gradient():
    a = torch.full((2, 3), 1 / 3, requires_grad=True)
    b = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    result = agreement(a, b, 1.0, 1.0)
    result.backward()
    assert result.item() == 0
    assert a.grad.abs().max() == 0
