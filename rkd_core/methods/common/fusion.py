"""Attention-based fusion and hierarchical context loss of knowledge review.

See Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.methods.common.protocol import Context, needed
from rkd_core.seeds import stream_seed

__all__ = ["Fusion", "hierarchical_distance", "map_sizes"]

Shape = tuple[int, int, int]

WIDEST = 512  # maximum channels of fused maps
_SIDES = (4, 2, 1)  # sides of the pooled maps that are also compared


def map_sizes(context: Context) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes of the maps of student and teacher that are compared.

    Shapes are channels, height and width, for the stages and then for the pooled features as 1 x 1
    maps. If the networks differ in the number of stages, the deepest ones are paired.
    """
    student, teacher = (
        [*needed(shapes, "the shapes of stages"), (needed(width, "widths"), 1, 1)]
        for shapes, width in (
            (context.student_shapes, context.student_width),
            (context.teacher_shapes, context.teacher_width),
        )
    )
    levels = min(len(student), len(teacher))
    return student[-levels:], teacher[-levels:]


class Fusion(nn.Module):
    """Module that fuses a student's maps to maps of its teacher's shapes.

    Args:
        student: Shapes of the student's maps, from shallow to deep.
        teacher: Shapes of the teacher's maps, from shallow to deep.
        seed: Seed of the initial weights, which depend on the arguments alone.
    """

    def __init__(self, student: Sequence[Shape], teacher: Sequence[Shape], *, seed: int) -> None:
        super().__init__()
        width = min(WIDEST, student[-1][0])
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(stream_seed("review_kd", seed))
            self.levels = nn.ModuleList(
                _Level(own[0], width, wanted, fuses=depth < len(student) - 1)
                for depth, (own, wanted) in enumerate(zip(student, teacher, strict=True))
            )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps of the teacher's shapes, shallow to deep; ignore surplus shallow maps."""
        results: list[Tensor] = []
        deeper: Tensor | None = None
        for level, own in zip(reversed(self.levels), reversed(maps), strict=False):
            deeper, result = level(own, deeper)
            results.insert(0, result)
        return results


class _Level(nn.Module):
    """Fusion of one level with the upsampled result of the next deeper level, by attention."""

    def __init__(self, channels: int, width: int, wanted: Shape, *, fuses: bool) -> None:
        super().__init__()
        self._size = wanted[1:]
        narrow = nn.Conv2d(channels, width, 1, bias=False)
        widen = nn.Conv2d(width, wanted[0], 3, padding=1, bias=False)
        self.reduce = nn.Sequential(narrow, _BatchNorm(width))
        self.attention = nn.Conv2d(2 * width, 2, 1) if fuses else None
        self.expand = nn.Sequential(widen, _BatchNorm(wanted[0]))
        for convolution in (narrow, widen):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, own: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the fused map for the next shallower level, and the map of the teacher's shape."""
        fused = self.reduce(own)
        if self.attention is not None and deeper is not None:
            residual = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            shares = self.attention(torch.cat([fused, residual], dim=1)).sigmoid()
            fused = fused * shares[:, :1] + residual * shares[:, 1:]
        if fused.shape[2:] != self._size:
            fused = F.interpolate(fused, self._size, mode="nearest")
        return fused, self.expand(fused)


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics if each channel has a single value."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


def hierarchical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the hierarchical context loss (HCL) of two maps ``(batch, channels, h, w)``.

    It is the weighted mean of the squared errors of the maps and of the maps pooled to 4, 2 and 1
    pixels per side, with weights 1, 1/2, 1/4 and 1/8. Sides that are not below the height of the
    maps are skipped, and do not halve the weight.
    """
    total, weight, weights = F.mse_loss(a, b), 1.0, 1.0
    for side in _SIDES:
        if side < a.shape[2]:
            weight /= 2
            pooled = F.adaptive_avg_pool2d(a, side), F.adaptive_avg_pool2d(b, side)
            total = total + weight * F.mse_loss(*pooled)
            weights += weight
    return total / weights
