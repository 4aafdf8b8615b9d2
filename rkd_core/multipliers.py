"""Class multipliers of Algorithm 1: exponentiated-gradient ascent on validation risks.

Multipliers are stored as logarithms in float64: over thousands of updates their ratios reach tens
of nats, where float32 probabilities would underflow to zero. Equations and algorithm: Wang et al.
(UAI 2023), after Narasimhan & Menon (NeurIPS 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ascend", "class_risks", "uniform"]

LOG_FLOOR = -30.0  # about 1e-13: keeps every multiplier above zero without a projection


def uniform(classes: int) -> Tensor:
    """Return the initial multipliers lambda^0: equal log multipliers, float64 ``(classes,)``."""
    return torch.zeros(classes, dtype=torch.float64).log_softmax(dim=0)


def ascend(
    log_multipliers: Tensor, risks: Tensor, step_size: float, *, check: bool = True
) -> Tensor:
    """Take one exponentiated-gradient step: lambda_y <- lambda_y exp(step_size R_y), normalized.

    Args:
        log_multipliers: log lambda, ``(classes,)``.
        risks: Class risks R-hat of Algorithm 1, ``(classes,)``.
        step_size: gamma, above 0.
        check: Whether to check the values of the risks, which waits for a GPU.

    Returns:
        The new log lambda, float64 ``(classes,)``: its exponentials sum to one, and none is
        below about ``exp(-30)``.

    Raises:
        ValueError: Shapes differ, or a risk is not finite.
    """
    if log_multipliers.shape != risks.shape:
        raise ValueError(f"{tuple(log_multipliers.shape)} multipliers, {tuple(risks.shape)} risks")
    if check and not torch.isfinite(risks).all():
        raise ValueError("risks must be finite")
    raised = log_multipliers.to(torch.float64) + step_size * risks.to(torch.float64)
    return raised.log_softmax(dim=0).clamp_min(LOG_FLOOR).log_softmax(dim=0)


def class_risks(probabilities: Tensor, predictions: Tensor, priors: Tensor | None = None) -> Tensor:
    """Return the class risks R-hat of Algorithm 1 with the 0-1 loss.

    ``R_j = (1 / pi_j) (1 / n) sum_x p_j(x) [prediction(x) != j]``. With one-hot labels this is
    one minus the recall of class j.

    Args:
        probabilities: Teacher probabilities or one-hot labels, ``(n, classes)``.
        predictions: Predicted labels, ``(n,)`` integers.
        priors: Class priors pi in the denominator, ``(classes,)``; by default the mean of
            ``probabilities``. Pass the priors of the whole validation set if these images are
            a batch of it.

    Returns:
        float64 ``(classes,)``, in [0, 1] with the default priors. A class of prior 0 has risk 0,
        like a class without errors.

    Raises:
        ValueError: The shapes do not match, or there are no images.
    """
    if probabilities.ndim != 2 or predictions.shape != probabilities.shape[:1]:
        raise ValueError(
            f"class_risks takes probabilities (n, classes) and predictions (n,), not "
            f"{tuple(probabilities.shape)}, {tuple(predictions.shape)}"
        )
    if len(predictions) == 0:
        raise ValueError("class_risks needs at least one image")
    p = probabilities.to(torch.float64)
    classes = torch.arange(p.shape[1], device=p.device)
    wrong = (p * (predictions[:, None] != classes)).mean(dim=0)
    mass = p.mean(dim=0) if priors is None else priors.to(torch.float64)
    return torch.where(mass > 0, wrong / mass.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
