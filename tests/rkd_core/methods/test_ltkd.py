"""LTKD: groups, the decomposition of the divergence, and the poster's ablations."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rkd_core import methods
from rkd_core.errors import UserError
from rkd_core.methods.ltkd import rebalanced
from rkd_core.metrics.class_groups import equal_groups, head_medium_tail
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import context, draw, problems, property_test, value

SOFT = {"label_weight": 0, "temperature": 1}


def soft(f, z, y, **options):
    return value(methods.create("ltkd", {**SOFT, **options}), f, z, y)


def divergence(f, z, t=1):
    pairs = zip(f, z, strict=True)
    return ref.mean(ref.kl(ref.log_softmax(b, t), ref.log_softmax(a, t)) for a, b in pairs)


def test_more_groups_than_classes_are_refused():
    with pytest.raises(UserError, match=r"ltkd.groups can be at most the 3 classes, not 4"):
        soft([[1.0, 2.0, 0.5]], [[1.0, 0.0, 0.0]], [0], groups=4)


@property_test
@given(problem=problems, n=st.integers(1, 7))
def test_the_divergence_is_cross_plus_weighted_within(problem, n):
    """The identity, with the poster's misprint corrected; so unit weights by mass are KD."""
    f, z, y = problem
    n = min(n, len(f[0]))
    total = soft(f, z, y, groups=n, rebalance=False, within="teacher")
    assert total == pytest.approx(divergence(f, z), rel=1e-6, abs=1e-6)


def test_unit_weights_by_mass_are_kd_at_any_temperature():
    f, z, y = draw(0, 5, 6)
    same = {"rebalance": False, "within": "teacher"}
    kd = methods.create("kd", {"label_weight": 1, "soft_weight": 1})
    ours = value(methods.create("ltkd", same), f, z, y)
    assert ours == pytest.approx(value(kd, f, z, y), rel=1e-9)


@property_test
@given(problem=problems)
def test_one_group_has_no_cross_part_and_all_within(problem):
    f, z, y = problem
    assert soft(f, z, y, groups=1, within_weight=0) == pytest.approx(0, abs=1e-12)
    within = soft(f, z, y, groups=1, cross_weight=0)
    assert within == pytest.approx(divergence(f, z), rel=1e-9, abs=1e-9)


@property_test
@given(problem=problems)
def test_a_group_for_each_class_has_no_within_part(problem):
    f, z, y = problem
    m = len(f[0])
    assert soft(f, z, y, groups=m, cross_weight=0) == pytest.approx(0, abs=1e-12)
    cross = soft(f, z, y, groups=m, within_weight=0)
    order = equal_groups(context(m).class_counts, m)
    expected, _ = ref.ltkd_parts(f, z, order, 1)
    assert cross == pytest.approx(expected, rel=1e-6, abs=1e-9)


def masses(seed, batch, groups):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, groups, generator=generator, dtype=torch.float64).log_softmax(dim=1)


def test_a_batch_of_one_is_rebalanced_to_uniform():
    assert rebalanced(masses(0, 1, 5)).exp().tolist()[0] == pytest.approx([0.2] * 5, rel=1e-12)


def test_equal_batch_masses_need_no_rebalancing():
    rows = masses(1, 1, 4)[0]
    turned = torch.stack([rows.roll(k) for k in range(4)])  # each group once in each place
    torch.testing.assert_close(rebalanced(turned), turned, rtol=1e-12, atol=1e-12)


def test_rebalancing_scales_by_the_batch_and_normalises_each_image():
    p = masses(2, 6, 3).exp()
    scaled = p * (p.sum(dim=0).mean() / p.sum(dim=0))
    expected = scaled / scaled.sum(dim=1, keepdim=True)
    torch.testing.assert_close(rebalanced(p.log()).exp(), expected)
    # Only approximately uniform on average, unlike what the scaling alone would give.
    average = expected.mean(dim=0)
    assert (average - 1 / 3).abs().max() < 0.1
    assert (average - 1 / 3).abs().max() > 1e-6


def test_the_ablations_are_configurations():
    f, z, y = draw(3, 6, 7)
    order = [*head_medium_tail(context(7).class_counts).values()]
    cross_biased, _ = ref.ltkd_parts(f, z, order, 4, rebalance=False)
    cross, within = ref.ltkd_parts(f, z, order, 4)
    hard = ref.hard(f, y)
    for options, expected in (
        ({"cross_weight": 0, "within_weight": 0}, hard),
        ({"within_weight": 0, "rebalance": False}, hard + 16 * cross_biased),
        ({"within_weight": 0}, hard + 16 * cross),
        ({"cross_weight": 0}, hard + 16 * within),
        ({}, hard + 16 * (cross + within)),
    ):
        method = methods.create("ltkd", options)
        assert value(method, f, z, y) == pytest.approx(expected, rel=1e-9)


def test_three_classes_are_three_groups_and_two_are_one():
    f, z, _ = draw(4, 5, 3)
    about = context(3, class_counts=(150, 40, 6))
    cross, within = ref.ltkd_parts(f, z, [[0], [1], [2]], 1)
    assert within == pytest.approx(0, abs=1e-12)
    method = methods.create("ltkd", SOFT)
    assert value(method, f, z, [0] * 5, about=about) == pytest.approx(cross, rel=1e-9)
    f, z, _ = draw(5, 5, 2)
    assert soft(f, z, [0] * 5) == pytest.approx(divergence(f, z), rel=1e-9)


def test_three_classes_are_planned_by_number():
    """Earlier runs have other run ids; runs with other numbers of classes keep theirs."""
    method = methods.create("ltkd", {"within_weight": 4})
    assert method.suited(3) == methods.create("ltkd", {"within_weight": 4, "groups": 3})
    assert [method.suited(classes) for classes in (2, 4, 1000)] == [method] * 3
    by_number = methods.create("ltkd", {"groups": 2})
    assert by_number.suited(3) == by_number


def test_a_tail_without_any_mass_costs_nothing_and_breaks_nothing():
    f = [[1.0, 2.0, 0.5]]
    about = context(3, class_counts=(9, 5, 1))
    method = methods.create("ltkd", {"groups": 3, "rebalance": False, "label_weight": 0})
    ours = value(method, f, [[0.0, 0.0, -1e5]], [0], about=about)
    p = [0.5, 0.5]
    log_s = ref.log_softmax(f[0], 4)
    expected = 16 * math.fsum(a * (math.log(a) - b) for a, b in zip(p, log_s[:2], strict=True))
    assert ours == pytest.approx(expected, rel=1e-9)
