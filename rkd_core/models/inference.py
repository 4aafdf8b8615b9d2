"""Logits of a model over images, in evaluation mode, and what follows from them by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.datasets.batches.batches import Batch
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError

__all__ = [
    "class_confidence",
    "class_counts",
    "iterate_logits",
    "logits_of",
    "predictions_of",
    "regularization_samples",
]


def iterate_logits(
    model: nn.Module, batches: Iterable[Batch], execution: Execution
) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with its float32 logits ``(batch, classes)``.

    The model is in evaluation mode, and without gradients, while this iterates; afterwards it is
    back in the mode it was in.

    Raises:
        DivergedError: A logit is not finite. An argmax would still give an answer, a wrong one.
    """
    training = model.training
    model.eval()
    try:
        for batch in batches:
            with torch.no_grad(), execution.autocast():
                logits = model(batch.images)
            if not bool(torch.isfinite(logits).all()):
                raise DivergedError("the model's logits are not finite")
            yield batch, logits.float()
    finally:
        model.train(training)


def logits_of(model: nn.Module, batches: Iterable[Batch], execution: Execution) -> Tensor:
    """Float32 logits ``(n, classes)`` in the order of the batches, on the device."""
    return torch.cat([logits for _, logits in iterate_logits(model, batches, execution)])


def predictions_of(model: nn.Module, batches: Iterable[Batch], execution: Execution) -> Tensor:
    """Predicted labels ``(n,)`` in the order of the batches, on the device."""
    parts = [logits.argmax(dim=1) for _, logits in iterate_logits(model, batches, execution)]
    return torch.cat(parts)


def class_counts(
    labels: NDArray[np.int64], predictions: Tensor, classes: int
) -> tuple[list[int], list[int]]:
    """Images and correct predictions of each class, in label order: ``(total, correct)``."""
    predicted = predictions.cpu().numpy()
    total = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels[predicted == labels], minlength=classes)
    return total.tolist(), correct.tolist()


def class_confidence(
    labels: NDArray[np.int64], logits: Tensor, classes: int
) -> tuple[list[float | None], list[float | None]]:
    """Mean log-loss ``-log p_y`` and mean margin ``p_y - max of the others`` of each class.

    Lukasik et al. (TMLR 2022), section 3.7: a negative margin is a confident mistake.

    Args:
        labels: int64 ``(n,)``.
        logits: ``(n, classes)``.
        classes: How many there are.

    Returns:
        Two lists in label order; None for a class without images. With one class, the margin is
        1.
    """
    logp, truth = F.log_softmax(logits.double(), dim=1), _truth(labels, logits)
    own = logp.gather(1, truth)[:, 0]
    others = logp.scatter(1, truth, -math.inf).amax(dim=1)
    total = np.bincount(labels, minlength=classes)
    means = (
        np.bincount(labels, weights=values.cpu().numpy(), minlength=classes)
        for values in (-own, own.exp() - others.exp())
    )
    losses, margins = (
        [float(s / n) if n else None for s, n in zip(sums, total, strict=True)] for sums in means
    )
    return losses, margins


def regularization_samples(
    labels: NDArray[np.int64], student: Tensor, teacher: Tensor, classes: int
) -> list[int]:
    """Images of each class whose label the student finds more probable than its teacher does.

    Zhou et al. (ICLR 2021); Lukasik et al. (TMLR 2022), appendix C.4. No temperature.

    Args:
        labels: int64 ``(n,)``.
        student: Logits ``(n, classes)``.
        teacher: Logits ``(n, classes)`` of the same images.
        classes: How many there are.
    """
    more = _log_probabilities(student, labels) > _log_probabilities(teacher, labels)
    counts: list[int] = np.bincount(labels[more.cpu().numpy()], minlength=classes).tolist()
    return counts


def _log_probabilities(logits: Tensor, labels: NDArray[np.int64]) -> Tensor:
    """``log p_y`` of each image, float64 ``(n,)``."""
    return F.log_softmax(logits.double(), dim=1).gather(1, _truth(labels, logits))[:, 0]


def _truth(labels: NDArray[np.int64], logits: Tensor) -> Tensor:
    """Labels ``(n, 1)`` where the logits are."""
    return torch.from_numpy(labels).to(logits.device)[:, None]
