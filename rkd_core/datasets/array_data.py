"""Data that the trainings of an array share: dataset, batches, normalization and device."""

from __future__ import annotations

from rkd_core.datasets import Dataset
from rkd_core.datasets.batches.batches import (
    EvaluationBatches,
    TrainingBatches,
    normalization_statistics,
)
from rkd_core.datasets.image_set import AnySet
from rkd_core.datasets.splits import hold_out
from rkd_core.device.execution import Execution
from rkd_core.methods.common.protocol import Sampling
from rkd_core.seeds import stream_seed
from rkd_core.specs import TrainingSpec

__all__ = ["ArrayData"]


class ArrayData:
    """Data of an array of trainings on their device.

    Trainings of the same stage and seed see the same batches in the same order with the same
    augmentation, whatever else differs between them, so that their results are paired.

    Args:
        spec: Any of the trainings; all share its stage, seed, recipe and data options.
        dataset: Dataset of the trainings; the training set of an initial teacher is reduced by
            the held-out images.
        execution: Device, precision and threads.
    """

    def __init__(self, spec: TrainingSpec, dataset: Dataset, execution: Execution) -> None:
        if spec.held_out is not None:
            kept, _ = hold_out(dataset.train.labels, spec.held_out)
            dataset = dataset.with_training_rows(kept)
        self.dataset, self.execution = dataset, execution
        self.recipe, self.data_options, self.seed = spec.recipe, spec.data, spec.seed
        self.data_seed = stream_seed("data", spec.stage, spec.seed)
        # All trainings of an array have the same sampling: see ``array_key``.
        needs = None if spec.variant is None else spec.variant.build().needs
        self.sampling: Sampling = "all" if needs is None else needs.sampling
        self.statistics = normalization_statistics(dataset.train, spec.recipe)
        self.batches = TrainingBatches(
            dataset.train,
            spec.recipe,
            seed=self.data_seed,
            sampling=self.sampling,
            device=execution.device,
            statistics=self.statistics,
            workers=execution.workers,
        )
        self.evaluation_batch_size = execution.evaluation_batch(dataset.image_size)
        self.validation, self.test = map(self.evaluation_batches, (dataset.val, dataset.test))

    def evaluation_batches(self, images: AnySet) -> EvaluationBatches:
        """Return evaluation batches of an image set of this dataset: in order, not augmented."""
        return EvaluationBatches(
            images,
            self.recipe,
            batch_size=self.evaluation_batch_size,
            device=self.execution.device,
            statistics=self.statistics,
            workers=self.execution.workers,
        )
