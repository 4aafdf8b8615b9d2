"""Shifts of the logits of a trained network, fitted to validation instead of training a network."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rkd_core.datasets import Dataset
from rkd_core.datasets.array_data import ArrayData
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Shift
from rkd_core.models.base import Network
from rkd_core.models.inference import logits_of
from rkd_core.models.predictor import AveragedLogits
from rkd_core.specs import TrainingSpec
from rkd_core.storage.files import Location
from rkd_core.teachers.answers import stored_network

__all__ = ["Shifted", "adjust", "shift_of"]

FloatArray = NDArray[np.float64]

_STEPS = 1000
_STEP_SIZE, _DECAY = 0.1, 300.0  # as in post_shift: risks are discontinuous, so steps must shrink
_PRIOR_FLOOR = 1e-12


class Shifted:
    """Shifted logits of a teacher.

    The shift is added to the biases of the classifier, so the result is an ordinary network.

    Args:
        spec: Spec of a variant that trains nothing, or of a shifted teacher.
        array_data: Data and device.
        out: Results folder that holds the network of the teacher or of the source.

    Attributes:
        network: The shifted network in evaluation mode; its normalization is unchanged.
        model: The same network for images of the array_data.
        description: Description of the network for its artifact.
        multipliers: Multipliers lambda of a shifted teacher, by class; None for a variant.
        seconds: Time that the shift took.

    Raises:
        UserError: The artifact is missing or damaged, or its classifier has no bias.
    """

    def __init__(self, spec: TrainingSpec, array_data: ArrayData, out: Location) -> None:
        source = spec.teacher if spec.derived is None else spec.derived.source
        if source is None:
            raise ValueError("a shift is of a teacher's or a source's logits")
        began = time.perf_counter()
        artifact, self.model = stored_network(source, array_data, out, torch.float32)
        self.network: nn.Module = self.model.network
        self.description: dict[str, Any] = artifact.model
        logits = logits_of(self.model, array_data.validation, array_data.execution)
        shift, self.multipliers = shift_of(spec, logits.cpu().numpy(), array_data.dataset)
        network = self.network
        for part in (
            network.iterates.children() if isinstance(network, AveragedLogits) else [network]
        ):
            classifier = part.classifier if isinstance(part, Network) else None
            bias = getattr(classifier, "bias", None)
            if bias is None:
                raise UserError(
                    f"{spec.method} needs a classifier with a bias, which {spec.architecture} "
                    "has not"
                )
            bias.add_(torch.from_numpy(shift).to(bias))
        self.seconds = time.perf_counter() - began


def shift_of(
    spec: TrainingSpec, logits: NDArray[np.floating], dataset: Dataset
) -> tuple[FloatArray, list[float] | None]:
    """Return the shift of the logits, and the multipliers of a trade-off, both by class."""
    counts = dataset.class_counts("train")
    if spec.variant is not None:
        method = spec.variant.build()
        if not isinstance(method, Shift):
            raise TypeError(f"{method.name} is no shift")
        return method.shift(logits, dataset.val.labels, tuple(counts.tolist())), None
    if spec.alpha is None:
        raise ValueError("a shifted teacher is one of a trade-off")
    shift, found = adjust(logits, dataset.val.labels, counts / counts.sum(), spec.alpha)
    return shift, None if found is None else found.tolist()


def adjust(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    priors: FloatArray,
    alpha: float,
) -> tuple[FloatArray, FloatArray | None]:
    """Return the shift ``log c`` from a standard classifier's logits to those of a trade-off.

    At the optimum of the margin loss with costs c the logits are ``log(c q)`` (Wang et al. 2023),
    so adding ``log c`` to the logits of a standard classifier gives the classifier of a trade-off.
    For alpha 0 the priors suffice (Menon et al., ICLR 2021). For other alphas Algorithm 1 finds the
    multipliers on validation, with the classifier unchanged.

    Args:
        logits: Logits of the validation images, ``(n, classes)``.
        labels: True labels of the validation images, ``(n,)``.
        priors: Shares of the classes in the training set, ``(classes,)``.
        alpha: Trade-off: 0 is balanced, 1 is robust.

    Returns:
        The shift, with mean 0, and the multipliers lambda (None for alpha 0), both ``(classes,)``.
        The multipliers are those of the step with the smallest sum of ``(1 - alpha)`` times the
        balanced error and ``alpha`` times the worst-class error on validation.
    """
    scores = np.asarray(logits, dtype=np.float64)
    classes = scores.shape[1]
    log_priors = np.log(np.maximum(priors, _PRIOR_FLOOR))
    if alpha == 0:
        return _centered(-log_priors), None
    total = np.bincount(labels, minlength=classes)
    present = total > 0
    log_multipliers = np.full(classes, -np.log(classes))
    best: tuple[float, FloatArray, FloatArray] | None = None
    for step in range(_STEPS):
        multipliers = np.exp(log_multipliers)
        shift = np.log((1 - alpha) / classes + alpha * multipliers) - log_priors
        right = labels[(scores + shift).argmax(axis=1) == labels]
        risks = np.zeros(classes)
        risks[present] = 1 - np.bincount(right, minlength=classes)[present] / total[present]
        error = float((1 - alpha) * risks[present].mean() + alpha * risks.max())
        if best is None or error < best[0]:
            best = error, shift, multipliers
        log_multipliers = log_multipliers + _STEP_SIZE / (1 + step / _DECAY) * risks
        log_multipliers -= np.logaddexp.reduce(log_multipliers)
    assert best is not None
    return _centered(best[1]), best[2]


def _centered(shift: FloatArray) -> FloatArray:
    return shift - shift.mean()
