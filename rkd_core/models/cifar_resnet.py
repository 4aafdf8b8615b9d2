"""Residual networks for small images: He et al. (CVPR 2016), section 4.2, and Google's variant.

A 3x3 convolution to 16 channels, then three stages of equal length with 16, 32 and 64 channels,
the last two of which begin by halving the map; then the mean over the map, and a linear layer.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.network import Network, he_initialize

__all__ = ["CifarResNet"]

WIDTHS = (16, 32, 64)


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
    """

    def __init__(
        self, depth: int, classes: int, channels: int, block: Literal["basic", "google"] = "basic"
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has a depth of 8, 14, 20 and so on, not {depth}")
        google = block == "google"
        self.stem = nn.Sequential(*_convolution(channels, WIDTHS[0], 3), nn.ReLU())
        self.stages = nn.Sequential()
        width_in = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for i in range((depth - 2) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                project = i == 0 and (google or width != width_in)
                kernels = (1, 3, 1) if google else (3, 3)
                self.stages.append(_Block(width_in, width, kernels, stride, project))
                width_in = width
        self.last = nn.Sequential(nn.BatchNorm2d(width_in), nn.ReLU()) if google else nn.Identity()
        self.classifier = nn.Linear(width_in, classes)
        he_initialize(self)

    def features(self, x: Tensor) -> Tensor:
        """Mean over the last map, ``(batch, 64)``; see :class:`Network`."""
        maps: Tensor = self.last(self.stages(self.stem(x)))
        return maps.mean((-2, -1))


class _Block(nn.Module):
    """relu(x + convolutions(x)); the first convolution carries the stride."""

    def __init__(
        self, width_in: int, width: int, kernels: tuple[int, ...], stride: int, project: bool
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_convolution(width_in, width, kernels[0], stride))
        for kernel in kernels[1:]:
            self.residual.extend([nn.ReLU(), *_convolution(width, width, kernel)])
        self.shortcut = (
            nn.Sequential(*_convolution(width_in, width, 1, stride)) if project else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.residual(x))


def _convolution(width_in: int, width: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (but for the stride), with batch norm and so no bias."""
    convolution = nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width)]
