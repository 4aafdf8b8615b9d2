"""Residual networks for small images: He et al. (CVPR 2016), section 4.2.

The stem is a 3x3 convolution to 16 channels. Three stages of equal depth follow, with 16, 32 and 64
channels; the last two start by halving the map. The network ends in global average pooling and a
linear layer. In the wide variants of distillation code ("x4"), the stem has 32 channels, and the
stages have 64, 128 and 256.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.base import Network, Stage, conv_bn, he_initialize

__all__ = ["CifarResNet"]


class CifarResNet(Network):
    """CIFAR ResNet of ``depth`` = 6k + 2, with k blocks per stage.

    If the shape changes, the shortcut is a projection (option B of He et al., as in common
    distillation code; the parameter-free option A would save 2,752 parameters).

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110 and so on.
        classes: Number of logits.
        channels: Channels of the images.
        widths: Channels of the stem, then of each stage.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        channels: int,
        widths: tuple[int, ...] = (16, 16, 32, 64),
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has a depth of 8, 14, 20 and so on, not {depth}")
        self.stem = nn.Sequential(*conv_bn(channels, widths[0], 3), nn.ReLU())
        self.stages = nn.Sequential()  # the blocks of all stages in order
        self._length = (depth - 2) // 6
        width_in = widths[0]
        for stage, width in enumerate(widths[1:]):
            for i in range(self._length):
                stride = 2 if stage > 0 and i == 0 else 1
                self.stages.append(_Block(width_in, width, stride))
                width_in = width
        self.classifier = nn.Linear(width_in, classes)
        he_initialize(self)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        x = self.stem(x)
        for number, block in enumerate(self.stages, start=1):
            before = block.before(x)  # type: ignore[operator]
            x = F.relu(before)
            if number % self._length == 0:
                yield Stage(before, x)


class _Block(nn.Module):
    """Basic residual block, relu(x + convolutions(x)); the first convolution has the stride."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_bn(width_in, width, 3, stride), nn.ReLU(), *conv_bn(width, width, 3)
        )
        self.shortcut = (
            nn.Sequential(*conv_bn(width_in, width, 1, stride))
            if width != width_in
            else nn.Identity()
        )

    def before(self, x: Tensor) -> Tensor:
        """Return the sum before the last activation function."""
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.before(x))
