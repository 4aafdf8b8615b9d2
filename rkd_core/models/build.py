"""From a name to a network. Importing it imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rkd_core.errors import UserError
from rkd_core.models.registry import Architecture, find

if TYPE_CHECKING:
    from rkd_core.models.base import Network

__all__ = ["build", "outline"]


def build(
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, int],
    *,
    seed: int,
    class_maps: bool = False,
) -> Network:
    """Build a freshly initialized network, in float32 on the CPU and in training mode.

    The weights depend on the arguments alone; no random state outside is read or changed.

    Args:
        architecture: One of the names of :func:`architectures`.
        classes: Number of logits.
        channels: Channels of the images: 1 for grey, 3 for color.
        image_size: Height and width in pixels. It decides the stem of some networks;
            all networks pool their last map and so run on other sizes too.
        seed: Seed of the initialization.
        class_maps: Whether the classifier gives class activation maps and is therefore drawn as
            a 1x1 convolution; the other weights do not depend on it.

    Returns:
        A network from images ``(batch, channels, height, width)`` to logits ``(batch, classes)``.

    Raises:
        UserError: There is no such architecture, or the images or the classes are none.
    """
    found = _checked(architecture, classes, channels, image_size)
    import torch

    # Only the CPU generator is seeded: torch.manual_seed would reseed the accelerators as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        network = found.build(classes, channels, image_size)
        if class_maps:
            network.initialize_class_maps()
        return network


def outline(architecture: str, classes: int, channels: int, image_size: tuple[int, int]) -> Network:
    """The same network on PyTorch's meta device: names and shapes alone, in no time.

    Raises:
        UserError: As :func:`build`.
    """
    found = _checked(architecture, classes, channels, image_size)
    import torch

    with torch.device("meta"):
        return found.build(classes, channels, image_size)


def _checked(
    architecture: str, classes: int, channels: int, image_size: tuple[int, int]
) -> Architecture:
    found = find(architecture)
    if min(classes, channels, *image_size) < 1:
        raise UserError(
            f"{architecture} needs at least one class, channel and pixel, not {classes} classes "
            f"of {channels} x {image_size[0]} x {image_size[1]} images"
        )
    return found
