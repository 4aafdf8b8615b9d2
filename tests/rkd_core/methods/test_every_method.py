"""Properties of every loss: extreme values, precision, state, repeatability."""

import dataclasses

import numpy as np
import pytest
import torch

from rkd_core import methods
from rkd_core.methods.common.protocol import Context, HeldOut, Shift
from tests.rkd_core.methods.problems import context, draw, inputs

LOSSES = [
    name
    for name in methods.descriptions()
    if not issubclass(methods.find(name), Shift)
    and (methods.create(name).cell is None or "loss" in vars(methods.find(name)))
]
VARIANTS = {
    **{name: (name, {}) for name in LOSSES},
    "standard, mixed": ("standard", {"one_hot_weight": 0.5}),
    "cat_kd, normalised": ("cat_kd", {"normalize": True}),
    "ltkd, a group for each class": ("ltkd", {"groups": 1}),
    "ltkd, biased": ("ltkd", {"rebalance": False, "within": "teacher"}),
    "review_kd, before activation": ("review_kd", {"before_activation": True}),
}


def made(name: str, about: Context):
    method, options = VARIANTS[name]
    return methods.create(method, options).loss(about)


def held_out(classes: int) -> HeldOut:
    """The last class is absent, unless it is the only one."""
    rng = np.random.default_rng(0)
    labels = torch.arange(3 * classes) % max(classes - 1, 1)
    return HeldOut(torch.tensor(rng.standard_normal((3 * classes, classes))), labels)


