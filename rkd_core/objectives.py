"""What a training minimises: one margin loss, and the class costs that make it each objective.

Adding an objective is one function here, its entry in ``_COSTS``, and its name in
``rkd_core.specs.Objective``.

All equations are those of Wang et al., "Robust Distillation for Worst-class Performance"
(UAI 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["class_costs", "class_priors", "margin_loss"]

PRIOR_FLOOR = 1e-12  # keeps the cost of a class without mass finite, as Narasimhan & Menon's code


def margin_loss(
    logits: Tensor, targets: Tensor, costs: Tensor, scale_by_classes: bool = False
) -> Tensor:
    """Margin surrogate of eq. 9: soft-label cross-entropy of ``logits - log(costs)``.

    ``sum_y q_y log(1 + sum_{j != y} exp(log(c_y / c_j) - (f_y - f_j)))`` equals
    ``-sum_y q_y log_softmax(f - log c)_y``, and the second form is the one that cannot overflow.

    Args:
        logits: Scores f, ``(batch, classes)``.
        targets: Labels q as probabilities, one-hot or a teacher's, ``(batch, classes)``.
        costs: Positive costs c, ``(classes,)``; only their ratios matter.
        scale_by_classes: Multiply by the 1/m of eq. 9. The papers' learning rates presuppose
            the plain batch mean, so the default is not to.

    Returns:
        Scalar mean over the batch, in float32 or the logits' own precision if that is higher,
        under any autocast: a cost of 1e-13 would otherwise drown the logits.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if logits.ndim != 2 or targets.shape != logits.shape or costs.shape != logits.shape[1:]:
        raise ValueError(
            f"margin_loss takes logits (batch, classes), targets alike and costs (classes,), not "
            f"{tuple(logits.shape)}, {tuple(targets.shape)}, {tuple(costs.shape)}"
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        log_costs = costs.to(torch.float64).log().to(dtype)
        log_probabilities = F.log_softmax(logits.to(dtype) - log_costs, dim=1)
        loss = -(targets.to(dtype) * log_probabilities).sum(dim=1).mean()
        return loss / logits.shape[1] if scale_by_classes else loss


def class_costs(
    objective: str,
    priors: Tensor,
    multipliers: Tensor | None = None,
    alpha: float | None = None,
) -> Tensor:
    """Costs that turn ``margin_loss`` into an objective (eqs. 1-4, 8; Theorem 1).

    ==========  =====================================================
    standard    constant
    balanced    1 / pi_y
    robust      lambda_y / pi_y
    tradeoff    ((1 - alpha) / m + alpha lambda_y) / pi_y
    ==========  =====================================================

    Args:
        objective: One of the names above.
        priors: Class priors pi, ``(classes,)``: frequencies of the training labels for a
            teacher, the mean of its teacher's training probabilities for a student.
        multipliers: lambda on the simplex, ``(classes,)``, for robust and for tradeoff with an
            alpha above 0.
        alpha: Trade-off in [0, 1], for tradeoff: 0 is balanced, 1 is robust.

    Returns:
        Positive costs ``(classes,)``, defined up to a common factor.

    Raises:
        ValueError: Unknown objective, or a missing or impossible argument for it.
    """
    try:
        rule = _COSTS[objective]
    except KeyError:
        raise ValueError(
            f"objective must be one of {', '.join(_COSTS)}, not {objective!r}"
        ) from None
    return rule(priors.clamp_min(PRIOR_FLOOR), multipliers, alpha)


def class_priors(probabilities: Tensor) -> Tensor:
    """pi-hat of Algorithm 1: mean of ``(n, classes)`` probabilities, float64 ``(classes,)``."""
    return probabilities.to(torch.float64).mean(dim=0)


def _standard(priors: Tensor, multipliers: Tensor | None, alpha: float | None) -> Tensor:
    return torch.ones_like(priors)


def _balanced(priors: Tensor, multipliers: Tensor | None, alpha: float | None) -> Tensor:
    return 1 / priors


def _robust(priors: Tensor, multipliers: Tensor | None, alpha: float | None) -> Tensor:
    return _required(multipliers, priors) / priors


def _tradeoff(priors: Tensor, multipliers: Tensor | None, alpha: float | None) -> Tensor:
    if alpha is None or not 0 <= alpha <= 1:
        raise ValueError(f"the tradeoff objective needs an alpha in [0, 1], not {alpha}")
    if alpha == 0:  # balanced, whatever the multipliers are
        return _balanced(priors, None, None)
    return ((1 - alpha) / len(priors) + alpha * _required(multipliers, priors)) / priors


def _required(multipliers: Tensor | None, priors: Tensor) -> Tensor:
    if multipliers is None or multipliers.shape != priors.shape:
        raise ValueError("the robust and tradeoff objectives need a multiplier for every class")
    return multipliers


_COSTS: dict[str, Callable[[Tensor, Tensor | None, float | None], Tensor]] = {
    "standard": _standard,
    "balanced": _balanced,
    "robust": _robust,
    "tradeoff": _tradeoff,
}
