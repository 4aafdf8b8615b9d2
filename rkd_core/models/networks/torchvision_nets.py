"""Untrained torchvision networks for images with any number of channels.

Each holds torchvision's module as ``body``, except for its last layer, which is ``classifier``, so
that torchvision's published weights fit (:func:`rkd_core.models.load_pretrained`). Dropout and
stochastic depth are disabled, because a forward pass must not draw random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.errors import UserError
from rkd_core.models.base import Network, Stage, he_initialize

__all__ = ["TorchvisionMobile", "TorchvisionResNet"]

SMALLEST_LARGE_IMAGE = 128
"""Shorter side in pixels from which torchvision's stem, designed for 224 pixels, is used."""


class TorchvisionResNet(Network):
    """ResNet of ``depth`` 18, 34 or 50 (He et al., CVPR 2016).

    torchvision's stem downsamples by four before the first block: a 7x7 convolution of stride 2,
    then max pooling. Small images would lose too much resolution, so with ``by_size`` the stem for
    images below 128 pixels is that of the CIFAR networks, a 3x3 convolution of stride 1.
    """

    published_names = (("classifier.", "fc."), ("body.", ""))
    published_normalization = "imagenet"

    def __init__(
        self,
        depth: int,
        classes: int,
        channels: int,
        image_size: tuple[int, ...],
        stem: Literal["by_size", "cifar", "imagenet"] = "by_size",
    ) -> None:
        super().__init__()
        body = torchvision.models.get_model(f"resnet{depth}", weights=None)
        if stem == "by_size":
            stem = "imagenet" if min(image_size) >= SMALLEST_LARGE_IMAGE else "cifar"
        if stem == "imagenet":
            body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            body.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
            body.maxpool = nn.Identity()
        width = body.fc.in_features
        body.fc = nn.Identity()
        self.body: Any = body
        self.classifier = nn.Linear(width, classes)
        he_initialize(self)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        body = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
        for blocks in (body.layer1, body.layer2, body.layer3, body.layer4):
            for block in blocks[:-1]:
                x = block(x)
            before = _before(blocks[-1], x)
            x = F.relu(before)
            yield Stage(before, x)


class TorchvisionMobile(Network):
    """One of torchvision's networks of inverted residuals, always with its ImageNet stem.

    Initialized as in torchvision. Each stage ends in a linear bottleneck, before the map is halved
    again; the first one ends at a quarter of the image size.

    Args:
        name: ``efficientnet_v2_l``, ``mobilenet_v2`` or ``mobilenet_v3_large``.
        classes: Number of logits.
        channels: Channels of the images.
        ends: Indices in torchvision's ``features`` of the last layer of each stage.
        options: Options of torchvision's constructor.
    """

    def __init__(
        self, name: str, classes: int, channels: int, ends: tuple[int, ...], **options: float
    ) -> None:
        super().__init__()
        body = torchvision.models.get_model(
            name, weights=None, num_classes=classes, dropout=0.0, **options
        )
        first = body.features[0][0]
        if channels != first.in_channels:
            body.features[0][0] = nn.Conv2d(
                channels, first.out_channels, 3, stride=2, padding=1, bias=False
            )
            nn.init.kaiming_normal_(body.features[0][0].weight, mode="fan_out")
        self.published_names = (
            ("classifier.", f"classifier.{len(body.classifier) - 1}."),
            ("body.", ""),
        )
        self.published_normalization = "symmetric" if name.startswith("eff") else "imagenet"
        self.classifier = body.classifier.pop(-1)
        self.body: Any = body
        self._name, self._ends = name, ends
        self._has_hidden_layer = any(True for _ in body.classifier.parameters())

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        for place, layer in enumerate(self.body.features[: self._ends[-1] + 1]):
            x = layer(x)
            if place in self._ends:
                yield Stage(x, x)

    def last_map(self, stage: Stage) -> Tensor:
        """See :class:`Network`."""
        last: Tensor = self.body.features[-1](stage.output)
        return last

    def pool(self, last: Tensor) -> Tensor:
        """Return features ``(batch, 1280)``; MobileNetV3 has a hidden layer after the mean."""
        if not self._has_hidden_layer:
            return super().pool(last)
        features: Tensor = self.body.classifier(last.mean((-2, -1)))
        return features

    def class_activation_maps(self, last: Tensor) -> Tensor:
        """See :class:`Network`."""
        if self._has_hidden_layer:
            raise UserError(
                f"{self._name} has a hidden layer between its last map and its classifier, and so "
                "no class activation maps: choose another network, such as mobilenet_v2"
            )
        return super().class_activation_maps(last)


def _before(block: nn.Module, x: Tensor) -> Tensor:
    """Apply a block of torchvision's ResNets without its last activation function."""
    parts: Any = block
    out = parts.bn2(parts.conv2(parts.relu(parts.bn1(parts.conv1(x)))))
    if hasattr(parts, "conv3"):
        out = parts.bn3(parts.conv3(parts.relu(out)))
    return out + (x if parts.downsample is None else parts.downsample(x))
