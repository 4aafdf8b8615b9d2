"""How much memory a training takes on its device, found without one."""

from __future__ import annotations

from rkd_core import models
from rkd_core.datasets import Dataset
from rkd_core.specs import Recipe

__all__ = ["training_bytes"]

_PROBE = 2  # images that are really pushed through the network
_SLACK = 2.0  # gradients of activations, workspaces of libraries, fragments


def training_bytes(architecture: str, recipe: Recipe, dataset: Dataset, *, half: bool) -> int:
    """Estimated peak of one training, from what its forward pass keeps for the backward pass.

    Args:
        architecture: Network.
        recipe: Its batch size.
        dataset: Classes, channels and image size; the images themselves are left out.
        half: Whether activations are in bfloat16.
    """
    import torch

    size = dataset.image_size
    model = models.build(architecture, dataset.classes, dataset.channels, size, seed=0)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(torch.zeros(_PROBE, dataset.channels, *size))
    activations = sum(kept.values()) * recipe.batch_size / _PROBE / (2 if half else 1)
    weights = sum(p.numel() for p in model.parameters()) * 4
    del logits  # what was kept had to live until it was counted
    return int(_SLACK * activations + 4 * weights)  # weights, gradients, momentum, a cast copy
