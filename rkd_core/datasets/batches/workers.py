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
"""Value of ``epoch`` that selects the evaluation views."""

Key = tuple[int, int]
"""Epoch and position of a view; with the epoch in the key, workers persist across epochs."""

Rows = list[NDArray[np.int64]]
"""Positions in the set, one array for each batch."""

View = tuple[NDArray[np.uint8], int, int]


class WorkerPool:
    """Pool of processes that decode batches of views in parallel and return them in order.

    Args:
        image_set: Images to decode.
        seed: Seed of the augmentation.
        crop: Smallest share of the area of training views, which are random resized crops; None
            for center crops.
        flip: Whether training views are flipped at random.
        workers: Number of processes; 0 to decode in this one, None for one per core, at most 8.
        persistent: Whether the processes are kept after a pass over the set.
        pinned: Whether batches are put in page-locked memory, for faster copies to the device.
    """

    def __init__(
        self,
        image_set: StreamedImageSet,
        seed: int,
        *,
        crop: float | None,
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
            generator=torch.Generator(),  # otherwise it would draw from the global generator
        )

    def read(self, rows: Rows, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pixels uint8 ``(b, h, w, c)``, labels and positions int64 ``(b,)`` of each batch.

        Args:
            rows: Positions in the set, int64 ``(b,)`` for each batch.
            epoch: Epoch, counted from 0, or ``EVALUATION``.

        Raises:
            UserError: An image cannot be decoded.
        """
        self._plan.rows, self._plan.epoch = rows, epoch
        for result in self._loader:
            if isinstance(result, str):
                raise UserError(result)
            yield result


class _Plan(Sampler[list[Key]]):
    """Batches of the current pass over the set."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.epoch = EVALUATION

    def __iter__(self) -> Iterator[list[Key]]:
        return ([(self.epoch, index) for index in batch.tolist()] for batch in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class _Views(Dataset[View | str]):
    """Views by epoch and position, decoded in the workers."""

    def __init__(
        self, image_set: StreamedImageSet, seed: int, crop: float | None, flip: bool
    ) -> None:
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
        except UserError as error:  # an exception would reach the parent wrapped in a traceback
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
