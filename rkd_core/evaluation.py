"""Logits and per-class counts of a model over a set of images, always in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rkd_core.datasets.batches import Batch
from rkd_core.errors import DivergedError
from rkd_core.execution import Execution

__all__ = ["class_counts", "iterate_logits", "logits_of", "predictions_of"]


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
