"""The outer loop of Algorithm 1: when, and on which validation images, multipliers rise."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rkd_core.datasets.array_data import Setting
from rkd_core.models.inference import predictions_of
from rkd_core.multipliers import ascend, class_risks, uniform
from rkd_core.seeds import stream, stream_seed
from rkd_core.specs import MultiplierOptions

__all__ = ["Ascent", "cycled_positions"]


class Ascent:
    """log lambda of one training, raised on the validation set with the 0-1 loss.

    Args:
        options: Step size, period and batch.
        probabilities: Labels the risks are measured with, teacher's or true ones, float64
            ``(n_val, classes)``.
        setting: Its validation images are used, and its seed: batches of them are a pure
            function of the seed and of the number of updates so far.
    """

    def __init__(self, options: MultiplierOptions, probabilities: Tensor, setting: Setting) -> None:
        self.log_multipliers = uniform(setting.dataset.classes).to(setting.execution.device)
        self.updates = 0
        self._options = options
        self._probabilities = probabilities
        # Full-set denominators: a small batch's own would be near zero for rare classes.
        self._priors = probabilities.mean(dim=0)
        self._setting = setting

    def due(self, step: int) -> bool:
        """Whether an update comes before this step, counted from 0 within its epoch."""
        period = self._options.period
        return step == 0 if period is None else step % period == 0

    def update(self, model: nn.Module) -> None:
        """One exponentiated-gradient step against the model as it is now."""
        size, n = self._options.batch, len(self._setting.dataset.val)
        images, probabilities = iter(self._setting.validation), self._probabilities
        if size is not None and size < n:
            positions = cycled_positions(n, size, self.updates, self._setting.seed)
            images = self._setting.validation.at(positions)
            probabilities = probabilities[torch.from_numpy(positions).to(probabilities.device)]
        predictions = predictions_of(model, images, self._setting.execution)
        risks = class_risks(probabilities, predictions, self._priors)
        self.log_multipliers = ascend(self.log_multipliers, risks, self._options.step_size)
        self.updates += 1


def cycled_positions(n: int, size: int, update: int, seed: int) -> NDArray[np.int64]:
    """Positions of the update-th batch of an endless stream of shuffled passes over n images."""
    start = update * size
    first, last = start // n, (start + size - 1) // n
    passes = [
        stream(stream_seed("validation", seed), number).permutation(n)
        for number in range(first, last + 1)
    ]
    return np.concatenate(passes)[start - first * n :][:size].astype(np.int64)
