"""Cost of the forward pass of a network: multiply-adds, and its time on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rkd_core.models.base import evaluating
from rkd_core.models.build import build, outline

__all__ = ["BATCH", "Speed", "multiply_adds", "speed"]

BATCH = 32
"""Images of a batch for the throughput."""
_SECONDS, _FEWEST = 0.2, 3  # least time and number of forward passes of a measurement


class Speed(NamedTuple):
    """Speed of the forward pass on one CPU thread, in float32."""

    latency: float
    """Median seconds for one image."""
    throughput: float
    """Images per second in batches of ``BATCH``."""


@lru_cache
def multiply_adds(
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    digest: str | None = None,
) -> int:
    """Return the multiply-adds of a forward pass of one image, as PyTorch counts them.

    Matrix products, convolutions and attention are counted, other operations are not.

    Args:
        architecture: Name of the network.
        classes: Number of logits.
        channels: Channels of the images.
        image_size: Height and width in pixels.
        digest: Digest of a network from outside the registry.
    """
    network = outline(architecture, classes, channels, image_size, digest)
    blank = torch.zeros(1, channels, *image_size, device=next(network.parameters()).device)
    with evaluating(network), FlopCounterMode(display=False) as counter:
        network(blank)
    return int(counter.get_total_flops()) // 2


def speed(
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    digest: str | None = None,
) -> Speed:
    """Measure the forward pass of a network with random weights; the arguments are as above."""
    network = build(architecture, classes, channels, image_size, seed=0, digest=digest)
    one, many = (torch.zeros(n, channels, *image_size) for n in (1, BATCH))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with evaluating(network):
            return Speed(_seconds(network, one), BATCH / _seconds(network, many))
    finally:
        torch.set_num_threads(threads)


def _seconds(
    network: nn.Module, images: Tensor, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median seconds of a forward pass, after one that is not counted."""
    network(images)
    found: list[float] = []
    begun = clock()
    while len(found) < _FEWEST or clock() - begun < _SECONDS:
        start = clock()
        network(images)
        found.append(clock() - start)
    return statistics.median(found)
