"""SGD, AdamW, and learning-rate schedules.

Creating a ``torch.optim.Optimizer`` imports ``torch._dynamo`` and sympy, which takes two to four
seconds of CPU time in every process. The optimizers of this module call the same functions as the
``step`` of those in ``torch.optim``, so that weights are identical to the last bit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from rkd_core.specs import Recipe

__all__ = [
    "SGD",
    "AdamW",
    "Group",
    "Optimizer",
    "learning_rate",
    "optimizer_for",
    "optimizer_of_groups",
]

# Rates of the one-cycle schedule at the start and at the end, as in
# ``torch.optim.lr_scheduler.OneCycleLR``.
_FIRST_SHARE, _LAST_SHARE = 1 / 25, 1 / 25e4


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    The warm-up rises linearly to the peak. ``constant`` then stays there, ``cosine`` falls to zero
    at the end of the training, and ``step`` multiplies the rate by ``decay`` at each milestone.
    ``one_cycle`` rises and falls along half a cosine each, from 1/25 of the peak to 1/250,000.

    Args:
        recipe: Recipe with peak rate, warm-up and schedule.
        step: Number of the step, from 0 to ``steps - 1``.
        steps: Number of steps of the whole training.
    """
    if recipe.schedule == "one_cycle":
        return recipe.learning_rate * _one_cycle(recipe.warmup * steps - 1, step, steps - 1)
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    passed = sum(step >= round(m * steps) for m in recipe.milestones)
    return recipe.learning_rate * (recipe.decay**passed if recipe.schedule == "step" else 1.0)


def _one_cycle(peak: float, step: int, last: int) -> float:
    """Return the rate at a step as a share of the rate at the step ``peak``."""
    if step < peak:
        return 1 + (_FIRST_SHARE - 1) * (1 + math.cos(math.pi * step / peak)) / 2
    passed = (step - peak) / (last - peak)
    return _LAST_SHARE + (1 - _LAST_SHARE) * (1 + math.cos(math.pi * passed)) / 2


@dataclass(frozen=True)
class Group:
    """Parameters with the same weight decay."""

    parameters: tuple[nn.Parameter, ...]
    weight_decay: float


class Optimizer(ABC):
    """Update of parameters by their gradients.

    Args:
        groups: Trained parameters; each belongs to one group.
        rate: Learning rate: a number, or a scalar tensor that every step reads, as recorded steps
            require. A tensor selects the fused kernel.

    Attributes:
        rate: Learning rate of the next step.
        state: Tensors that are kept for each parameter that has taken a step, by kind. Zeros are
            equivalent to no entry, so that steps can be undone.
    """

    kinds: tuple[str, ...]

    def __init__(self, groups: Iterable[Group], rate: float | Tensor) -> None:
        self.groups = tuple(groups)
        self.rate = rate
        self.state: dict[str, dict[nn.Parameter, Tensor]] = {kind: {} for kind in self.kinds}

    def restore(self, kind: str, parameter: nn.Parameter, value: Tensor) -> None:
        """Set one kind of state of a parameter, in the memory format of the parameter."""
        like = parameter if value.shape == parameter.shape else value
        self.state[kind][parameter] = torch.empty_like(like).copy_(value)

    def zero_grad(self) -> None:
        """Reset all gradients to None."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient, in place."""
        for group in self.groups:
            moved = [p for p in group.parameters if p.grad is not None]
            gradients = [p.grad for p in moved if p.grad is not None]
            self._update(moved, gradients, group.weight_decay)

    @abstractmethod
    def _update(
        self, moved: Sequence[nn.Parameter], gradients: list[Tensor], weight_decay: float
    ) -> None:
        """Update parameters in place."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, computed as by ``torch.optim.SGD``.

    Args:
        groups: See ``Optimizer``.
        rate: See ``Optimizer``.
        momentum: Momentum factor; 0 for no momentum.
        nesterov: Whether to use Nesterov momentum.

    Raises:
        ValueError: Nesterov momentum is on and the momentum is 0.
    """

    kinds = ("momentum",)

    def __init__(
        self, groups: Iterable[Group], rate: float | Tensor, momentum: float, nesterov: bool
    ) -> None:
        if nesterov and momentum <= 0:
            raise ValueError("Nesterov momentum requires a momentum above 0")
        super().__init__(groups, rate)
        self.momentum, self.nesterov = momentum, nesterov

    def _update(
        self, moved: Sequence[nn.Parameter], gradients: list[Tensor], weight_decay: float
    ) -> None:
        buffers = self.state["momentum"]
        momenta = [buffers.get(p) for p in moved] if self.momentum else []
        sgd(
            list[Tensor](moved),
            gradients,
            momenta,
            fused=isinstance(self.rate, Tensor),
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )
        buffers.update(
            (p, buffer) for p, buffer in zip(moved, momenta, strict=False) if buffer is not None
        )


