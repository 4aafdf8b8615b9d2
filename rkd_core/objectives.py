"""Margin loss, and registry of objectives, which differ in the class costs of this loss.

To add an objective to this project, add an entry to ``OBJECTIVES``. Plug-ins register others.

All equations are those of Wang et al., "Robust Distillation for Worst-class Performance"
(UAI 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "OBJECTIVES",
    "NamedObjective",
    "Objective",
    "by_alpha",
    "class_costs",
    "class_priors",
    "find",
    "margin_loss",
    "names",
    "on_grid",
    "position",
    "try_out",
]

PRIOR_FLOOR = 1e-12  # keeps costs finite for priors of 0, as in Narasimhan & Menon's code


def margin_loss(
    logits: Tensor, targets: Tensor, costs: Tensor, scale_by_classes: bool = False
) -> Tensor:
    """Return the margin surrogate of eq. 9: soft-label cross-entropy of ``logits - log(costs)``.

    ``sum_y q_y log(1 + sum_{j != y} exp(log(c_y / c_j) - (f_y - f_j)))`` equals
    ``-sum_y q_y log_softmax(f - log c)_y``; the second form cannot overflow.

    Args:
        logits: Scores f, ``(batch, classes)``, or ``(n, batch, classes)`` of n networks.
        targets: Labels q as probabilities, one-hot or a teacher's, of the same shape.
        costs: Positive costs c, ``(classes,)`` or ``(n, classes)``; only their ratios matter.
        scale_by_classes: Whether to multiply by the 1/m of eq. 9. The learning rates of the
            papers assume the plain batch mean.

    Returns:
        Mean over the batch, a scalar or ``(n,)``, in float32 or in the precision of the logits if
        it is higher, even under autocast: half precision would round the sum of logits and log
        costs coarsely.

    Raises:
        ValueError: The shapes do not match.
    """
    import torch  # not at the top: plans and analysis read the registry below without torch

    of_costs = (*logits.shape[:-2], *logits.shape[-1:])
    if logits.ndim not in (2, 3) or targets.shape != logits.shape or costs.shape != of_costs:
        raise ValueError(
            f"margin_loss takes logits (batch, classes), targets alike and costs (classes,), not "
            f"{tuple(logits.shape)}, {tuple(targets.shape)}, {tuple(costs.shape)}"
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        log_costs = costs.double().log().to(dtype)
        log_probabilities = (logits.to(dtype) - log_costs.unsqueeze(-2)).log_softmax(dim=-1)
        loss = -(targets.to(dtype) * log_probabilities).sum(dim=-1).mean(dim=-1)
        return loss / logits.shape[-1] if scale_by_classes else loss


def class_costs(
    objective: str,
    priors: Tensor,
    multipliers: Tensor | None = None,
    alpha: float | None = None,
    digest: str | None = None,
) -> Tensor:
    """Return costs that turn ``margin_loss`` into an objective (eqs. 1-4, 8; Theorem 1).

    ==========  =====================================================
    standard    constant
    balanced    1 / pi_y
    tradeoff    ((1 - alpha) / m + alpha lambda_y) / pi_y
    robust      lambda_y / pi_y
    ==========  =====================================================

    Args:
        objective: Name of an objective.
        priors: Class priors pi, ``(classes,)``: for a teacher the frequencies of the training
            labels, for a student the mean training probabilities of its teacher.
        multipliers: lambda on the simplex, ``(classes,)``, for objectives that use them.
        alpha: Trade-off in [0, 1], for tradeoff: 0 is balanced, 1 is robust.
        digest: Digest of the code of a plug-in's objective, as for ``find``.

    Returns:
        Positive costs ``(classes,)``, defined up to a common factor.

    Raises:
        ValueError: The objective is unknown, or an argument is missing or invalid.
    """
    entry = find(objective, digest)
    if entry.takes_alpha and (alpha is None or not 0 <= alpha <= 1):
        raise ValueError(f"the {objective} objective needs an alpha in [0, 1], not {alpha}")
    if entry.uses_multipliers(alpha) and (multipliers is None or multipliers.shape != priors.shape):
        raise ValueError(f"the {objective} objective needs a multiplier for every class")
    return entry.costs(priors.clamp_min(PRIOR_FLOOR), multipliers, alpha)


def class_priors(probabilities: Tensor) -> Tensor:
    """Return the class priors pi-hat of Algorithm 1: mean of probabilities ``(n, classes)``.

    The result is float64 ``(classes,)``.
    """
    return probabilities.double().mean(dim=0)


# ---- The registry --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objective:
    """Registry entry of an objective of teachers and students; records store its name.

    Args:
        costs: Function that returns costs ``(classes,)`` for priors ``(classes,)``, multipliers
            and alpha; the last two are None if the objective does not use them.
        multipliers: Whether it has multipliers, which Algorithm 1 updates on validation.
        takes_alpha: Whether a spec states an alpha in [0, 1]; at 0 it has no multipliers.
        alpha: Alpha of the equivalent ``tradeoff`` objective; None if there is none.
    """

    costs: Callable[..., Tensor]
    multipliers: bool = False
    takes_alpha: bool = False
    alpha: float | None = None

    def uses_multipliers(self, alpha: float | None) -> bool:
        """Return whether a training with this alpha has multipliers."""
        return self.multipliers and not (self.takes_alpha and alpha == 0)


def _standard(priors: Tensor, multipliers: None, alpha: None) -> Tensor:
    return priors.new_ones(priors.shape)


def _balanced(priors: Tensor, multipliers: None, alpha: None) -> Tensor:
    return 1 / priors


def _robust(priors: Tensor, multipliers: Tensor, alpha: None) -> Tensor:
    return multipliers / priors


def _tradeoff(priors: Tensor, multipliers: Tensor | None, alpha: float) -> Tensor:
    if multipliers is None or alpha == 0:  # balanced, whatever the multipliers are
        return 1 / priors
    return ((1 - alpha) / len(priors) + alpha * multipliers) / priors


OBJECTIVES: dict[str, Objective] = {
    "standard": Objective(_standard),
    "balanced": Objective(_balanced, alpha=0.0),
    "tradeoff": Objective(_tradeoff, multipliers=True, takes_alpha=True),
    "robust": Objective(_robust, multipliers=True, alpha=1.0),
}
"""Built-in objectives by name, in the order in which tables list them."""


def names() -> tuple[str, ...]:
    """Return the names of all objectives: built-in ones, then those of plug-ins."""
    return (*OBJECTIVES, *plugins.objectives.known())


def find(name: str, digest: str | None = None) -> Objective:
    """Return an objective.

    Args:
        name: Its name.
        digest: Digest of the code of a plug-in; None for a built-in objective, and for the plug-in
            of this process.

    Raises:
        UserError: There is no such objective, or its code is not there.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    found = plugins.objectives.get(name, digest)
    if found is None:
        raise unknown_name("objective", name, names())
    return found if isinstance(found, Objective) else Objective(found)


