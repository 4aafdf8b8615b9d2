"""Loss module of a method, and the cross-entropies and divergences that methods share."""

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

LARGEST = 1e30  # bound of teacher logits, so that differences and products are finite in float32

LossFunction = Callable[[LossInputs], Tensor]


class Loss(nn.Module):
    """Loss of a method in one training, with its parameters and state.

    As a module it has ``parameters()`` for the optimizer, and ``state_dict()`` and
    ``load_state_dict()`` (which copies in place) for checkpoints; both are empty for most methods.
    Its tensors are created on ``Context.device`` and are not moved.

    Args:
        function: Function from inputs in float32 or higher precision to a scalar.
        trained: Module that is trained with the student and discarded afterwards.
        state: Tensors, by name, that ``function`` changes in place.
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
        """Return the scalar loss, in at least float32 even under autocast.

        Raises:
            ValueError: Shapes do not match, or an input that the method needs is missing.
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
            return self._function(_widened(inputs))


def soft_labels_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy with soft labels: the margin loss with equal costs.

    Args:
        logits: ``(batch, classes)``.
        targets: Probabilities, ``(batch, classes)``.
    """
    return margin_loss(logits, targets, torch.ones_like(targets[0]))


def mixed_targets(
    labels: Tensor, teacher: Tensor, temperature: float, weight: Tensor | float
) -> Tensor:
    """Return ``(1 - weight) one-hot + weight softmax(z / T)``, ``(batch, classes)``.

    Args:
        labels: True labels, ``(batch,)``.
        teacher: Logits z of the teacher, ``(batch, classes)``.
        temperature: Temperature T.
        weight: Weight in [0, 1]: a number, or a tensor ``(batch, 1)``.
    """
    soft = F.softmax(teacher / temperature, dim=1)
    return soft.lerp(F.one_hot(labels, teacher.shape[1]).to(soft.dtype), 1 - weight)


def softened_divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(softmax(z / T) || softmax(f / T))``, averaged over the batch.

    Args:
        logits: Logits f of the student, ``(batch, classes)``.
        teacher: Logits z of the teacher, ``(batch, classes)``.
        temperature: Temperature T.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(student, wanted, reduction="batchmean", log_target=True)


def warm_up(inputs: LossInputs, share: float, context: Context) -> Tensor | float:
    """Return the warm-up factor of a loss term, which rises linearly to 1 over the first epochs.

    Args:
        inputs: Inputs of the loss, with the epoch.
        share: Share of the epochs over which the factor rises; 0 for a factor of 1. Reference
            implementations state it in epochs: 20 of 240 is a share of 1/12.
        context: Context with the number of epochs.
    """
    if share == 0:
        return 1.0
    epoch = needed(inputs.epoch, "the epoch")
    return (epoch / (share * context.epochs)).clamp(max=1)


def _widened(inputs: LossInputs) -> LossInputs:
    """Cast floats to at least float32; detach the teacher's tensors and clip its logits."""
    values = {f.name: _each(getattr(inputs, f.name), _widen) for f in fields(LossInputs)}
    for name in ("teacher_logits", "teacher_features", "teacher_maps"):
        values[name] = _each(values[name], Tensor.detach)
    if inputs.teacher_logits is not None:
        values["teacher_logits"] = values["teacher_logits"].clamp(-LARGEST, LARGEST)
    return LossInputs(**values)


def _widen(value: Tensor) -> Tensor:
    wide = torch.promote_types(value.dtype, torch.float32)
    return value.to(wide) if value.is_floating_point() else value


def _each(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to a tensor, or to each tensor of features; return None for None."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else function(value)
    if isinstance(value, Features):
        return Features(**{f.name: _each(getattr(value, f.name), function) for f in fields(value)})
    return tuple(_each(part, function) for part in value)
