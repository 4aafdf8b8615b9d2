"""Residual networks for small images: He et al. (CVPR 2016), section 4.2, and Google's variant.

A 3x3 convolution to 16 channels, then three stages of equal length with 16, 32 and 64 channels,
the last two of which begin by halving the map; then the mean over the map, and a linear layer.
The wide ones of distillation code ("x4") have 32 channels, then 64, 128 and 256.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.network import Network, Stage, conv_bn, he_initialize

__all__ = ["CifarResNet"]


class CifarResNet(Network):
    """CIFAR ResNet of ``depth`` = 6k + 2, with k blocks a stage.

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110 and so on.
        classes: Number of logits.
        channels: Channels of the images.
        block: ``basic``: two 3x3 convolutions and, where the shape changes, a projection shortcut
            (option B of He et al., the one of common distillation code; the parameter-free option
            A has 2,752 parameters fewer). ``google``: the network that Google's public long-tail
            code calls ResNet: three convolutions of equal width (1x1, 3x3, 1x1) a block, a
            projection at the start of every stage, and one more batch norm before the mean.
        widths: Channels of the stem, then of each stage.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        channels: int,
        block: Literal["basic", "google"] = "basic",
        widths: tuple[int, ...] = (16, 16, 32, 64),
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has a depth of 8, 14, 20 and so on, not {depth}")
        google = block == "google"
        self.stem = nn.Sequential(*conv_bn(channels, widths[0], 3), nn.ReLU())
        self.stages = nn.Sequential()  # all their blocks, one after the other
        self._length = (depth - 2) // 6
        width_in = widths[0]
        for stage, width in enumerate(widths[1:]):
            for i in range(self._length):
                stride = 2 if stage > 0 and i == 0 else 1
                project = i == 0 and (google or width != width_in)
                kernels = (1, 3, 1) if google else (3, 3)
                self.stages.append(_Block(width_in, width, kernels, stride, project))
                width_in = width
        self.last = nn.Sequential(nn.BatchNorm2d(width_in), nn.ReLU()) if google else nn.Identity()
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

    def last_map(self, stage: Stage) -> Tensor:
        """See :class:`Network`."""
        maps: Tensor = self.last(stage.output)
        return maps


class _Block(nn.Module):
    """relu(x + convolutions(x)); the first convolution carries the stride."""

    def __init__(
        self, width_in: int, width: int, kernels: tuple[int, ...], stride: int, project: bool
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(*conv_bn(width_in, width, kernels[0], stride))
        for kernel in kernels[1:]:
            self.residual.extend([nn.ReLU(), *conv_bn(width, width, kernel)])
        self.shortcut = (
            nn.Sequential(*conv_bn(width_in, width, 1, stride)) if project else nn.Identity()
        )

    def before(self, x: Tensor) -> Tensor:
        """All but the last activation."""
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.before(x))
