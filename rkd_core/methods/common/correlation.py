"""Pearson correlations with a gradient that is written down."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["agreement"]

EPSILON = 1e-8  # of the authors' code of DIST


def agreement(student: Tensor, teacher: Tensor, rows: float, columns: float) -> Tensor:
    """``rows`` times the mean correlation of the rows, and ``columns`` times that of the columns.

    A correlation is 0, without gradient, where one of the two is constant; there the gradient of
    the reference code is as large as one over epsilon. With ``a`` and ``b`` less their means, it
    is ``r = a b / (|a| |b| + epsilon)``, and its derivative by ``a`` is
    ``(b - r |b| a / |a|) / (|a| |b| + epsilon)``, whose mean is 0 as well. Written down, it takes
    a part of the time of two dozen small steps backward, which a small network's step notices.

    Args:
        student: ``(batch, classes)``; the gradient goes here.
        teacher: The same; no gradient.
        rows: Weight.
        columns: Weight.

    Returns:
        A scalar, from ``-rows - columns`` to ``rows + columns``.
    """
    result: Tensor = _Agreement.apply(student, teacher, rows, columns)
    return result


class _Agreement(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, rows: float, columns: float) -> Tensor:  # type: ignore[no-untyped-def]
        # Both at a time: on small batches it is the number of operations that costs.
        both = torch.stack([student, teacher])
        by_row, gradient = _correlation(both, 1, rows)
        by_column, other = _correlation(both, 0, columns)
        ctx.save_for_backward(gradient + other)
        return by_row + by_column

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[no-untyped-def]
        (derivative,) = ctx.saved_tensors
        return gradient * derivative, None, None, None


def _correlation(both: Tensor, dim: int, weight: float) -> tuple[Tensor, Tensor]:
    """Weighted mean of the correlations along a dimension, and its derivative by the first."""
    (a, b), spread, constant = _centered(both, dim)
    spread_a, spread_b = spread
    scale = spread_a * spread_b + EPSILON
    scale.masked_fill_(constant.any(dim=0), math.inf)
    correlation = (a * b).sum(dim=dim, keepdim=True) / scale
    own = correlation * spread_b / spread_a.clamp_min(torch.finfo(scale.dtype).tiny)
    each = weight / correlation.numel()
    return each * correlation.sum(), torch.addcmul(b, own, a, value=-1) * (each / scale)


def _centered(both: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values less their mean, the norm of that, and whether they differ by rounding alone."""
    rounding, along = 8 * torch.finfo(both.dtype).eps, dim + 1
    centered = both - both.mean(dim=along, keepdim=True)
    spread, size = (torch.linalg.vector_norm(v, dim=along, keepdim=True) for v in (centered, both))
    return centered, spread, spread <= rounding * size
