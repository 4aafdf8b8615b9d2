"""A run that trains nothing: a network that there is, with shifted logits, found on validation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rkd_core.datasets import Dataset
from rkd_core.datasets.array_data import ArrayData
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Shift
from rkd_core.models.inference import logits_of
from rkd_core.models.predictor import AveragedLogits
from rkd_core.specs import TrainingSpec
from rkd_core.teachers.answers import stored_network
from rkd_core.training.logit_adjustment import adjust

__all__ = ["Shifted"]


class Shifted:
    """The shift of a teacher's logits.

    It is added to the biases of its classifier, so what is kept is a network like any other.

    Args:
        spec: Of a variant that trains nothing, or of a teacher that is shifted.
        setting: Data and device.
        out: Results folder, which has the network: the teacher's, or the source's.

    Attributes:
        network: With the shift, in evaluation mode; its images are normalised as before.
        model: The same for images of the setting.
        description: Of the network, for its artifact.
        multipliers: lambda of a shifted teacher, by class; None without.
        seconds: That it took.

    Raises:
        UserError: The artifact is missing or damaged, or its classifier has no bias.
    """

    def __init__(self, spec: TrainingSpec, setting: ArrayData, out: Path) -> None:
        source = spec.teacher if spec.derived is None else spec.derived.source
        if source is None:
            raise ValueError("a shift is of a teacher's or a source's logits")
        began = time.perf_counter()
        artifact, self.model = stored_network(source, setting, out, torch.float32)
        self.network: nn.Module = self.model.network
        self.description: dict[str, Any] = artifact.model
        logits = logits_of(self.model, setting.validation, setting.execution)
        shift, self.multipliers = _shift(spec, logits.cpu().numpy(), setting.dataset)
        network = self.network
        for part in (
            network.iterates.children() if isinstance(network, AveragedLogits) else [network]
        ):
            bias = getattr(getattr(part, "classifier", None), "bias", None)
            if bias is None:
                raise UserError(
                    f"{spec.method} needs a classifier with a bias, which {spec.architecture} "
                    "has not"
                )
            bias.add_(torch.from_numpy(shift).to(bias))
        self.seconds = time.perf_counter() - began


def _shift(
    spec: TrainingSpec, logits: NDArray[np.floating], dataset: Dataset
) -> tuple[NDArray[np.float64], list[float] | None]:
    """What is added to the logits, and the multipliers of a trade-off, both by class."""
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
