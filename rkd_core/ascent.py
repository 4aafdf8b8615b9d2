"""The outer loop of Algorithm 1: when, and on which validation images, multipliers rise."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rkd_core.datasets import Dataset
from rkd_core.datasets.batches import EvaluationBatches
from rkd_core.datasets.seeding import stream
from rkd_core.evaluation import predictions_of
from rkd_core.execution import Execution
from rkd_core.multipliers import ascend, class_risks, uniform
from rkd_core.specs import MultiplierOptions, Recipe
from rkd_core.streams import stream_seed
from rkd_core.targets import EVALUATION_BATCH

__all__ = ["Ascent", "cycled_positions"]


class Ascent:
    """log lambda of one training, raised on the validation set with the 0-1 loss.

    Args:
        options: Step size, period and batch.
        probabilities: Labels the risks are measured with, teacher's or true ones, float64
            ``(n_val, classes)``.
        dataset: Its validation images are used.
        recipe: How images are normalised.
        statistics: Normalisation of the training set.
        execution: Device and precision.
        seed: The training's seed; validation batches are a pure function of it and of the number
            of updates so far.
    """

    def __init__(
        self,
        options: MultiplierOptions,
        probabilities: Tensor,
        dataset: Dataset,
        recipe: Recipe,
        statistics: tuple[Tensor, Tensor],
        execution: Execution,
        seed: int,
    ) -> None:
        self.log_multipliers = uniform(dataset.classes).to(execution.device)
        self.updates = 0
        self._options = options
        self._probabilities = probabilities
        # Full-set denominators: a small batch's own would be near zero for rare classes.
        self._priors = probabilities.mean(dim=0)
        self._images = dataset.val
        self._recipe = recipe
        self._statistics = statistics
        self._execution = execution
        self._seed = seed

    def due(self, step: int) -> bool:
        """Whether an update comes before this step, counted from 0 within its epoch."""
        period = self._options.period
        return step == 0 if period is None else step % period == 0

    def update(self, model: nn.Module) -> None:
        """One exponentiated-gradient step against the model as it is now."""
        size, n = self._options.batch, len(self._images)
        images, probabilities = self._images, self._probabilities
        if size is not None and size < n:
            positions = cycled_positions(n, size, self.updates, self._seed)
            images = images.subset(positions)
            probabilities = probabilities[torch.from_numpy(positions).to(probabilities.device)]
        batches = EvaluationBatches(
            images,
            self._recipe,
            batch_size=EVALUATION_BATCH,
            device=self._execution.device,
            statistics=self._statistics,
            workers=self._execution.threads,
        )
        predictions = predictions_of(model, batches, self._execution)
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
