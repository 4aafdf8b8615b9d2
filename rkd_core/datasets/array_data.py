"""What trainings that run side by side have in common: data, batches, normalisation, device."""

from __future__ import annotations

from rkd_core.datasets import Dataset, ImageSet, StreamedImageSet
from rkd_core.datasets.batches.batches import (
    EvaluationBatches,
    TrainingBatches,
    normalization_statistics,
)
from rkd_core.datasets.splits import hold_out
from rkd_core.device.execution import Execution
from rkd_core.methods.common.protocol import Sampling
from rkd_core.seeds import stream_seed
from rkd_core.specs import TrainingSpec

__all__ = ["Setting"]


class Setting:
    """The data of an array of trainings, on their device.

    Trainings of one stage and seed see the same batches in the same order with the same
    augmentation, whatever else they differ in, so that differences between them are paired.

    Args:
        spec: Any of the trainings; its stage, seed, recipe and data options are those of all.
        dataset: Their data; an initial teacher leaves the held-out images out of them.
        execution: Device, precision and threads.
    """

    def __init__(self, spec: TrainingSpec, dataset: Dataset, execution: Execution) -> None:
        if spec.held_out is not None:
            kept, _ = hold_out(dataset.train.labels, spec.held_out)
            dataset = dataset.with_training_rows(kept)
        self.dataset, self.execution = dataset, execution
        self.recipe, self.data_options, self.seed = spec.recipe, spec.data, spec.seed
        self.data_seed = stream_seed("data", spec.stage, spec.seed)
        # Whose batches are drawn in one way share an array: see ``array_key``.
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
            workers=execution.threads,
        )
        self.evaluation_batch = execution.evaluation_batch(dataset.image_size)
        self.validation, self.test = map(self.evaluated, (dataset.val, dataset.test))

    def evaluated(self, images: ImageSet | StreamedImageSet) -> EvaluationBatches:
        """Images of this data set as evaluation sees them: in order, not augmented."""
        return EvaluationBatches(
            images,
            self.recipe,
            batch_size=self.evaluation_batch,
            device=self.execution.device,
            statistics=self.statistics,
            workers=self.execution.threads,
        )
