"""Small network for 8x8 digits that trains in seconds on a laptop."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.base import Network, Stage, he_initialize

__all__ = ["DigitsCnn"]


class DigitsCnn(Network):
    """Two 3x3 convolutions to 16 and 32 channels with batch norm, and means over quarters.

    The map is averaged over its quarters, because the positions of strokes matter for digits. For
    gray images of ten classes the network has 6,138 parameters. Each convolution is a stage.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AvgPool2d(2, ceil_mode=True),  # ceil_mode: one pixel stays one pixel
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(4 * 32, classes)
        he_initialize(self)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        for layer in self.body:
            before, x = x, layer(x)
            if isinstance(layer, nn.ReLU):
                yield Stage(before, x)

    def pool(self, last: Tensor) -> Tensor:
        """Return means over the quarters of the last map, ``(batch, 128)``."""
        return F.adaptive_avg_pool2d(self.widen(last), 2).flatten(1)

    def initialize_class_maps(self) -> None:
        """See :class:`Network`; a convolution for a quarter has four times its linear weights."""
        super().initialize_class_maps()
        with torch.no_grad():
            self.classifier.weight /= 4

    def _maps(self, last: Tensor, weight: Tensor) -> Tensor:
        """See :class:`Network`; each quarter of the map has separate weights."""
        height, width = last.shape[-2:]
        weights = weight.unflatten(1, (32, 2, 2))
        maps = last.new_zeros(len(last), len(weights), height, width)
        for i, rows in enumerate(_halves(height)):
            for j, columns in enumerate(_halves(width)):
                quarter = last[..., rows, columns]
                share = quarter[0, 0].numel() / (height * width)
                given = F.conv2d(quarter, weights[:, :, i, j, None, None]) / share
                around = (columns.start, width - columns.stop, rows.start, height - rows.stop)
                maps = maps + F.pad(given, around)
        return maps


def _halves(length: int) -> tuple[slice, slice]:
    """Return the two halves of an axis; both contain the middle of an axis of odd length."""
    return slice(0, (length + 1) // 2), slice(length // 2, length)
