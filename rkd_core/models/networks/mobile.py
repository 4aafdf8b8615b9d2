"""MobileNetV2 and ShuffleNet for small images, as common in distillation code (mdistiller)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.base import Network, Stage, conv_bn, default_initialize, he_initialize

__all__ = ["MobileNetV2Cifar", "ShuffleNetV1"]

# Expansion, channels at width 1, number of blocks, stride of the first block.
_MOBILE_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_MOBILE_ENDS = (1, 2, 4, 6)


class MobileNetV2Cifar(Network):
    """MobileNetV2 (Sandler et al., CVPR 2018) that downsamples by 16 instead of 32.

    The stem halves the map, the second group does not; ReLU replaces ReLU6. Each stage ends in a
    linear bottleneck, before the map is halved again. Initialized as in mdistiller's code: He's
    normal distribution, linear weights with a standard deviation of 0.01, zero biases.

    Args:
        width: Factor of all channels except the 1280 channels of the last convolution.
        classes: Number of logits.
        channels: Channels of the images.
    """

    def __init__(self, width: float, classes: int, channels: int) -> None:
        super().__init__()
        width_in = int(32 * width)
        self.stem = nn.Sequential(*conv_bn(channels, width_in, 3, stride=2), nn.ReLU())
        self.groups = nn.ModuleList()
        for expansion, at_one, blocks, first_stride in _MOBILE_GROUPS:
            group = nn.Sequential()
            for i in range(blocks):
                stride = first_stride if i == 0 else 1
                group.append(_InvertedResidual(width_in, int(at_one * width), stride, expansion))
                width_in = int(at_one * width)
            self.groups.append(group)
        self.last = nn.Sequential(*conv_bn(width_in, 1280, 1), nn.ReLU())
        self.classifier = nn.Linear(1280, classes)
        he_initialize(self)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        x = self.stem(x)
        for place, group in enumerate(self.groups):
            x = group(x)
            if place in _MOBILE_ENDS:
                yield Stage(x, x)

    def last_map(self, stage: Stage) -> Tensor:
        """See :class:`Network`."""
        last: Tensor = self.last(stage.output)
        return last


class ShuffleNetV1(Network):
    """ShuffleNet (Zhang et al., CVPR 2018) with three groups and a 1x1 stem of 24 channels.

    It has three stages of 240, 480 and 960 channels, each of which starts by halving the map.
    Initialized as in mdistiller's code, with PyTorch's default.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        width_in = 24
        self.stem = nn.Sequential(*conv_bn(channels, width_in, 1), nn.ReLU())
        self.stages = nn.ModuleList()
        for width, blocks in ((240, 4), (480, 8), (960, 4)):
            stage = nn.ModuleList()
            for i in range(blocks):
                stage.append(_ShuffleUnit(width_in, width, halve=i == 0))
                width_in = width
            self.stages.append(stage)
        self.classifier = nn.Linear(width_in, classes)

    initialize_convolution = staticmethod(default_initialize)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        x = self.stem(x)
        for stage in self.stages:
            before = x
            for unit in stage:  # type: ignore[attr-defined]
                before = unit(x)
                x = F.relu(before)
            yield Stage(before, x)


class _InvertedResidual(nn.Module):
    """Inverted residual block, with a shortcut if the shape does not change."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.residual = nn.Sequential(
            *conv_bn(width_in, inner, 1),
            nn.ReLU(),
            *conv_bn(inner, inner, 3, stride, groups=inner),
            nn.ReLU(),
            *conv_bn(inner, width, 1),
        )
        self.adds = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        return x + residual if self.adds else residual


class _ShuffleUnit(nn.Module):
    """Bottleneck of grouped convolutions, without its last activation function.

    The input is added or, if the map is halved, average-pooled and concatenated.
    """

    def __init__(self, width_in: int, width: int, *, halve: bool) -> None:
        super().__init__()
        width = width - width_in if halve else width
        inner, stride = width // 4, 2 if halve else 1
        grouped = width_in != 24  # the stem has too few channels
        self.residual = nn.Sequential(
            *conv_bn(width_in, inner, 1, groups=3 if grouped else 1),
            nn.ReLU(),
            nn.ChannelShuffle(3) if grouped else nn.Identity(),
            *conv_bn(inner, inner, 3, stride, groups=inner),
            nn.ReLU(),
            *conv_bn(inner, width, 1, groups=3),
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if halve else None

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        return x + residual if self.pool is None else torch.cat([residual, self.pool(x)], 1)
