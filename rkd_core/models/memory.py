"""Estimate of the device memory of a training, computed on the CPU."""

from __future__ import annotations

from rkd_core import models
from rkd_core.datasets import Dataset
from rkd_core.specs import Recipe

__all__ = ["training_bytes"]

_PROBE = 2  # images of the forward pass that is measured
_SLACK = 2.0  # gradients of activations, workspaces of libraries, fragmentation


def training_bytes(
    architecture: str,
    recipe: Recipe,
    dataset: Dataset,
    *,
    half: bool,
    digest: str | None = None,
) -> int:
    """Estimate the peak memory of one training in bytes.

    The estimate is based on the tensors that a forward pass saves for the backward pass.

    Args:
        architecture: Name of the network.
        recipe: Recipe with the batch size and the averages.
        dataset: Dataset with classes, channels and image size; the memory of its images is not
            counted.
        half: Whether activations are in bfloat16.
        digest: Digest of a network from outside the registry.
    """
    import torch

    size = dataset.image_size
    classes, channels = dataset.classes, dataset.channels
    model = models.build(architecture, classes, channels, size, seed=0, digest=digest)
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
    del logits  # it kept the saved tensors alive until they were counted
    # Weights, gradients, a cast copy, one or two averages of gradients, and one of weights.
    copies = 3 + {"sgd": 1, "adamw": 2}[recipe.optimizer] + (recipe.ema_decay is not None)
    return int(_SLACK * activations + copies * weights)
