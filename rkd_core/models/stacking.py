"""Networks of small layers only, many of which can be computed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rkd_core import models

if TYPE_CHECKING:
    from torch import nn

    from rkd_core.datasets import Dataset

__all__ = ["has_small_layers_only", "stacks"]


def has_small_layers_only(network: nn.Module) -> bool:
    """Return whether linear layers and normalizations hold all parameters and buffers.

    Stacking hardly speeds up convolutions.
    """
    from torch import nn

    small = (
        nn.Linear,
        nn.LayerNorm,
        nn.RMSNorm,
        nn.GroupNorm,
        nn.BatchNorm1d,
        nn.PReLU,
    )
    for module in network.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and not isinstance(module, small):
            return False
    return True


def stacks(architecture: str, dataset: Dataset, digest: str | None = None) -> bool:
    """Return whether trainings of a network are faster together also on a CPU.

    Args:
        architecture: Name of the network.
        dataset: Dataset with classes and shape.
        digest: Digest of a network from outside the registry.
    """
    channels, size = dataset.channels, dataset.image_size
    network = models.build(architecture, dataset.classes, channels, size, seed=0, digest=digest)
    return has_small_layers_only(network)
