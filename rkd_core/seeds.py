"""Seeds and generators of independent random streams, identical on every machine.

Each purpose has its own stream, so that adding a purpose changes no other stream.
"""

from __future__ import annotations

import hashlib

import numpy as np

from rkd_core.errors import UserError

__all__ = ["random_state", "stream", "stream_seed"]


def stream_seed(*parts: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on the parts alone, on every machine."""
    text = "\x00".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def random_state(seed: int) -> np.random.RandomState:
    """Return NumPy's legacy generator, whose stream is guaranteed never to change.

    Raises:
        UserError: The seed is not between 0 and 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"a seed of the data must be from 0 to 4294967295, not {seed}")
    return np.random.RandomState(seed)


def stream(*key: int) -> np.random.RandomState:
    """Return an independent generator for a key of non-negative integers of any size.

    The length of the key is part of the seed, because NumPy pads keys with zeros: (1, 2) and
    (1, 2, 0) would otherwise give the same stream.
    """
    return np.random.RandomState(np.random.SeedSequence((len(key), *key)).generate_state(8))
