"""The Ada methods, which use margins on a hold-out (Lukasik et al. 2022)."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rkd_core import methods
from rkd_core.methods.common.adaptive import class_margins
from rkd_core.methods.common.protocol import HeldOut
from rkd_core.objectives import margin_loss
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import context, draw, problems, property_test, value


def held_out(z, y):
    return HeldOut(torch.tensor(z, dtype=torch.float64), torch.tensor(y))


def certain(labels, classes, hits):
    """Return a teacher that is right about these labels, or uniform."""
    rows = [[1e3 if hits and j == y else 0.0 for j in range(classes)] for y in labels]
    return held_out(rows, labels)


@property_test
@given(problem=problems, t=st.sampled_from([1.0, 3.0]))
def test_margins_are_those_of_the_loops(problem, t):
    _, z, y = problem
    m = len(z[0])
    margins = class_margins(held_out(z, y), t)
    assert margins.tolist() == pytest.approx(ref.alphas(z, y, m, t), abs=1e-12)
    assert margins.max() <= 1 + 1e-12
    assert margins.min() >= -1 / (m - 1) - 1e-12


def test_alphas_of_a_perfect_teacher_and_of_one_without_an_idea():
    labels = [0, 1, 2, 3]
    alpha = methods.create("ada_alpha").alphas
    perfect = alpha(context(4, held_out=certain(labels, 4, hits=True)))
    assert perfect.tolist() == pytest.approx([1] * 4, abs=1e-12)
    assert alpha(context(4, held_out=certain(labels, 4, hits=False))).tolist() == [0] * 4


def test_alpha_is_0_up_to_chance_and_not_where_the_teacher_is_merely_often_wrong():
    """Mean probability of the true label: 0.2, 0.25 and 0.3 of four classes."""
    rows = []
    for p in (0.2, 0.25, 0.3):
        q = torch.tensor([(1 - p) / 3] * 4, dtype=torch.float64)
        q[len(rows)] = p
        rows.append(q.log().tolist())
    alphas = methods.create("ada_alpha").alphas(context(4, held_out=held_out(rows, [0, 1, 2])))
    assert alphas.tolist() == pytest.approx([0, 0, (4 * 0.3 - 1) / 3, 0], abs=1e-12)


def test_a_class_that_the_hold_out_lacks_trusts_the_labels():
    about = context(3, held_out=certain([0, 0, 1], 3, hits=True))
    assert methods.create("ada_alpha").alphas(about).tolist() == pytest.approx([1, 1, 0])


def test_alpha_0_is_one_hot_and_alpha_1_is_distillation():
    f, z, y = draw(0, 4, 5)
    labels, options = list(range(5)), {"temperature": 2}
    none = context(5, held_out=certain(labels, 5, hits=False))
    full = context(5, held_out=certain(labels, 5, hits=True))
    ada = methods.create("ada_alpha", options)
    one_hot = value(methods.create("one_hot"), f, z, y)
    assert value(ada, f, z, y, about=none) == pytest.approx(one_hot, rel=1e-12)
    standard = value(methods.create("standard", options), f, z, y)
    assert value(ada, f, z, y, about=full) == pytest.approx(standard, rel=1e-12)


@pytest.mark.parametrize("hits", [True, False])
def test_ada_margin_of_equal_alphas_is_distillation(hits):
    f, z, y = draw(1, 4, 5)
    about = context(5, held_out=certain(list(range(5)), 5, hits=hits))  # all 1, or all the offset
    expected = value(methods.create("standard"), f, z, y)
    assert value(methods.create("ada_margin"), f, z, y, about=about) == pytest.approx(expected)


def test_ada_margin_is_least_at_the_teacher_over_alpha():
    _, z, y = draw(2, 4, 5)
    about = context(5)
    alpha = [max(v, 1e-2) for v in _alphas(about)]
    p = torch.tensor(z, dtype=torch.float64).softmax(dim=1)
    best = (p / torch.tensor(alpha, dtype=torch.float64)).log()
    method = methods.create("ada_margin")
    least = value(method, best.tolist(), z, y, about=about)
    entropy = margin_loss(p.log(), p, torch.ones(5)).item()
    assert least == pytest.approx(entropy, rel=1e-9)
    nudge = 0.1 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert value(method, (best + nudge).tolist(), z, y, about=about) > least


def test_the_offset_is_the_least_alpha():
    f, z, y = draw(3, 4, 5)
    about = context(5, held_out=certain([0, 1, 2], 5, hits=True))  # alpha 1, 1, 1, 0, 0
    for offset in (1e-3, 1e-1):
        expected = ref.ada_margin(f, z, [1, 1, 1, offset, offset])
        method = methods.create("ada_margin", {"offset": offset})
        assert value(method, f, z, y, about=about) == pytest.approx(expected, rel=1e-9)


def test_the_hardest_tenth_rounded_up_learns_from_labels_and_the_others_alike():
    about = _with_confidences([0.9, 0.1, 0.8, 0.7, 0.05, 0.6, 0.95, 0.5, 0.4, 0.3, 0.85])
    method = methods.create("ada_alpha_remove_hardest")
    expected = [1.0] * 11
    expected[4] = expected[1] = 0  # ceil(1.1) = 2
    assert method.alphas(about).tolist() == expected
    lesser = methods.create("ada_alpha_remove_hardest", {"weight": 0.2, "removed": 0.05})
    assert lesser.alphas(about).tolist() == [0.2] * 4 + [0] + [0.2] * 6
    ten = _with_confidences([0.9, 0.1, 0.8, 0.7, 0.3, 0.6, 0.95, 0.5, 0.4, 0.2])
    assert method.alphas(ten).tolist() == [1, 0, *[1] * 8]


def test_removal_goes_by_margins_before_they_are_cut_at_0():
    about = _with_confidences([0.2, 0.1, 0.9])  # both of the first have an alpha of 0
    method = methods.create("ada_alpha_remove_hardest")
    assert method.alphas(about).tolist() == [1, 0, 1]


def test_shuffling_keeps_the_values_and_moves_them_by_its_own_seed_alone():
    about = _with_confidences([0.9, 0.1, 0.8, 0.7, 0.3, 0.6, 0.95, 0.5])
    plain = methods.create("ada_alpha").alphas(about)
    shuffled = methods.create("ada_alpha_shuffled").alphas(about)
    assert sorted(shuffled.tolist()) == sorted(plain.tolist())
    assert shuffled.tolist() != plain.tolist()
    later = dataclasses.replace(about, seed=7)
    assert methods.create("ada_alpha_shuffled").alphas(later).tolist() == shuffled.tolist()
    other = methods.create("ada_alpha_shuffled", {"shuffle_seed": 1}).alphas(about)
    assert other.tolist() != shuffled.tolist()


def test_ablations_differ_from_ada_alpha_in_their_alphas_only():
    f, z, y = draw(4, 4, 5)
    for name in ("ada_alpha_remove_hardest", "ada_alpha_shuffled"):
        method = methods.create(name, {"temperature": 2})
        alpha = method.alphas(context(5)).tolist()
        assert value(method, f, z, y) == pytest.approx(ref.ada_alpha(f, z, y, alpha, 2), rel=1e-9)


def test_a_high_temperature_inside_alpha_lowers_every_confidence():
    about = _with_confidences([0.9] * 8)
    warm = methods.create("ada_alpha", {"alpha_temperature": 50}).alphas(about)
    assert warm.max() < 0.1 < methods.create("ada_alpha").alphas(about).min()


def _alphas(about):
    return methods.create("ada_alpha").alphas(about).tolist()


def _with_confidences(confidences):
    """A hold-out of one image a class, whose true label has this probability."""
    m = len(confidences)
    rows = torch.full((m, m), 0.0, dtype=torch.float64)
    for i, p in enumerate(confidences):
        rows[i] = (1 - p) / (m - 1)
        rows[i, i] = p
    return context(m, held_out=HeldOut(rows.log(), torch.arange(m)))


# ---------------------------------------------------------------- Theorem 1


@property_test
@given(
    sizes=st.tuples(st.integers(1, 1000), st.integers(1, 1000)).map(sorted),
    share=st.floats(0.01, 0.999),
)
def test_distillation_costs_the_rarer_subgroup_more(sizes, share):
    """Theorem 1 with orthonormal subgroups, ridge regression and one round of self-distillation."""
    rare, common = sizes
    lam = share * (rare * common) ** 0.5
    gains = []
    for d in (rare, common):
        y = [1.0] * d
        (first,) = ref.ridge([d], lam, [y])
        (second,) = ref.ridge([d], lam, [[first] * d])
        error, distilled = (first - 1) ** 2, (second - 1) ** 2
        assert error == pytest.approx((lam / (d + lam)) ** 2, rel=1e-9)
        assert distilled == pytest.approx((1 - (d / (d + lam)) ** 2) ** 2, rel=1e-9)
        gains.append(error - distilled)
    assert gains[0] <= gains[1] + 1e-12
