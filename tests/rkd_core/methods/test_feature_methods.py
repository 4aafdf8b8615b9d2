"""The features that review_kd and cat_kd compare."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from rkd_core import methods
from rkd_core.methods.common.fusion import Fusion, hierarchical_distance, map_sizes
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import context, draw, inputs


def some(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------- review_kd


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_hierarchical_distance_is_that_of_the_loops(side):
    a, b = some(2, 3, side, side), some(2, 3, side, side, seed=1)
    expected = ref.hierarchical_distance(a.tolist(), b.tolist())
    assert hierarchical_distance(a, b).item() == pytest.approx(expected, rel=1e-12)


def test_the_distance_of_a_map_to_itself_is_nothing():
    a = some(2, 3, 8, 8)
    assert hierarchical_distance(a, a).item() == 0


def test_fused_maps_have_the_teachers_shapes_at_every_level():
    student, teacher = map_sizes(context(4))
    assert student == [(3, 4, 4), (5, 2, 2), (5, 1, 1)]
    assert teacher == [(6, 4, 4), (7, 2, 2), (7, 1, 1)]  # the deepest are paired
    maps = [torch.randn(2, *shape) for shape in student]
    fused = Fusion(student, teacher, seed=0)(maps)
    assert [tuple(m.shape[1:]) for m in fused] == teacher


def test_a_student_with_more_stages_gives_its_deepest():
    about = context(
        4,
        student_shapes=context(4).teacher_shapes,
        teacher_shapes=context(4).student_shapes,
        student_width=7,
        teacher_width=5,
    )
    given = inputs(*draw(0, 3, 4), dtype=torch.float32)
    swapped = dataclasses.replace(
        given,
        student_features=given.teacher_features,
        teacher_features=given.student_features,
    )
    assert torch.isfinite(methods.create("review_kd").loss(about)(swapped))


def test_deeper_stages_reach_shallower_maps_and_not_the_other_way():
    student, teacher = map_sizes(context(4))
    fusion = Fusion(student, teacher, seed=0).eval()
    maps = [torch.randn(2, *shape, requires_grad=True) for shape in student]
    fusion(maps)[0].sum().backward()
    assert all(m.grad is not None for m in maps)
    maps = [torch.randn(2, *shape, requires_grad=True) for shape in student]
    fusion(maps)[-1].sum().backward()
    assert [m.grad is not None for m in maps] == [False, False, True]


def test_a_level_mixes_its_own_map_with_the_enlarged_deeper_one_by_attention():
    level = Fusion([(3, 4, 4), (5, 2, 2)], [(6, 8, 8), (7, 2, 2)], seed=0).double().eval().levels[0]
    own, deeper = some(2, 3, 4, 4), some(2, 5, 2, 2, seed=1)
    scale = 1 / (1 + 1e-5) ** 0.5  # batch norm as it is at first
    reduced = scale * torch.einsum("oi,bihw->bohw", level.reduce[0].weight[:, :, 0, 0], own)
    enlarged = deeper.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    both = torch.cat([reduced, enlarged], dim=1)
    scores = torch.einsum("oi,bihw->bohw", level.attention.weight[:, :, 0, 0], both)
    shares = 1 / (1 + (-scores - level.attention.bias[None, :, None, None]).exp())
    mixed = shares[:, 0:1] * reduced + shares[:, 1:2] * enlarged
    wanted = mixed.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    fused, result = level(own, deeper)
    torch.testing.assert_close(fused, wanted)
    expanded = scale * F.conv2d(wanted, level.expand[0].weight, padding=1)
    torch.testing.assert_close(result, expanded)


def test_the_fusion_follows_its_seed_alone():
    student, teacher = map_sizes(context(4))

    def weights(seed):
        return list(Fusion(student, teacher, seed=seed).state_dict().values())

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = weights(0), weights(0), weights(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_its_width_is_the_students_last_up_to_512():
    for last, width in ((64, 64), (1024, 512)):
        fusion = Fusion([(last, 1, 1)], [(8, 1, 1)], seed=0)
        assert fusion.levels[0].reduce[0].out_channels == width
        assert fusion.levels[0].attention is None


def test_the_loss_is_labels_plus_distances_to_the_teacher_before_activation():
    given = inputs(*draw(1, 3, 4), dtype=torch.float32)
    loss = methods.create("review_kd", {"weight": 2}).loss(context(4))
    loss.trained.eval()
    student, teacher = given.student_features, given.teacher_features
    fused = loss.trained([*student.outputs, student.pooled[:, :, None, None]])
    wanted = [*teacher.before[1:], teacher.pooled[:, :, None, None]]
    expected = F.cross_entropy(given.logits, given.labels) + 2 * sum(
        map(hierarchical_distance, fused, wanted)
    )
    assert loss(given).item() == pytest.approx(expected.item(), rel=1e-6)


def test_training_the_fusion_lowers_the_loss():
    given = inputs(*draw(2, 8, 4), dtype=torch.float32)
    loss = methods.create("review_kd").loss(context(4))
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05, momentum=0.9)
    curve = []
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(given)
        value.backward()
        optimizer.step()
        curve.append(value.item())
    assert curve[-1] < 0.9 * curve[0]


# ---------------------------------------------------------------- cat_kd


def test_the_mean_of_class_activation_maps_is_a_classifier_without_bias():
    maps, weight = some(2, 5, 4, 4), some(3, 5, seed=1)
    activation = F.conv2d(maps, weight[:, :, None, None])
    expected = F.linear(maps.mean(dim=(2, 3)), weight)
    torch.testing.assert_close(activation.mean(dim=(2, 3)), expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_equal_maps_leave_the_label_term(normalize):
    given = inputs(*draw(3, 3, 4))
    same = dataclasses.replace(given, teacher_maps=given.student_maps)
    loss = methods.create("cat_kd", {"normalize": normalize}).loss(context(4))
    expected = F.cross_entropy(given.logits, given.labels).item()
    assert loss(same).item() == pytest.approx(expected, rel=1e-12)


def test_normalised_maps_are_compared_by_shape_alone():
    given = inputs(*draw(4, 3, 4))
    louder = dataclasses.replace(given, teacher_maps=7 * given.teacher_maps)
    loss = methods.create("cat_kd", {"normalize": True}).loss(context(4))
    assert loss(louder).item() == pytest.approx(loss(given).item(), rel=1e-12)


def test_maps_of_other_sizes_are_pooled_to_one():
    given = inputs(*draw(5, 3, 4))
    larger = F.interpolate(given.teacher_maps, scale_factor=2, mode="nearest")
    loss = methods.create("cat_kd").loss(context(4))
    other = loss(dataclasses.replace(given, teacher_maps=larger))
    assert other.item() == pytest.approx(loss(given).item(), rel=1e-12)
