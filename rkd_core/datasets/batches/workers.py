"""Worker processes that decode the images of a streamed set, through torch's ``DataLoader``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rkd_core.datasets.preparation.survey import parallelism
from rkd_core.datasets.streamed_set import StreamedImageSet
from rkd_core.errors import UserError

__all__ = ["EVALUATION", "Rows", "WorkerPool"]

EVALUATION = -1
"""In the place of an epoch: the view for evaluation."""

Key = tuple[int, int]
"""Epoch and position of a view. With both in the key, workers can live on from epoch to epoch."""

Rows = list[NDArray[np.int64]]
"""Positions in the set, one array for each batch."""

View = tuple[NDArray[np.uint8], int, int]


class WorkerPool:
    """Decodes batches of views in parallel and returns them in order.

    Args:
        image_set: What to decode.
        seed: Of the augmentation.
        crop: Whether training views take a random resized crop.
        flip: Whether training views are mirrored at random.
        workers: Processes; 0 to decode in this one, None for one per core, at most 8.
        persistent: Whether the processes outlive a pass over the set.
        pinned: Whether batches are put in page-locked memory, for a faster way to the device.
    """

    def __init__(
        self,
        image_set: StreamedImageSet,
        seed: int,
        *,
        crop: bool,
        flip: bool,
        workers: int | None,
        persistent: bool,
        pinned: bool,
    ) -> None:
        count = parallelism() if workers is None else workers
        self._plan = _Plan()
        self._loader = DataLoader(
            _Views(image_set, seed, crop, flip),
            batch_sampler=self._plan,
            num_workers=count,
            persistent_workers=persistent and count > 0,
            collate_fn=_collate,
            pin_memory=pinned,
            generator=torch.Generator(),  # or it would draw from the global one
        )

    def read(self, rows: Rows, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pixels uint8 ``(b, h, w, c)``, labels and positions int64 ``(b,)`` of each batch.

        Args:
            rows: Positions in the set, int64 ``(b,)`` for each batch.
            epoch: From 0, or ``EVALUATION``.

        Raises:
            UserError: An image cannot be decoded.
        """
        self._plan.rows, self._plan.epoch = rows, epoch
        for result in self._loader:
            if isinstance(result, str):
                raise UserError(result)
            yield result


class _Plan(Sampler[list[Key]]):
    """The batches of the pass at hand."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.epoch = EVALUATION

    def __iter__(self) -> Iterator[list[Key]]:
        return ([(self.epoch, index) for index in batch.tolist()] for batch in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class _Views(Dataset[View | str]):
    """Views by epoch and position; lives in the workers."""

    def __init__(self, image_set: StreamedImageSet, seed: int, crop: bool, flip: bool) -> None:
        self._set, self._seed, self._crop, self._flip = image_set, seed, crop, flip

    def __getitem__(self, key: Key) -> View | str:
        epoch, index = key
        try:
            if epoch == EVALUATION:
                view = self._set.evaluation_view(index)
            else:
                view = self._set.training_view(
                    index, self._seed, epoch, crop=self._crop, flip=self._flip
                )
        except UserError as error:  # its one line would arrive wrapped in a traceback
            return str(error)
        return view, int(self._set.labels[index]), index


def _collate(views: list[View | str]) -> tuple[Tensor, Tensor, Tensor] | str:
    good: list[View] = []
    for view in views:
        if isinstance(view, str):
            return view
        good.append(view)
    pixels, labels, indices = zip(*good, strict=True)
    return torch.from_numpy(np.stack(pixels)), torch.tensor(labels), torch.tensor(indices)
