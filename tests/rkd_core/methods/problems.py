"""Random problems for the tests of the methods."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from rkd_core.methods.common.protocol import Context, Features, HeldOut, LossInputs, Method


def draw(seed: int, batch: int, classes: int, scale: float = 2.0):
    """Draw logits of a student, logits of a teacher and labels as nested lists."""
    rng = np.random.default_rng(seed)
    f = scale * rng.standard_normal((batch, classes))
    z = scale * rng.standard_normal((batch, classes))
    return f.tolist(), z.tolist(), rng.integers(0, classes, batch).tolist()


def context(classes: int, **changes) -> Context:
    rng = np.random.default_rng(0)
    n = 4 * classes
    defaults = {
        "classes": classes,
        "device": "cpu",
        "seed": 0,
        "epochs": 12,
        "class_counts": tuple(int(v) for v in rng.integers(1, 50, classes)),
        "held_out": HeldOut(
            torch.tensor(3 * rng.standard_normal((n, classes)), dtype=torch.float32),
            torch.arange(n) % classes,
        ),
        "student_shapes": ((3, 4, 4), (5, 2, 2)),
        "teacher_shapes": ((4, 8, 8), (6, 4, 4), (7, 2, 2)),
        "student_width": 5,
        "teacher_width": 7,
    }
    return Context(**{**defaults, **changes})


def features(rng: np.random.Generator, batch: int, shapes, width: int, dtype) -> Features:
    def some(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.standard_normal(shape)).to(dtype)

    before = tuple(some(batch, *shape) for shape in shapes)
    return Features(before, tuple(m.relu() for m in before), some(batch, width))


def inputs(f, z, y, dtype=torch.float64, epoch: float = 12) -> LossInputs:
    """Return all inputs that any method could need."""
    rng = np.random.default_rng(1)
    logits = torch.tensor(f, dtype=torch.float64).to(dtype)
    batch, classes = logits.shape
    about = context(classes)
    return LossInputs(
        labels=torch.tensor(y),
        logits=logits,
        teacher_logits=torch.tensor(z, dtype=torch.float64).to(dtype),
        student_features=features(rng, batch, about.student_shapes, 5, dtype),
        teacher_features=features(rng, batch, about.teacher_shapes, 7, dtype),
        student_maps=torch.tensor(rng.standard_normal((batch, classes, 4, 4))).to(dtype),
        teacher_maps=torch.tensor(rng.standard_normal((batch, classes, 4, 4))).to(dtype),
        epoch=torch.tensor(epoch, dtype=torch.float32),
    )


def value(method: Method, f, z, y, *, about: Context | None = None, epoch: float = 12) -> float:
    """Return the value of a new loss on one batch, in float64."""
    given = inputs(f, z, y, epoch=epoch)
    loss = method.loss(about or context(len(f[0])))
    return loss(given).item()


problems = st.builds(
    draw,
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 5),
    classes=st.integers(2, 7),
    scale=st.sampled_from([0.1, 2.0, 20.0]),
)
property_test = settings(deadline=None, max_examples=25, derandomize=True)
