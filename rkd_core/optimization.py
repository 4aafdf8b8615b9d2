"""SGD and its learning rate, a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from rkd_core.specs import Recipe

__all__ = ["learning_rate", "optimizer_for"]


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of one step.

    Args:
        recipe: Peak rate, warm-up and schedule; its shares are of ``steps``.
        step: From 0 to ``steps - 1``.
        steps: Steps of the whole training.

    The warm-up rises linearly and reaches the peak at its end. ``cosine`` falls from there to
    zero at the end of the training; ``step`` multiplies by ``decay`` at each milestone.
    """
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    passed = sum(step >= round(m * steps) for m in recipe.milestones)
    return recipe.learning_rate * (recipe.decay**passed if recipe.schedule == "step" else 1.0)


def optimizer_for(
    model: nn.Module, recipe: Recipe, rate: torch.Tensor | None = None
) -> torch.optim.SGD:
    """SGD with momentum; batch norm's scale and shift go undecayed unless ``decay_norm``.

    Args:
        model: Its parameters are optimised.
        recipe: Momentum and weight decay.
        rate: A learning rate that is read from this tensor in every step, as a recorded step
            needs it; by default it is a number in the parameter groups.
    """
    norm = [
        parameter
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for parameter in module.parameters(recurse=False)
    ]
    norm_ids = {id(parameter) for parameter in norm}
    others = [p for p in model.parameters() if id(p) not in norm_ids]
    return torch.optim.SGD(
        [
            {"params": others, "weight_decay": recipe.weight_decay},
            {"params": norm, "weight_decay": recipe.weight_decay if recipe.decay_norm else 0.0},
        ],
        lr=recipe.learning_rate if rate is None else rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=rate is not None,
    )
