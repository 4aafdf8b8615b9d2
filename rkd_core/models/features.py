"""What methods see inside a network: features of its stages, and class activation maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rkd_core import models
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Features, Needs
from rkd_core.models.base import Network

__all__ = ["Look", "look", "looks_inside", "shapes"]

Shape = tuple[int, int, int]


class Look(NamedTuple):
    """What a network computes of a batch, as far as a method needs it."""

    logits: Tensor
    """``(batch, classes)``."""
    features: Features | None = None
    maps: Tensor | None = None
    """``(batch, classes, h, w)``."""


def looks_inside(needs: Needs) -> bool:
    """Whether a method needs more of a network than its logits."""
    return needs.features or needs.maps


def look(network: nn.Module, images: Tensor, needs: Needs) -> Look:
    """Run a network once.

    Args:
        network: A :class:`Network`, if the method looks inside.
        images: ``(batch, channels, height, width)``.
        needs: Of the method.

    Raises:
        UserError: The network cannot be looked into, or has no class activation maps.
    """
    if not looks_inside(needs):
        return Look(network(images))
    if not isinstance(network, Network):
        raise UserError("the mean of several iterates has no features: take the last iterate")
    found = network.activations(images)
    before, outputs = zip(*found.stages, strict=True)
    return Look(
        found.logits,
        Features(before, outputs, found.pooled) if needs.features else None,
        network.class_activation_maps(found.last) if needs.maps else None,
    )


def shapes(
    architecture: str, classes: int, channels: int, image_size: tuple[int, int]
) -> tuple[tuple[Shape, ...], int]:
    """Channels, height and width of each stage's map, shallow to deep; then the pooled width."""
    network = models.outline(architecture, classes, channels, image_size).eval()
    found = network.activations(torch.zeros(1, channels, *image_size, device="meta"))
    maps = (stage.output.shape[1:] for stage in found.stages)
    return tuple((c, h, w) for c, h, w in maps), found.pooled.shape[1]
