"""Logits and predictions of a model in evaluation mode, and per-class statistics of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.datasets.batches.batches import Batch
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError
from rkd_core.models.base import evaluating

__all__ = [
    "NOT_FINITE",
    "class_confidence",
    "class_counts",
    "iterate_logits",
    "logits_of",
    "predictions_of_all",
    "regularization_samples",
    "shared_logits",
]


NOT_FINITE = "the model's logits are not finite"
"""Cause of a training that is abandoned for its logits."""

_CHUNK = 4096  # images whose logits are converted to float64 at a time


def iterate_logits(
    model: nn.Module, batches: Iterable[Batch], execution: Execution
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch with its float32 logits ``(batch, classes)``.

    During the iteration the model is in evaluation mode and computes no gradients; afterwards its
    previous mode is restored.

    Raises:
        DivergedError: A logit is not finite, so predictions would be meaningless.
    """
    training = model.training
    model.eval()
    try:
        for batch in batches:
            with torch.no_grad(), execution.autocast():
                logits = model(batch.images)
            if not bool(torch.isfinite(logits).all()):
                raise DivergedError(NOT_FINITE)
            yield batch, logits.float()
    finally:
        model.train(training)


def logits_of(model: nn.Module, batches: Iterable[Batch], execution: Execution) -> Tensor:
    """Return float32 logits ``(n, classes)`` in the order of the batches, on the device."""
    return torch.cat([logits for _, logits in iterate_logits(model, batches, execution)])


def shared_logits(
    models: Sequence[nn.Module], batches: Iterable[Batch], execution: Execution
) -> Iterator[list[Tensor]]:
    """Yield the float32 logits ``(batch, classes)`` of several models for each batch they share."""
    for batch in batches:
        found = []
        for model in models:
            with evaluating(model), execution.autocast():
                found.append(model(batch.images).float())
        yield found


def predictions_of_all(
    models: Sequence[nn.Module], batches: Iterable[Batch], execution: Execution
) -> list[tuple[Tensor, Tensor]]:
    """Predict labels with several models, which share each batch; never wait for a GPU.

    Returns:
        For each model, the predicted labels ``(n,)`` in the order of the batches, and a boolean
        scalar that says whether all logits are finite; all on the device.
    """
    labels: list[list[Tensor]] = [[] for _ in models]
    finite: list[list[Tensor]] = [[] for _ in models]
    for of_batch in shared_logits(models, batches, execution):
        for number, logits in enumerate(of_batch):
            finite[number].append(torch.isfinite(logits).all())
            labels[number].append(logits.argmax(dim=1))
    return [
        (torch.cat(own), torch.stack(all_finite).all())
        for own, all_finite in zip(labels, finite, strict=True)
    ]


def class_counts(
    labels: NDArray[np.int64], predictions: Tensor, classes: int
) -> tuple[list[int], list[int]]:
    """Count the images and the correct predictions of each class.

    Returns:
        Lists ``(total, correct)`` in label order.
    """
    predicted = predictions.cpu().numpy()
    total = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels[predicted == labels], minlength=classes)
    return total.tolist(), correct.tolist()


def class_confidence(
    labels: NDArray[np.int64], logits: Tensor, classes: int
) -> tuple[list[float | None], list[float | None]]:
    """Return the mean log-loss and the mean margin of each class.

    The log-loss is ``-log p_y``, the margin ``p_y - max over y' != y of p_y'``. See Lukasik et al.
    (TMLR 2022), section 3.7: a negative margin is a confident mistake.

    Args:
        labels: int64 ``(n,)``.
        logits: ``(n, classes)``.
        classes: Number of classes.

    Returns:
        Lists ``(log_loss, margin)`` in label order, with None for a class without images. If
        there is only one class, its margin is 1.
    """
    of_images = []
    for part, truth in zip(
        *(t.split(_CHUNK) for t in (logits, _truth(labels, logits))), strict=True
    ):
        logp = F.log_softmax(part.double(), dim=1)
        own = logp.gather(1, truth)[:, 0]
        others = logp.scatter(1, truth, -math.inf).amax(dim=1)
        of_images.append(torch.stack([-own, own.exp() - others.exp()]))
    total = np.bincount(labels, minlength=classes)
    means = (
        np.bincount(labels, weights=values, minlength=classes)
        for values in torch.cat(of_images, dim=1).cpu().numpy()
    )
    losses, margins = (
        [float(s / n) if n else None for s, n in zip(sums, total, strict=True)] for sums in means
    )
    return losses, margins


def regularization_samples(
    labels: NDArray[np.int64], student: Tensor, teacher: Tensor, classes: int
) -> list[int]:
    """Count the images of each class to whose label the student assigns the higher probability.

    The probabilities of student and teacher are compared at temperature 1. See Zhou et al. (ICLR
    2021); Lukasik et al. (TMLR 2022), appendix C.4.

    Args:
        labels: int64 ``(n,)``.
        student: Logits of the student, ``(n, classes)``.
        teacher: Logits of the teacher for the same images, ``(n, classes)``.
        classes: Number of classes.
    """
    more = _log_probabilities(student, labels) > _log_probabilities(teacher, labels)
    counts: list[int] = np.bincount(labels[more.cpu().numpy()], minlength=classes).tolist()
    return counts


def _log_probabilities(logits: Tensor, labels: NDArray[np.int64]) -> Tensor:
    """Return ``log p_y`` of each image, float64 ``(n,)``."""
    pairs = zip(*(t.split(_CHUNK) for t in (logits, _truth(labels, logits))), strict=True)
    parts = [F.log_softmax(part.double(), dim=1).gather(1, truth) for part, truth in pairs]
    return torch.cat(parts)[:, 0]


def _truth(labels: NDArray[np.int64], logits: Tensor) -> Tensor:
    """Return the labels ``(n, 1)`` on the device of the logits."""
    return torch.from_numpy(labels).to(logits.device)[:, None]
