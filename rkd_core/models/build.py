"""Construction of a network by name.

Importing this module does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rkd_core.errors import UserError
from rkd_core.models.registry import Architecture, check_shape, find
from rkd_core.models.sources import identity as foreign
from rkd_core.models.sources.reference import is_foreign

if TYPE_CHECKING:
    from rkd_core.models.base import Network

__all__ = ["build", "outline"]


def build(
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    *,
    seed: int,
    class_maps: bool = False,
    digest: str | None = None,
) -> Network:
    """Build a randomly initialized network, in float32 on the CPU and in training mode.

    The weights depend on the arguments alone; no global random state is read or changed.

    Args:
        architecture: One of the names of :func:`architectures`, or that of :func:`identify`.
        classes: Number of logits.
        channels: Channels of the images: 1 for gray, 3 for color.
        image_size: Height and width in pixels. They determine the stem of some networks; all
            networks pool their last map and therefore accept other sizes as well.
        seed: Seed of the initialization.
        class_maps: Whether the classifier is used for class activation maps and is therefore
            drawn as a 1x1 convolution; the other weights do not depend on it.
        digest: Digest of a network from outside the registry, see :func:`identify`.

    Returns:
        A network from images ``(batch, channels, height, width)`` to logits ``(batch, classes)``.

    Raises:
        UserError: There is no such architecture, its code is not loaded or differs from the
            digest, or the number of classes, channels or pixels is 0.
    """
    import torch

    if is_foreign(architecture):
        known = foreign.build(architecture, digest, classes, channels, image_size, seed=seed)
        foreign.compare(architecture, digest, known.body)
        if class_maps:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                known.initialize_class_maps()
        return known
    found = _checked(architecture, classes, channels, image_size)

    # Only the CPU generator is seeded: torch.manual_seed would reseed the accelerators as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        network = found.build(classes, channels, image_size)
        if class_maps:
            network.initialize_class_maps()
        return network


def outline(
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    digest: str | None = None,
) -> Network:
    """Return a network for the names and shapes of its weights, which have arbitrary values.

    A registered network is on PyTorch's meta device. The digest of another one identifies its code
    and is not compared with its shapes, so that the number of classes may be another.

    Raises:
        UserError: As for :func:`build`.
    """
    if is_foreign(architecture):
        return foreign.build(architecture, digest, classes, channels, image_size, seed=0)
    found = _checked(architecture, classes, channels, image_size)
    import torch

    with torch.device("meta"):
        return found.build(classes, channels, image_size)


def _checked(
    architecture: str, classes: int, channels: int, image_size: tuple[int, ...]
) -> Architecture:
    found = find(architecture)
    check_shape(architecture, (channels, *image_size))
    if min(classes, channels, *image_size) < 1:
        raise UserError(
            f"{architecture} needs at least one class, channel and pixel, not {classes} classes "
            f"of {' x '.join(map(str, (channels, *image_size)))} images"
        )
    return found
