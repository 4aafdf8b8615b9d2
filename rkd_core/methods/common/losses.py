"""The loss of a method at work, and the cross-entropies and divergences that methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.methods.common.protocol import Context, Features, LossInputs, needed
from rkd_core.objectives import margin_loss

__all__ = ["Loss", "mixed_targets", "soft_labels_loss", "softened_divergence", "warm_up"]

LARGEST = 1e30  # a teacher's logits are cut here: differences and products stay finite in float32

LossFunction = Callable[[LossInputs], Tensor]


class Loss(nn.Module):
    """A method's loss in one training: a function, and what of it changes with the steps.

    As a module it has ``parameters()`` for the optimiser, and ``state_dict()`` and
    ``load_state_dict()`` (which copies in place) for checkpoints; both are empty for most methods.
    What it keeps is where ``Context.device`` said; it is not moved.

    Args:
        function: From inputs in float32 or more to a scalar.
        trained: A module that is trained with the student and then dropped.
        state: Tensors that ``function`` changes in place, by name.
    """

    def __init__(
        self, function: LossFunction, trained: nn.Module | None = None, **state: Tensor
    ) -> None:
        super().__init__()
        self._function = function
        self.trained = trained
        for name, value in state.items():
            self.register_buffer(name, value)

    def forward(self, inputs: LossInputs) -> Tensor:
        """Scalar, in float32 or the logits' own precision if that is higher, under any autocast.

        Raises:
            ValueError: Shapes do not fit together, or something is missing.
        """
        logits, labels, teacher = inputs.logits, inputs.labels, inputs.teacher_logits
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"a loss takes logits (batch, classes) and labels (batch,), not "
                f"{tuple(logits.shape)}, {tuple(labels.shape)}"
            )
        if teacher is not None and teacher.shape != logits.shape:
            raise ValueError(
                f"student and teacher differ in shape: {tuple(logits.shape)}, "
                f"{tuple(teacher.shape)}"
            )
        with torch.autocast(device_type=logits.device.type, enabled=False):
            return self._function(_lifted(inputs))


def soft_labels_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy with soft labels: the margin loss of equal costs."""
    return margin_loss(logits, targets, torch.ones_like(targets[0]))


def mixed_targets(
    labels: Tensor, teacher: Tensor, temperature: float, weight: Tensor | float
) -> Tensor:
    """``(1 - weight) one-hot + weight softmax(z / T)``, ``(batch, classes)``.

    Args:
        labels: ``(batch,)``.
        teacher: Logits z, ``(batch, classes)``.
        temperature: T.
        weight: In [0, 1]; one for all, or ``(batch, 1)``.
    """
    soft = F.softmax(teacher / temperature, dim=1)
    return soft.lerp(F.one_hot(labels, teacher.shape[1]).to(soft.dtype), 1 - weight)


def softened_divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(z / T) || softmax(f / T))``, mean over the batch."""
    student = F.log_softmax(logits / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(student, wanted, reduction="batchmean", log_target=True)


def warm_up(inputs: LossInputs, share: float, context: Context) -> Tensor | float:
    """Rises linearly to 1 over a share of the epochs, from the first epoch on; 1 without a share.

    The reference codes state it in epochs: 20 of 240 is a share of 1/12.
    """
    if share == 0:
        return 1.0
    epoch = needed(inputs.epoch, "the epoch")
    return (epoch / (share * context.epochs)).clamp(max=1)


def _lifted(inputs: LossInputs) -> LossInputs:
    """Floats in float32 or more, the teacher's detached and its logits finite."""
    values = {f.name: _each(getattr(inputs, f.name), _lift) for f in fields(LossInputs)}
    for name in ("teacher_logits", "teacher_features", "teacher_maps"):
        values[name] = _each(values[name], Tensor.detach)
    if inputs.teacher_logits is not None:
        values["teacher_logits"] = values["teacher_logits"].clamp(-LARGEST, LARGEST)
    return LossInputs(**values)


def _lift(value: Tensor) -> Tensor:
    wide = torch.promote_types(value.dtype, torch.float32)
    return value.to(wide) if value.is_floating_point() else value


def _each(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The function of a tensor, or of each tensor of features; None stays None."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else function(value)
    if isinstance(value, Features):
        return Features(**{f.name: _each(getattr(value, f.name), function) for f in fields(value)})
    return tuple(_each(part, function) for part in value)