CORNERS = {
    "batch of one": draw(0, 1, 4),
    "one class": draw(1, 3, 1),
    "one class, batch of one": draw(1, 1, 1),
    "two classes": draw(2, 3, 2),
    "absent classes": (*draw(3, 4, 6)[:2], [2, 2, 2, 2]),
    "equal logits": ([[0.0] * 4] * 3, [[0.0] * 4] * 3, [0, 1, 2]),
    "equal logits of the student": ([[0.0] * 4] * 3, draw(4, 3, 4)[1], [0, 1, 2]),
    "the same row": ([[1.0, 2.0, 3.0]] * 3, [[3.0, 1.0, 0.0]] * 3, [0, 1, 2]),
    "wrong by 1e4": ([[1e4, -1e4, 0.0]] * 2, [[-1e4, 1e4, 0.0]] * 2, [1, 2]),
    "right by 1e4": ([[1e4, -1e4, 0.0]] * 2, [[1e4, -1e4, 0.0]] * 2, [0, 0]),
    "minus 1e4 everywhere": ([[-1e4] * 3] * 2, [[-1e4] * 3] * 2, [0, 1]),
    "teacher without doubt": (
        draw(5, 2, 3)[0],
        [[0.0, -np.inf, 1.0], [-np.inf, -np.inf, 0.0]],
        [0, 1],
    ),
    "teacher beyond float16": (draw(6, 2, 3)[0], [[np.inf, 0.0, 1.0], [0.0, np.inf, 0.0]], [0, 1]),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_gradients_are_finite_at_the_corners(name, corner):
    f, z, y = CORNERS[corner]
    classes = len(f[0])
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        given = inputs(f, z, y, dtype=dtype)
        leaves = [given.logits, given.student_maps, given.student_features.pooled]
        leaves += [*given.student_features.before]
        for leaf in leaves:
            leaf.requires_grad_()
        outputs = tuple(m.relu() for m in given.student_features.before)
        seen = dataclasses.replace(given.student_features, outputs=outputs)
        loss = made(name, context(classes, held_out=held_out(classes)))
        if dtype == torch.float64:
            loss.double()
        result = loss(dataclasses.replace(given, student_features=seen))
        result.backward()
        assert result.shape == ()
        assert result.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.isfinite(result), dtype
        assert given.logits.grad is not None
        for leaf in [*leaves, *loss.parameters()]:
            assert leaf.grad is None or torch.isfinite(leaf.grad).all(), dtype


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", VARIANTS)
def test_autocast_and_half_precision_leave_the_arithmetic_in_float32(name, autocast):
    f, z, y = draw(7, 6, 5)
    half = inputs(f, z, y, dtype=autocast)
    single = dataclasses.replace(
        inputs(f, z, y, dtype=torch.float32),
        **{
            key: getattr(half, key).float()
            for key in ("logits", "teacher_logits", "student_maps", "teacher_maps")
        },
    )
    loss, other = made(name, context(5)), made(name, context(5))
    expected = other(single)
    with torch.autocast("cpu", dtype=autocast):
        result = loss(half)
    assert result.dtype == torch.float32
    # Features of review_kd are rounded to half precision too, and so differ a little.
    assert result.item() == pytest.approx(expected.item(), rel=2e-2 if "review" in name else 2e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_poisoned_teacher_or_student_shows(name):
    f, z, y = draw(8, 3, 4)
    f[0][0] = np.nan
    assert made(name, context(4))(inputs(f, z, y, dtype=torch.float32)).isnan()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_teacher_gets_no_gradient(name):
    f, z, y = draw(9, 3, 4)
    given = inputs(f, z, y, dtype=torch.float32)
    given.logits.requires_grad_()
    of_teacher = [given.teacher_logits, given.teacher_maps, given.teacher_features.pooled]
    of_teacher += given.teacher_features.before
    for tensor in of_teacher:
        tensor.requires_grad_()
    made(name, context(4))(given).backward()
    assert all(tensor.grad is None for tensor in of_teacher)


@pytest.mark.parametrize("name", VARIANTS)
def test_relabeling_the_classes_changes_nothing(name):
    if name in {"ada_alpha_shuffled", "ltkd, a group for each class"}:
        pytest.skip("depends on the labels' order")
    f, z, y = draw(10, 5, 6)
    order = [3, 0, 5, 1, 4, 2]  # the class at each new place
    about = context(6, class_counts=(60, 50, 40, 30, 20, 10))
    held = about.held_out
    moved = context(
        6,
        class_counts=tuple(about.class_counts[c] for c in order),
        held_out=HeldOut(
            held.logits[:, order], torch.tensor([order.index(int(c)) for c in held.labels])
        ),
    )
    first = inputs(f, z, y, dtype=torch.float32)
    second = dataclasses.replace(
        first,
        labels=torch.tensor([order.index(c) for c in y]),
        **{
            key: getattr(first, key)[:, order]
            for key in ("logits", "teacher_logits", "student_maps", "teacher_maps")
        },
    )
    expected = made(name, about)(first).item()
    assert made(name, moved)(second).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_order_of_a_batch_does_not_matter(name):
    f, z, y = draw(11, 4, 5)
    given = inputs(f, z, y)
    turned = dataclasses.replace(
        given,
        labels=given.labels.flip(0),
        **{
            key: getattr(given, key).flip(0)
            for key in ("logits", "teacher_logits", "student_maps", "teacher_maps")
        },
        **{
            key: dataclasses.replace(
                value := getattr(given, key),
                before=tuple(m.flip(0) for m in value.before),
                outputs=tuple(m.flip(0) for m in value.outputs),
                pooled=value.pooled.flip(0),
            )
            for key in ("student_features", "teacher_features")
        },
    )
    losses = [made(name, context(5)).double() for _ in range(2)]
    assert losses[0](given).item() == pytest.approx(losses[1](turned).item(), rel=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_state_that_is_loaded_goes_on_to_the_last_bit_in_the_same_tensors(name):
    def step(loss, seed):
        result = loss(inputs(*draw(seed, 4, 5), dtype=torch.float32))
        result.backward() if result.requires_grad else None
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.sub_(0.1 * parameter.grad)
        loss.zero_grad()
        return result.item()

    loss = made(name, context(5))
    for seed in range(2):
        step(loss, seed)
    kept = {key: v.clone() for key, v in loss.state_dict().items()}
    expected = [step(loss, seed) for seed in range(2, 5)]
    other = made(name, context(5))
    places = [v.data_ptr() for v in other.state_dict().values()]
    other.load_state_dict(kept)
    assert [step(other, seed) for seed in range(2, 5)] == expected
    assert [v.data_ptr() for v in other.state_dict().values()] == places


def test_only_these_keep_state_and_only_this_one_is_trained():
    made_ones = {name: made(name, context(5)) for name in LOSSES}
    assert [n for n, loss in made_ones.items() if loss.state_dict()] == ["group_dro", "review_kd"]
    assert [n for n, loss in made_ones.items() if list(loss.parameters())] == ["review_kd"]


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_decided_on_values_or_brought_to_the_cpu(name):
    """Take a step on a device without values, as recorded steps require."""
    given = inputs(*draw(12, 4, 5), dtype=torch.float32)
    loss = made(name, context(5))
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = {
            f.name: _each(getattr(given, f.name), mode.from_tensor)
            for f in dataclasses.fields(given)
        }
        fake["logits"].requires_grad_()
        loss(type(given)(**fake))


def _each(value, function):
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(_each(v, function) for v in value)
    changes = {f.name: _each(getattr(value, f.name), function) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **changes)


@pytest.mark.parametrize("name", LOSSES)
def test_needs_are_the_truth(name):
    """Given what its needs name, and nothing else, a method works."""
    method = methods.create(name)
    needs, given, about = method.needs, inputs(*draw(13, 4, 5), dtype=torch.float32), context(5)
    about = dataclasses.replace(
        about,
        class_counts=about.class_counts if needs.class_counts else None,
        held_out=about.held_out if needs.holdout else None,
        **{
            key: getattr(about, key) if needs.features else None
            for key in ("student_shapes", "teacher_shapes", "student_width", "teacher_width")
        },
    )
    present = {
        "teacher_logits": needs.teacher and not (needs.features or needs.maps),
        "student_features": needs.features,
        "teacher_features": needs.features,
        "student_maps": needs.maps,
        "teacher_maps": needs.maps,
    }
    only = {key: getattr(given, key) if there else None for key, there in present.items()}
    assert torch.isfinite(method.loss(about)(dataclasses.replace(given, **only)))
    if needs.teacher:
        nothing = dict.fromkeys(present)
        with pytest.raises(ValueError, match="this method needs"):
            method.loss(about)(dataclasses.replace(given, **nothing))


@pytest.mark.parametrize("key", ["class_counts", "held_out", "student_shapes", "student_width"])
def test_inputs_that_a_method_needs_before_the_first_step_are_requested(key):
    name = {"class_counts": "ltkd", "held_out": "ada_alpha"}.get(key, "review_kd")
    with pytest.raises(ValueError, match="this method needs"):
        methods.create(name).loss(context(5, **{key: None}))


def test_shapes_that_do_not_fit_are_refused():
    given = inputs(*draw(14, 4, 5))
    loss = made("kd", context(5))
    with pytest.raises(ValueError, match="student and teacher differ in shape"):
        loss(dataclasses.replace(given, teacher_logits=given.teacher_logits[:, :4]))
    with pytest.raises(ValueError, match="a loss takes logits"):
        loss(dataclasses.replace(given, labels=given.labels[:2]))
