"""Construction of a network by name.

Importing this module does not import torch.
"""

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
    """Build a randomly initialized network, in float32 on the CPU and in training mode.

    The weights depend on the arguments alone; no global random state is read or changed.

    Args:
        architecture: One of the names of :func:`architectures`.
        classes: Number of logits.
        channels: Channels of the images: 1 for gray, 3 for color.
        image_size: Height and width in pixels. They determine the stem of some networks; all
            networks pool their last map and therefore accept other sizes as well.
        seed: Seed of the initialization.
        class_maps: Whether the classifier is used for class activation maps and is therefore
            drawn as a 1x1 convolution; the other weights do not depend on it.

    Returns:
        A network from images ``(batch, channels, height, width)`` to logits ``(batch, classes)``.

    Raises:
        UserError: There is no such architecture, or the number of classes, channels or pixels is
            0.
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
    """Return a network on PyTorch's meta device, with names and shapes of weights but no values.

    Raises:
        UserError: As for :func:`build`.
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