class AdamW(Optimizer):
    """Adam with decoupled weight decay, computed as by ``torch.optim.AdamW``.

    Args:
        groups: See ``Optimizer``.
        rate: See ``Optimizer``.
        betas: Decay rates of the averages of the gradient and of its square.
        epsilon: Summand of the denominator.
    """

    kinds = ("gradient_average", "square_average", "steps_taken")

    def __init__(
        self,
        groups: Iterable[Group],
        rate: float | Tensor,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        super().__init__(groups, rate)
        self.betas, self.epsilon = betas, epsilon

    def _update(
        self, moved: Sequence[nn.Parameter], gradients: list[Tensor], weight_decay: float
    ) -> None:
        averages, squares, steps = (self.state[kind] for kind in self.kinds)
        fused = isinstance(self.rate, Tensor)
        for parameter in moved:
            if parameter not in steps:
                averages[parameter] = torch.zeros_like(parameter)
                squares[parameter] = torch.zeros_like(parameter)
                # The fused kernel reads the number of steps on the device of the parameter.
                steps[parameter] = torch.zeros((), device=parameter.device if fused else "cpu")
        adamw(
            list[Tensor](moved),
            gradients,
            [averages[p] for p in moved],
            [squares[p] for p in moved],
            [],
            [steps[p] for p in moved],
            fused=fused,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.rate,
            weight_decay=weight_decay,
            eps=self.epsilon,
            maximize=False,
        )


def optimizer_for(model: nn.Module, recipe: Recipe, rate: Tensor | None = None) -> Optimizer:
    """Return the optimizer for a model, with a separate group for parameters without weight decay.

    Args:
        model: Network whose parameters are optimized.
        recipe: Recipe with optimizer, learning rate and weight decay.
        rate: Scalar tensor with the learning rate, for recorded steps; None to use a number.
    """
    norm_ids = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for parameter in module.parameters(recurse=False)
    }

    def decays(parameter: nn.Parameter) -> bool:
        if parameter.ndim <= 1 and not recipe.decays_norms_and_biases:
            return False
        return recipe.decay_norm or id(parameter) not in norm_ids

    parameters = list(model.parameters())
    both = (
        Group(tuple(p for p in parameters if decays(p)), recipe.weight_decay),
        Group(tuple(p for p in parameters if not decays(p)), 0.0),
    )
    return optimizer_of_groups([group for group in both if group.parameters], recipe, rate)


def optimizer_of_groups(
    groups: Sequence[Group], recipe: Recipe, rate: Tensor | None = None
) -> Optimizer:
    """Return the optimizer of a recipe for groups of parameters; see ``optimizer_for``."""
    first = recipe.learning_rate if rate is None else rate
    if recipe.optimizer == "adamw":
        return AdamW(groups, first, recipe.betas, recipe.epsilon)
    return SGD(groups, first, recipe.momentum, recipe.nesterov)
