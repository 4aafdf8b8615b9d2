"""Networks without shortcuts: VGG for small images, and MobileNetV1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.base import Network, Stage, conv_bn, default_initialize, he_initialize

__all__ = ["MobileNetV1", "Vgg"]

_VGG_WIDTHS = (64, 128, 256, 512, 512)


class Vgg(Network):
    """VGG with batch norm (Simonyan and Zisserman, ICLR 2015), as common in distillation code.

    Five groups of 3x3 convolutions with max pooling between them are followed by global average
    pooling and one linear layer. The first group is the stem, the others are the stages. Maps are
    halved before the last group only for images of at least 64 pixels per side. Initialized as in
    mdistiller's code: He's normal distribution, linear weights with a standard deviation of 0.01,
    zero biases.

    Args:
        convolutions: Number of convolutions per group: 1 for VGG-8, 2 for VGG-13.
        classes: Number of logits.
        channels: Channels of the images.
        image_size: Height and width in pixels.
    """

    def __init__(
        self, convolutions: int, classes: int, channels: int, image_size: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.groups = nn.ModuleList()
        width_in = channels
        for place, width in enumerate(_VGG_WIDTHS):
            halve = 1 <= place <= 3 or (place == 4 and min(image_size) >= 64)
            # ceil_mode: one pixel stays one pixel
            group = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True) if halve else nn.Identity())
            for i in range(convolutions):
                group.extend([nn.ReLU()] if i else [])
                group.append(nn.Conv2d(width_in, width, 3, padding=1))
                group.append(nn.BatchNorm2d(width))
                width_in = width
            self.groups.append(group)
        self.classifier = nn.Linear(width_in, classes)
        he_initialize(self)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def initialize_class_maps(self) -> None:
        """See :class:`Network`; CAT-KD's code keeps PyTorch's default for this convolution."""
        default_initialize(self.classifier.weight)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        return _run(self.groups, x, ends=range(1, len(self.groups)))


class MobileNetV1(Network):
    """MobileNet (Howard et al., 2017) of width 1, with a stem for ImageNet.

    A 3x3 convolution of stride 2 is followed by thirteen pairs of a depthwise and a 1x1
    convolution, which halve the map four times. Each stage ends before the map is halved again;
    the first one ends at a quarter of the image size. Initialized as in mdistiller's code, with
    PyTorch's default.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.units = nn.ModuleList([nn.Sequential(*conv_bn(channels, 32, 3, stride=2))])
        self._ends = []
        width_in = 32
        for width, blocks in ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2)):
            for i in range(blocks):
                stride = 2 if i == 0 and width > 64 else 1
                self.units.append(_separable(width_in, width, stride))
                width_in = width
            if width > 64:  # the units before belong to the stem
                self._ends.append(len(self.units) - 1)
        self.classifier = nn.Linear(1024, classes)

    initialize_convolution = staticmethod(default_initialize)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        return _run(self.units, x, self._ends)


def _run(units: nn.ModuleList, x: Tensor, ends: Sequence[int]) -> Iterator[Stage]:
    """Apply units, each followed by an activation function, and yield the stages."""
    for place, unit in enumerate(units):
        before = unit(x)
        x = F.relu(before)
        if place in ends:
            yield Stage(before, x)


def _separable(width_in: int, width: int, stride: int) -> nn.Sequential:
    depthwise = conv_bn(width_in, width_in, 3, stride, groups=width_in)
    return nn.Sequential(*depthwise, nn.ReLU(), *conv_bn(width_in, width, 1))
