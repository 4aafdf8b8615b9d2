"""Random problems for the tests of the objectives, and the gradient of the loss on them."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from rkd_core.objectives import margin_loss


def draw(seed: int, batch: int, classes: int, scale: float = 3.0):
    """Logits, targets whose rows sum to one, costs over six orders of magnitude; all float64."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((batch, classes))
    targets = rng.dirichlet(np.full(classes, 0.5), size=batch)
    costs = 10.0 ** rng.uniform(-3, 3, classes)
    return logits, targets, costs


def tensors(*arrays, dtype=torch.float64):
    return tuple(torch.tensor(np.asarray(a), dtype=dtype) for a in arrays)


def simplex(seed: int, classes: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).dirichlet(np.ones(classes)))


def gradient(logits, targets, costs, **options) -> np.ndarray:
    f, q, c = tensors(logits, targets, costs)
    f.requires_grad_()
    margin_loss(f, q, c, **options).backward()
    return f.grad.numpy()


problems = st.builds(
    draw,
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 6),
    classes=st.integers(1, 7),
    scale=st.sampled_from([0.0, 1.0, 30.0, 3000.0]),
)
property_test = settings(deadline=None, max_examples=60)