def try_out(name: str, digest: str | None) -> None:
    """Compute the costs of an objective for made-up priors.

    Raises:
        UserError: The function fails, or returns something other than positive costs.
    """
    import torch

    priors = torch.tensor([0.5, 0.3, 0.2])
    multipliers = priors.flip(0) if find(name, digest).multipliers else None
    costs = plugins.call(lambda: class_costs(name, priors, multipliers, None, digest), name)
    sound = isinstance(costs, torch.Tensor) and costs.shape == priors.shape
    if not sound or not bool(((costs > 0) & costs.isfinite()).all()):
        shown = costs.tolist() if isinstance(costs, torch.Tensor) else type(costs).__name__
        raise UserError(
            f"the objective {name!r} must return a positive cost for each class, (classes,), not "
            f"{shown} for the priors {[round(p, 1) for p in priors.tolist()]}"
        )


def _check(name: str, target: Any) -> None:
    if isinstance(target, Objective):
        if target.takes_alpha or target.alpha is not None:
            raise UserError("an objective of a plug-in has no alpha")
    elif not callable(target):
        raise UserError(f"{type(target).__name__} is not a function that returns class costs")


plugins.objectives.built_in(lambda: OBJECTIVES, _check)

NamedObjective = tuple[str, float | None]
"""The name of an objective, and its alpha if it takes one."""


def by_alpha(alpha: float | None) -> NamedObjective:
    """Return the trade-off with this alpha; the standard objective for None."""
    return ("standard", None) if alpha is None else ("tradeoff", alpha)


def on_grid(name: str, alpha: float | None = None) -> NamedObjective:
    """Return an objective as the teacher x student grid names it, with its alpha.

    Balanced is the trade-off at alpha 0 and robust that at alpha 1; the others keep their names.
    """
    equal = OBJECTIVES[name].alpha if name in OBJECTIVES else None
    return (name, alpha) if equal is None else by_alpha(equal)


def position(name: str, alpha: float | None = None) -> float:
    """Return the position of an objective on the axis of trade-offs.

    Standard comes first, at -1; then trade-offs at their alphas; then all others, from 2.
    """
    if name == "standard":
        return -1.0
    name, alpha = on_grid(name, alpha)
    start = 0.0 if name == "tradeoff" else 2.0 * names().index(name)
    return start + (alpha or 0.0)
