"""Limits on the students' networks, checked before any training."""

from __future__ import annotations

from dataclasses import replace

from analysis.runs.networks import Limits, Network, too_large
from rkd_core.datasets import Dataset
from sweeps.planning.settings import Settings

__all__ = ["beyond_limits"]


def beyond_limits(settings: Settings, dataset: Dataset, limits: Limits) -> dict[str, str]:
    """Return the networks that exceed a limit of the selection, each with its size.

    The latency is measured after the trainings and is not considered here.

    Raises:
        UserError: No network is within a limit.
    """
    limits = replace(limits, latency=None)
    if limits == Limits():
        return {}
    from rkd_core.models.build import outline
    from rkd_core.models.cost import multiply_adds  # imports torch

    shape = dataset.classes, dataset.channels, tuple(dataset.image_size)
    networks = []
    for name in settings.student_architectures:
        digest = settings.network_digests.get(name)
        parameters = sum(p.numel() for p in outline(name, *shape, digest).parameters())
        networks.append(Network(name, parameters, multiply_adds(name, *shape, digest)))
    return too_large(networks, limits)
