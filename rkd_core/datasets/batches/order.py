"""Order of the images in an epoch: shuffled, by class, or through a shuffle buffer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUFFER", "buffered_order", "class_uniform_order"]

BUFFER = 10_000
"""Number of images in the shuffle buffer. It takes part in the results of streamed shards."""


def buffered_order(
    random: np.random.RandomState, shards: NDArray[np.int64], buffer: int = BUFFER
) -> NDArray[np.int64]:
    """Return the positions of all images in the order of one epoch, int64 ``(n,)``.

    The shards are shuffled, and their images pass in order through a buffer, from which each next
    one is drawn at random. Reads therefore stay close together, and the order is known in advance,
    so that an epoch can be resumed anywhere.

    Args:
        random: Random stream of the epoch.
        shards: int64 ``(n,)``, shard of each image, ascending.
        buffer: Number of images in the buffer.

    >>> shards = np.repeat([0, 1], 3)
    >>> buffered_order(np.random.RandomState(0), shards, buffer=1).tolist()
    [3, 4, 5, 0, 1, 2]
    """
    _, starts = np.unique(shards, return_index=True)
    parts = np.split(np.arange(len(shards)), starts[1:])
    arriving = np.concatenate([parts[shard] for shard in random.permutation(len(parts))])
    held = arriving[:buffer].tolist()
    order = []
    slots = random.randint(len(held), size=len(arriving) - len(held)).tolist()
    for slot, position in zip(slots, arriving[buffer:].tolist(), strict=True):
        order.append(held[slot])
        held[slot] = position
    return np.concatenate([np.asarray(order, dtype=np.int64), random.permutation(held)])


def class_uniform_order(
    random: np.random.RandomState, by_class: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return as many positions as there are images, each from a class drawn uniformly.

    Args:
        random: Random stream of the epoch.
        by_class: Positions of the images of each class.
    """
    sizes = np.array([len(rows) for rows in by_class])
    starts, count = np.cumsum(sizes) - sizes, int(sizes.sum())
    classes = random.randint(len(sizes), size=count)
    within = (random.random_sample(count) * sizes[classes]).astype(np.int64)
    return np.concatenate(by_class)[starts[classes] + within]
