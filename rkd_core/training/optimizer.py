"""SGD with momentum, and learning-rate schedules.

Creating a ``torch.optim.Optimizer`` imports ``torch._dynamo`` and sympy, which takes two to four
seconds of CPU time in every process. The ``SGD`` of this module calls the same function as
``torch.optim.SGD.step``, so that weights are identical to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from rkd_core.specs import Recipe

__all__ = ["SGD", "Group", "learning_rate", "optimizer_for"]


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    The warm-up rises linearly to the peak. ``cosine`` then falls to zero at the end of the
    training; ``step`` multiplies the rate by ``decay`` at each milestone.

    Args:
        recipe: Recipe with peak rate, warm-up and schedule.
        step: Number of the step, from 0 to ``steps - 1``.
        steps: Number of steps of the whole training.
    """
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    passed = sum(step >= round(m * steps) for m in recipe.milestones)
    return recipe.learning_rate * (recipe.decay**passed if recipe.schedule == "step" else 1.0)


@dataclass(frozen=True)
class Group:
    """Parameters with the same weight decay."""

    parameters: tuple[nn.Parameter, ...]
    weight_decay: float


class SGD:
    """Stochastic gradient descent with momentum, computed as by ``torch.optim.SGD``.

    Args:
        groups: Trained parameters; each belongs to one group.
        rate: Learning rate: a number, or a scalar tensor that every step reads, as recorded steps
            require. A tensor selects the fused kernel.
        momentum: Momentum factor; 0 for no momentum.
        nesterov: Whether to use Nesterov momentum.

    Attributes:
        rate: Learning rate of the next step.
        momentum_buffers: Momentum buffer of each parameter that has taken a step.

    Raises:
        ValueError: Nesterov momentum is on and the momentum is 0.
    """

    def __init__(
        self, groups: Iterable[Group], rate: float | Tensor, momentum: float, nesterov: bool
    ) -> None:
        if nesterov and momentum <= 0:
            raise ValueError("Nesterov momentum requires a momentum above 0")
        self.groups = tuple(groups)
        self.rate = rate
        self.momentum_buffers: dict[nn.Parameter, Tensor] = {}
        self.momentum, self.nesterov = momentum, nesterov

    def zero_grad(self) -> None:
        """Reset all gradients to None."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient, in place."""
        buffers = self.momentum_buffers
        for group in self.groups:
            moved = [p for p in group.parameters if p.grad is not None]
            momenta = [buffers.get(p) for p in moved] if self.momentum else []
            sgd(
                list[Tensor](moved),
                [p.grad for p in moved if p.grad is not None],
                momenta,
                fused=isinstance(self.rate, Tensor),
                weight_decay=group.weight_decay,
                momentum=self.momentum,
                lr=self.rate,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
            )
            buffers.update(
                (p, buffer) for p, buffer in zip(moved, momenta, strict=False) if buffer is not None
            )


def optimizer_for(model: nn.Module, recipe: Recipe, rate: Tensor | None = None) -> SGD:
    """Return the optimizer for a model, with a separate group for batch norm.

    Args:
        model: Network whose parameters are optimized.
        recipe: Recipe with learning rate, momentum, weight decay and ``decay_norm``.
        rate: Scalar tensor with the learning rate, for recorded steps; None to use a number.
    """
    norm = [
        parameter
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for parameter in module.parameters(recurse=False)
    ]
    norm_ids = {id(parameter) for parameter in norm}
    others = [p for p in model.parameters() if id(p) not in norm_ids]
    return SGD(
        (
            Group(tuple(others), recipe.weight_decay),
            Group(tuple(norm), recipe.weight_decay if recipe.decay_norm else 0.0),
        ),
        recipe.learning_rate if rate is None else rate,
        recipe.momentum,
        recipe.nesterov,
    )
