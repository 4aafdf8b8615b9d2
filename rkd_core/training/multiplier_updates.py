"""Multiplier updates of Algorithm 1: their schedule and their batches of validation images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rkd_core.datasets.array_data import ArrayData
from rkd_core.models.inference import predictions_of
from rkd_core.multipliers import ascend, class_risks, uniform
from rkd_core.seeds import stream, stream_seed
from rkd_core.specs import MultiplierOptions

__all__ = ["Ascent", "cycled_positions"]


class Ascent:
    """Exponentiated-gradient ascent on the multipliers of one training, with the 0-1 loss.

    Args:
        options: Step size, period and batch.
        probabilities: Labels that define the validation risks, from the teacher or one-hot,
            float64 ``(n_val, classes)``.
        data: Data with the validation images and the seed. Batches depend on the seed and the
            number of updates alone.

    Attributes:
        log_multipliers: log lambda, float64 ``(classes,)``.
        updates: Number of updates so far.
    """

    def __init__(self, options: MultiplierOptions, probabilities: Tensor, data: ArrayData) -> None:
        self.log_multipliers = uniform(data.dataset.classes).to(data.execution.device)
        self.updates = 0
        self._options = options
        self._probabilities = probabilities
        # Priors of the whole set: those of a small batch would be near zero for rare classes.
        self._priors = probabilities.mean(dim=0)
        self._data = data

    def due(self, step: int) -> bool:
        """Return whether an update precedes this step, counted from 0 within its epoch."""
        period = self._options.period
        return step == 0 if period is None else step % period == 0

    def update(self, model: nn.Module) -> None:
        """Take one exponentiated-gradient step with the risks of the current model."""
        size, n = self._options.batch, len(self._data.dataset.val)
        images, probabilities = iter(self._data.validation), self._probabilities
        if size is not None and size < n:
            positions = cycled_positions(n, size, self.updates, self._data.seed)
            images = self._data.validation.at(positions)
            probabilities = probabilities[torch.from_numpy(positions).to(probabilities.device)]
        predictions = predictions_of(model, images, self._data.execution)
        risks = class_risks(probabilities, predictions, self._priors)
        self.log_multipliers = ascend(self.log_multipliers, risks, self._options.step_size)
        self.updates += 1


def cycled_positions(n: int, size: int, update: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of a batch in an endless sequence of shuffled passes over n images.

    Args:
        n: Number of images.
        size: Size of a batch.
        update: Number of the batch, counted from 0.
        seed: Seed of the training.
    """
    start = update * size
    first, last = start // n, (start + size - 1) // n
    passes = [
        stream(stream_seed("validation", seed), number).permutation(n)
        for number in range(first, last + 1)
    ]
    return np.concatenate(passes)[start - first * n :][:size].astype(np.int64)
