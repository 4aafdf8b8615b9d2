"""Forward passes that also return the features or class activation maps that a method needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Features, Needs
from rkd_core.models.base import Network, evaluating

__all__ = ["Forward", "Outputs", "forward", "needs_activations", "shapes"]

Shape = tuple[int, int, int]


class Outputs(NamedTuple):
    """Outputs of a network for a batch, as far as a method needs them."""

    logits: Tensor
    """Logits ``(batch, classes)``."""
    features: Features | None = None
    """Features of the stages."""
    maps: Tensor | None = None
    """Class activation maps ``(batch, classes, h, w)``."""


Forward = Callable[[nn.Module, Tensor, Needs], Outputs]
"""Forward pass, as ``forward``."""


def needs_activations(needs: Needs) -> bool:
    """Return whether a method needs intermediate activations in addition to logits."""
    return needs.features or needs.maps


def forward(network: nn.Module, images: Tensor, needs: Needs) -> Outputs:
    """Run one forward pass and return the outputs that a method needs.

    Args:
        network: A :class:`Network`, if the method needs more than logits.
        images: ``(batch, channels, height, width)``.
        needs: Needs of the method.

    Raises:
        UserError: The network has no stages, or no class activation maps.
    """
    if not needs_activations(needs):
        return Outputs(network(images))
    staged = _staged(network)
    found = staged.activations(images)
    before, outputs = zip(*found.stages, strict=True)
    return Outputs(
        found.logits,
        Features(before, outputs, found.pooled) if needs.features else None,
        staged.class_activation_maps(found.last) if needs.maps else None,
    )


def shapes(
    network: nn.Module, channels: int, image_size: tuple[int, ...]
) -> tuple[tuple[Shape, ...], int]:
    """Return the shapes of the activations of a network for a blank image.

    Args:
        network: A :class:`Network`; its mode does not change.
        channels: Channels of the images.
        image_size: Height and width in pixels.

    Returns:
        Channels, height and width of the map of each stage from shallow to deep, and the number
        of pooled features.

    Raises:
        UserError: The network has no stages.
    """
    weight = next(network.parameters())
    blank = torch.zeros(1, channels, *image_size, dtype=weight.dtype, device=weight.device)
    with evaluating(network):
        found = _staged(network).activations(blank)
    maps = (stage.output.shape[1:] for stage in found.stages)
    return tuple((c, h, w) for c, h, w in maps), found.pooled.shape[1]


def _staged(network: nn.Module) -> Network:
    if not isinstance(network, Network):
        raise UserError("the mean of several iterates has no features: use the last iterate")
    return network
