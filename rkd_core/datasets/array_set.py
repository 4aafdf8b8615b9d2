"""Float arrays of any shape with labels, such as embeddings or tabular features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rkd_core.errors import UserError
from rkd_core.specs import Augmentation, Recipe

__all__ = ["ArraySet", "check_recipe"]

_CHUNK = 4096  # rows per pass when moments are computed


@dataclass(frozen=True, eq=False)
class ArraySet:
    """Float arrays with their labels, in memory.

    Attributes:
        values: float32 ``(n, ...)``, finite. The first dimension of a row is its channels:
            features of a vector, or channels as in PyTorch.
        labels: int64 ``(n,)``, from 0 to classes - 1.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim < 2 or self.values.dtype != np.float32:
            raise ValueError(
                f"arrays are float32 (n, ...), not {self.values.dtype} {self.values.shape}"
            )
        if self.labels.shape != self.values.shape[:1] or self.labels.dtype != np.int64:
            raise ValueError(f"labels are int64 (n,), not {self.labels.dtype} {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a row, as a network takes it."""
        return self.values.shape[1:]

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.values.nbytes

    @cached_property
    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each channel, float64 ``(channels,)``; computed once."""
        axes = (0, *range(2, self.values.ndim))
        count = self.values.size / self.values.shape[1]
        chunks = [self.values[start : start + _CHUNK] for start in range(0, len(self), _CHUNK)]
        mean = sum(chunk.sum(axis=axes, dtype=np.float64) for chunk in chunks) / count
        wide = np.expand_dims(mean, tuple(range(1, self.values.ndim - 1)))
        squares = sum(((chunk - wide) ** 2).sum(axis=axes) for chunk in chunks)
        return mean, np.sqrt(squares / count)

    def subset(self, rows: NDArray[np.int64]) -> ArraySet:
        """Return the arrays at ``rows``: the set itself for all rows in order, else a copy."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return ArraySet(self.values[rows], self.labels[rows])


def check_recipe(recipe: Recipe, where: str) -> None:
    """Refuse a recipe that treats arrays as images.

    Args:
        recipe: Recipe of a training.
        where: Name of the data, for the message.

    Raises:
        UserError: The recipe augments images, or normalizes pixels.
    """
    parts = {
        "crop_padding": recipe.crop_padding,
        "flip": recipe.flip,
        "augmentation": recipe.augmentation != Augmentation(),
        f"normalization {recipe.normalization}": recipe.normalization != "per_channel",
    }
    for name, used in parts.items():
        if used:
            raise UserError(
                f"{where} holds float arrays, and {name} is for images: choose a recipe without "
                "it, such as arrays"
            )
