"""torchvision's residual networks, untrained, with a stem that suits the images."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from rkd_core.models.network import Network, he_initialize

__all__ = ["TorchvisionResNet"]

SMALLEST_LARGE_IMAGE = 128
"""Pixels on the shorter side from which torchvision's own stem, made for 224, is kept."""


class TorchvisionResNet(Network):
    """ResNet of ``depth`` 18, 34 or 50 (He et al., CVPR 2016).

    torchvision's stem divides the map by four before the first block: a 7x7 convolution of stride
    2, then max pooling. That leaves a small image too little, so below 128 pixels the stem is that
    of the CIFAR networks, a 3x3 convolution of stride 1.
    """

    def __init__(
        self, depth: int, classes: int, channels: int, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        body = torchvision.models.get_model(f"resnet{depth}", weights=None)
        if min(image_size) >= SMALLEST_LARGE_IMAGE:
            body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            body.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
            body.maxpool = nn.Identity()
        width = body.fc.in_features
        body.fc = nn.Identity()  # what is left ends in the mean over the map, flattened
        self.body: nn.Module = body
        self.classifier = nn.Linear(width, classes)
        he_initialize(self)

    def features(self, x: Tensor) -> Tensor:
        """Mean over the last map, ``(batch, 512)``, or 2048 at depth 50; see :class:`Network`."""
        features: Tensor = self.body(x)
        return features
