"""Seeds and generators of independent random streams, the same on every machine.

Each purpose has a stream of its own, so that adding a purpose changes no other stream.
"""

from __future__ import annotations

import hashlib

import numpy as np

from rkd_core.errors import UserError

__all__ = ["random_state", "stream", "stream_seed"]


def stream_seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) that is a pure function of its parts, alike on every machine."""
    text = "\x00".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def random_state(seed: int) -> np.random.RandomState:
    """Numpy's legacy generator, whose stream is frozen for good.

    Raises:
        UserError: The seed is not from 0 to 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"a seed of the data must be from 0 to 4294967295, not {seed}")
    return np.random.RandomState(seed)


def stream(*key: int) -> np.random.RandomState:
    """An independent stream for each key of non-negative integers of any size.

    The key's length is part of it: numpy pads keys with zeros, so (1, 2) and (1, 2, 0) would be
    the same stream.
    """
    return np.random.RandomState(np.random.SeedSequence((len(key), *key)).generate_state(8))
