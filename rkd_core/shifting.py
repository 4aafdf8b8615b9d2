"""A run that trains nothing: its teacher's network with shifted logits, found on validation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rkd_core.errors import UserError
from rkd_core.evaluation import logits_of
from rkd_core.methods.parts.protocol import Shift
from rkd_core.predictor import AveragedLogits
from rkd_core.setting import Setting
from rkd_core.specs import TrainingSpec
from rkd_core.teachers import stored_network

__all__ = ["Shifted"]


class Shifted:
    """The shift of a teacher's logits.

    It is added to the biases of its classifier, so what is kept is a network like any other.

    Args:
        spec: Of a variant that trains nothing.
        setting: Data and device.
        out: Results folder, which has the teacher.

    Attributes:
        network: With the shift, in evaluation mode; its images are normalised as the teacher's.
        model: The same for images of the setting.
        description: Of the network, for its artifact.
        seconds: That it took.

    Raises:
        UserError: The teacher's artifact is missing or damaged, or its classifier has no bias.
    """

    def __init__(self, spec: TrainingSpec, setting: Setting, out: Path) -> None:
        if spec.variant is None or spec.teacher is None:
            raise ValueError("a shift is a variant, and has a teacher")
        method = spec.variant.build()
        if not isinstance(method, Shift):
            raise TypeError(f"{method.name} is no shift")
        began = time.perf_counter()
        dataset, execution = setting.dataset, setting.execution
        artifact, self.model = stored_network(spec.teacher, setting, out, torch.float32)
        self.network: nn.Module = self.model.network
        self.description: dict[str, Any] = artifact.model
        logits = logits_of(self.model, setting.validation, execution)
        shift = method.shift(
            logits.cpu().numpy(),
            dataset.val.labels,
            tuple(dataset.class_counts("train").tolist()),
        )
        network = self.network
        for part in (
            network.iterates.children() if isinstance(network, AveragedLogits) else [network]
        ):
            bias = getattr(getattr(part, "classifier", None), "bias", None)
            if bias is None:
                raise UserError(
                    f"{method.name} needs a classifier with a bias, which {spec.architecture} "
                    "has not"
                )
            bias.add_(torch.from_numpy(shift).to(bias))
        self.seconds = time.perf_counter() - began
