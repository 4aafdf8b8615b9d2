"""Residual network of Google's public code for long-tailed CIFAR.

It is the network of ``logit_adjustment/`` and ``non_decomp/`` in google-research (Menon et al.,
ICLR 2021; Narasimhan and Menon, NeurIPS 2021), where it is called ResNet-32.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.base import Network, Stage, conv_bn

__all__ = ["GoogleResNet"]

_TRUNCATED = 0.87962566103423978
"""Standard deviation of a standard normal variable truncated at two standard deviations."""


class GoogleResNet(Network):
    """Residual network of ``depth`` = 6k + 2, with k blocks of three convolutions per stage.

    A block has a 1x1, a 3x3 and a 1x1 convolution of equal width; the 3x3 convolution has the
    stride. The first block of each stage has a projection shortcut. The last map is normalized by
    a batch norm without activation function before average pooling. The stem pads by 3 on every
    side, so that images of 32 x 32 pixels have maps of 36, 18 and 9 pixels per side. Convolutions
    are drawn as by TensorFlow's ``he_normal``, linear weights with a standard deviation of 0.01;
    biases are zero.

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110 and so on.
        classes: Number of logits.
        channels: Channels of the images.
    """

    def __init__(self, depth: int, classes: int, channels: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has a depth of 8, 14, 20 and so on, not {depth}")
        self._length = (depth - 2) // 6
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=3, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.stages = nn.Sequential()  # the blocks of all stages in order
        width_in = 16
        for width in (16, 32, 64):
            for i in range(self._length):
                stride = 2 if width > 16 and i == 0 else 1
                self.stages.append(_Block(width_in, width, stride, project=i == 0))
                width_in = width
        self.last = nn.BatchNorm2d(width_in)
        self.classifier = nn.Linear(width_in, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                self.initialize_convolution(layer.weight)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        x = self.stem(x)
        for number, block in enumerate(self.stages, start=1):
            before = block(x)
            x = F.relu(before)
            if number % self._length == 0:
                yield Stage(before, x)

    def last_map(self, stage: Stage) -> Tensor:
        """See :class:`Network`."""
        maps: Tensor = self.last(stage.output)
        return maps

    @staticmethod
    def initialize_convolution(weight: Tensor) -> None:
        """Draw from a normal distribution (fan in) truncated at two standard deviations."""
        fan_in = weight[0].numel()
        deviation = (2 / fan_in) ** 0.5 / _TRUNCATED
        nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


class _Block(nn.Module):
    """Residual block without a final activation function: ``shortcut(x) + residual(x)``."""

    def __init__(self, width_in: int, width: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_bn(width_in, width, 1),
            nn.ReLU(),
            *_strided_conv_bn(width, stride),
            nn.ReLU(),
            *conv_bn(width, width, 1),
        )
        self.shortcut = (
            nn.Sequential(*conv_bn(width_in, width, 1, stride)) if project else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total


def _strided_conv_bn(width: int, stride: int) -> list[nn.Module]:
    """Return a 3x3 convolution with TensorFlow's "same" padding, and its batch norm."""
    if stride == 1:
        return conv_bn(width, width, 3)
    convolution = nn.Conv2d(width, width, 3, stride, bias=False)
    return [_SamePadding(), convolution, nn.BatchNorm2d(width)]


class _SamePadding(nn.Module):
    """TensorFlow's "same" padding for a 3x3 convolution of stride 2.

    A side of even length is padded by one pixel at its end, a side of odd length at both ends.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return F.pad(x, (width % 2, 1, height % 2, 1))
