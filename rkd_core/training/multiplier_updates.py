"""Multiplier updates of Algorithm 1: their schedule and their batches of validation images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.transfer import to_device
from rkd_core.models.inference import predictions_of_all
from rkd_core.multipliers import ascend, class_risks, uniform
from rkd_core.seeds import stream, stream_seed
from rkd_core.specs import MultiplierOptions

__all__ = ["Ascent", "cycled_positions", "update_all"]


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
        finite: Whether all logits have been finite, a boolean scalar on the device.
    """

    def __init__(self, options: MultiplierOptions, probabilities: Tensor, data: ArrayData) -> None:
        self.log_multipliers = uniform(data.dataset.classes).to(data.execution.device)
        self.updates = 0
        self.finite = torch.ones((), dtype=torch.bool, device=data.execution.device)
        self._options = options
        self._probabilities = probabilities
        # Priors of the whole set: those of a small batch would be near zero for rare classes.
        self._priors = probabilities.mean(dim=0)
        self._data = data

    def due(self, step: int) -> bool:
        """Return whether an update precedes this step, counted from 0 within its epoch."""
        period = self._options.period
        return step == 0 if period is None else step % period == 0

    def positions(self) -> NDArray[np.int64] | None:
        """Return the positions of the next batch in the validation set; None for the whole set."""
        size, n = self._options.batch, len(self._data.dataset.val)
        if size is None or size >= n:
            return None
        return cycled_positions(n, size, self.updates, self._data.seed)

    def take(self, predictions: Tensor, rows: Tensor | None) -> None:
        """Take one exponentiated-gradient step.

        Args:
            predictions: Labels that the model predicts for a batch, on the device.
            rows: Positions of the batch in the validation set, on the device; None for all.
        """
        probabilities = self._probabilities if rows is None else self._probabilities[rows]
        risks = class_risks(probabilities, predictions, self._priors)
        log_multipliers = ascend(self.log_multipliers, risks, self._options.step_size, check=False)
        self.log_multipliers = log_multipliers
        self.updates += 1


def update_all(ascents: Sequence[Ascent], models: Sequence[nn.Module], data: ArrayData) -> None:
    """Update the multipliers of several trainings; those with equal batches share the images.

    Nothing waits for a GPU: whether the logits are finite is kept in ``Ascent.finite``.

    Args:
        ascents: Multipliers of the trainings.
        models: Their current models.
        data: Data of all of them.
    """
    groups: defaultdict[bytes | None, list[int]] = defaultdict(list)
    batches: dict[bytes | None, NDArray[np.int64] | None] = {}
    for number, ascent in enumerate(ascents):
        positions = ascent.positions()
        key = None if positions is None else positions.tobytes()
        groups[key].append(number)
        batches[key] = positions
    for key, numbers in groups.items():
        positions, rows = batches[key], None
        if positions is None:
            images = iter(data.validation)
        else:
            images = data.validation.at(positions)
            rows = to_device(positions, torch.device(data.execution.device))
        found = predictions_of_all([models[n] for n in numbers], images, data.execution)
        for number, (predictions, finite) in zip(numbers, found, strict=True):
            ascents[number].take(predictions, rows)
            ascents[number].finite &= finite


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
