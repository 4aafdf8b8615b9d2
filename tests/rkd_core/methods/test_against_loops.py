"""Every loss and its gradient against the plain loops of ``reference``."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given

from rkd_core import methods
from rkd_core.metrics.class_groups import equal_groups, head_medium_tail
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import context, draw, inputs, problems, property_test, value


def alphas(classes):
    held_out = context(classes).held_out
    z, y = held_out.logits.double().tolist(), held_out.labels.tolist()
    return ref.alphas(z, y, classes)


def groups(classes, count):
    counts = context(classes).class_counts
    if count == "head_medium_tail":
        return list(head_medium_tail(counts).values()) or [list(range(classes))]
    return equal_groups(counts, count)


def group_dro(f, z, y, frozen):
    m = len(f[0])
    q = ref.group_dro_weights(
        [1 / m] * m, ref.class_losses(frozen, y), 0.5, 2.0, context(m).class_counts
    )
    return ref.group_dro(f, y, q)


def cut(classes, floor=0.0):
    return [max(floor, v) for v in alphas(classes)]


# Method, options, and the loops: of student's and teacher's logits, labels, and the student's
# logits once more where they carry no gradient.
CASES = {
    "one_hot": ("one_hot", {}, lambda f, z, y, frozen: ref.hard(f, y)),
    "standard": (
        "standard",
        {"temperature": 3},
        lambda f, z, y, frozen: ref.standard(f, z, y, 3),
    ),
    "standard mixed": (
        "standard",
        {"temperature": 0.9, "one_hot_weight": 0.8},
        lambda f, z, y, frozen: ref.standard(f, z, y, 0.9, 0.8),
    ),
    "ada_alpha": (
        "ada_alpha",
        {"temperature": 2},
        lambda f, z, y, frozen: ref.ada_alpha(f, z, y, cut(len(f[0])), 2),
    ),
    "ada_margin": (
        "ada_margin",
        {"temperature": 2},
        lambda f, z, y, frozen: ref.ada_margin(f, z, cut(len(f[0]), 1e-2), 2),
    ),
    "weighted_soft_labels": (
        "weighted_soft_labels",
        {},
        lambda f, z, y, frozen: ref.weighted_soft_labels(
            f, z, y, 4, 2.25, ref.image_weights(frozen, z, y)
        ),
    ),
    "group_dro": ("group_dro", {"step_size": 0.5, "adjustment": 2}, group_dro),
    "kd": ("kd", {}, lambda f, z, y, frozen: ref.kd(f, z, y, 4, 0.1, 0.9)),
    "dkd": ("dkd", {}, lambda f, z, y, frozen: ref.dkd(f, z, y, 4, 1, 8, 1)),
    "dist": ("dist", {}, lambda f, z, y, frozen: ref.dist(f, z, y, 4, 2, 2)),
    "ltkd": (
        "ltkd",
        {"cross_weight": 2, "within_weight": 3},
        lambda f, z, y, frozen: ref.ltkd(f, z, y, groups(len(f[0]), "head_medium_tail"), 4, 2, 3),
    ),
    "ltkd biased, by the teacher": (
        "ltkd",
        {"groups": 2, "rebalance": False, "within": "teacher"},
        lambda f, z, y, frozen: ref.ltkd(
            f, z, y, groups(len(f[0]), 2), 4, 1, 1, rebalance=False, within="teacher"
        ),
    ),
    "cat_kd": (
        "cat_kd",
        {},
        lambda f, z, y, frozen: ref.cat_kd(f, y, *maps(f, z, y), 15, 2, False),
    ),
    "cat_kd normalised": (
        "cat_kd",
        {"normalize": True, "resolution": 4},
        lambda f, z, y, frozen: ref.cat_kd(f, y, *maps(f, z, y), 15, 4, True),
    ),
}
WITHOUT_LOOPS = {"review_kd"}  # its convolutions are PyTorch's; the distance has a test of its own


def maps(f, z, y):
    given = inputs(f, z, y)
    return given.student_maps.tolist(), given.teacher_maps.tolist()


def test_every_method_with_a_loss_is_here():
    with_a_loss = {
        name
        for name in methods.descriptions()
        if "loss" in vars(methods.find(name)) or methods.create(name).cell is None
    } - {"post_shift"}
    derived = {"ada_alpha_remove_hardest", "ada_alpha_shuffled"}  # AdaAlpha's loss
    assert with_a_loss == {name for name, _, _ in CASES.values()} | WITHOUT_LOOPS | derived


@pytest.mark.parametrize("case", CASES)
@property_test
@given(problem=problems)
def test_loss_is_that_of_the_loops(case, problem):
    name, options, loops = CASES[case]
    f, z, y = problem
    expected = loops(f, z, y, f)
    assert value(methods.create(name, options), f, z, y) == pytest.approx(
        # Weights of images divide rounding errors by 1e-7.
        expected,
        rel=1e-9,
        abs=1e-6 if name == "weighted_soft_labels" else 1e-9,
    )


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_finite_differences_of_the_loops(case):
    name, options, loops = CASES[case]
    f, z, y = draw(3, 3, 4)
    given = inputs(f, z, y)
    given.logits.requires_grad_()
    methods.create(name, options).loss(context(4))(given).backward()
    numeric, step = np.zeros((3, 4)), 1e-5
    for i, j in np.ndindex(3, 4):
        up, down = [list(row) for row in f], [list(row) for row in f]
        up[i][j] += step
        down[i][j] -= step
        numeric[i, j] = (loops(up, z, y, f) - loops(down, z, y, f)) / (2 * step)
    assert given.logits.grad is not None
    np.testing.assert_allclose(given.logits.grad.numpy(), numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_of_the_maps_too(normalize):
    f, z, y = draw(3, 2, 3)
    given = inputs(f, z, y)
    maps = given.student_maps[:, :, :2, :2].clone().requires_grad_()
    loss = methods.create("cat_kd", {"normalize": normalize}).loss(context(3))

    def of(maps: torch.Tensor) -> torch.Tensor:
        return loss(dataclasses.replace(given, student_maps=maps))

    assert torch.autograd.gradcheck(of, (maps,))
