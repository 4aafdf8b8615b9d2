"""Trained models from artifacts: a network, or the mean of the logits of several iterates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rkd_core import models
from rkd_core.errors import UserError
from rkd_core.models.sources.identity import load as load_code
from rkd_core.results.artifacts import Artifact

__all__ = ["AveragedLogits", "rebuild"]


class AveragedLogits(nn.Module):
    """Mean of the logits of several iterates: the output of Algorithm 1 (Wang et al. 2023)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.iterates = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        return torch.stack([network(images) for network in self.iterates]).mean(dim=0)


def rebuild(artifact: Artifact) -> nn.Module:
    """Build the model of an artifact, in evaluation mode and with frozen parameters.

    The code of a user's network is loaded from the results folder of the artifact, and runs.

    Raises:
        UserError: The code is missing, damaged or fails, or builds another network; or the model
            is a teacher that is known by its logits only.
    """
    if artifact.spec.given_logits is not None:
        raise UserError("a teacher that is known by its logits only has no network")
    if artifact.spec.network_digest is not None:
        load_code(artifact.spec.architecture, artifact.spec.network_digest, artifact.out)
    description: dict[str, Any] = artifact.model

    def network() -> nn.Module:
        return models.build(
            description["architecture"],
            description["classes"],
            description["channels"],
            tuple(description["image_size"]),
            seed=0,
            digest=artifact.spec.network_digest,
        )

    iterates = description["iterates"]
    model = network() if iterates is None else AveragedLogits([network() for _ in range(iterates)])
    model.load_state_dict(artifact.weights)
    return model.eval().requires_grad_(False)
