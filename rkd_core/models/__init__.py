"""The networks that can be trained, by name.

What belongs here: one entry per architecture in the registry below, and in the submodules the
networks it points to. What does not: training, data, pretrained weights.

Listing the names imports no torch; building a network does. A new architecture is a
:class:`~rkd_core.models.network.Network` in a submodule and a line in the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rkd_core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from rkd_core.models.network import Network

__all__ = ["architectures", "build"]

Builder = Callable[[int, int, tuple[int, int]], "Network"]
"""From (classes, channels, image size) to a network."""


class _Architecture(NamedTuple):
    description: str
    build: Builder


def _cifar_resnet(depth: int) -> _Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, int]) -> Network:
        from rkd_core.models.cifar_resnet import CifarResNet

        return CifarResNet(depth, classes, channels)

    return _Architecture(f"CIFAR ResNet-{depth} (16, 32, 64 channels), basic blocks", make)


def _google_resnet(depth: int) -> _Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, int]) -> Network:
        from rkd_core.models.cifar_resnet import CifarResNet

        return CifarResNet(depth, classes, channels, block="google")

    return _Architecture(f"ResNet-{depth} of Google's public code, blocks of 1x1, 3x3, 1x1", make)


def _torchvision_resnet(depth: int) -> _Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, int]) -> Network:
        from rkd_core.models.torchvision_nets import TorchvisionResNet

        return TorchvisionResNet(depth, classes, channels, image_size)

    return _Architecture(f"ResNet-{depth} of torchvision; CIFAR stem below 128 pixels", make)


def _digits_cnn(classes: int, channels: int, image_size: tuple[int, int]) -> Network:
    from rkd_core.models.small import DigitsCnn

    return DigitsCnn(classes, channels)


_REGISTRY: dict[str, _Architecture] = {
    "digits_cnn": _Architecture("two 3x3 convolutions, for images such as 8x8 digits", _digits_cnn),
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}_google": _google_resnet(depth) for depth in (32, 56)},
    **{f"resnet{depth}": _torchvision_resnet(depth) for depth in (18, 34, 50)},
}


def architectures() -> dict[str, str]:
    """Name and one-line description of every architecture."""
    return {name: architecture.description for name, architecture in _REGISTRY.items()}


def build(
    architecture: str, classes: int, channels: int, image_size: tuple[int, int], *, seed: int
) -> Network:
    """Build a freshly initialised network, in float32 on the CPU and in training mode.

    The weights depend on the arguments alone; no random state outside is read or changed.

    Args:
        architecture: One of the names of :func:`architectures`.
        classes: Number of logits.
        channels: Channels of the images: 1 for grey, 3 for color.
        image_size: Height and width in pixels. It decides the stem of torchvision's networks;
            all networks pool their last map and so run on other sizes too.
        seed: Seed of the initialisation.

    Returns:
        A network from images ``(batch, channels, height, width)`` to logits ``(batch, classes)``.

    Raises:
        UserError: There is no such architecture, or the images or the classes are none.
    """
    if architecture not in _REGISTRY:
        raise unknown_name("architecture", architecture, _REGISTRY)
    if min(classes, channels, *image_size) < 1:
        raise UserError(
            f"{architecture} needs at least one class, channel and pixel, not {classes} classes "
            f"of {channels} x {image_size[0]} x {image_size[1]} images"
        )
    import torch

    # Only the CPU generator is seeded: torch.manual_seed would reseed the accelerators as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return _REGISTRY[architecture].build(classes, channels, image_size)
