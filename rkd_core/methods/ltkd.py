"""LTKD: Kim, "Biased Teacher, Balanced Student" (CVPR 2026), as described on its poster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Context, Grid, LossInputs, Needs, SoftBoth, needed
from rkd_core.metrics.class_groups import equal_groups, head_medium_tail

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Ltkd(SoftBoth):
    """Long-tail distillation: rebalancing between groups of classes, and equal weights of groups.

    For the ablations of the poster, ``rebalance=False`` gives the biased cross-group loss, a weight
    of 0 removes a component, and ``groups`` is n(G). With unit weights, ``rebalance=False`` and
    ``within="teacher"``, the sum of the two components is plain distillation.
    """

    name = "ltkd"
    grid: ClassVar[Grid] = {"cross_weight": (1.0, 2.0), "within_weight": (1.0, 4.0)}

    groups: Literal["head_medium_tail"] | Annotated[int, Field(ge=1)] = "head_medium_tail"
    """Groups of classes: head, medium and tail as in ``class_groups`` (a single group if there are
    fewer than three classes), or a number of groups of equal size."""
    label_weight: float = Field(default=1, ge=0)
    cross_weight: float = Field(default=1, ge=0)
    """alpha, weight of the cross-group loss. The poster states neither alpha nor beta."""
    within_weight: float = Field(default=1, ge=0)
    """beta, weight of the within-group loss."""
    rebalance: bool = True
    """Whether the teacher's group probabilities are divided by their sums over the batch."""
    within: Literal["uniform", "teacher"] = "uniform"
    """Weight of a group in the within-group loss: 1, or its probability by the teacher."""

    @property
    def needs(self) -> Needs:
        """A teacher, and class counts for the groups."""
        return Needs(teacher="full", class_counts=True)

    def loss(self, context: Context) -> Loss:
        """Return the loss.

        It is ``CE + T^2 (alpha KL(phat_G^T || p_G^S) + beta sum_G KL(ptil_G^T || ptil_G^S))``.
        """
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        groups = self._groups(needed(context.class_counts, "the class counts"))
        grouped = _grouping(groups, context.device)

        def loss(inputs: LossInputs) -> Tensor:
            hard = F.cross_entropy(inputs.logits, inputs.labels)
            student, student_within = grouped(inputs.logits / self.temperature)
            teacher, teacher_within = grouped(inputs.teacher / self.temperature)
            wanted = rebalanced(teacher) if self.rebalance else teacher
            cross = F.kl_div(student, wanted, reduction="batchmean", log_target=True)
            masses = teacher_within.exp()
            if self.within == "teacher":
                masses = teacher.exp()[:, :, None] * masses
            parts = masses * (teacher_within - student_within)  # padding adds 0
            within = parts.sum() / len(parts)
            soft = self.cross_weight * cross + self.within_weight * within
            return self.label_weight * hard + self.temperature**2 * soft

        return Loss(loss)

    def suited(self, classes: int) -> Ltkd:
        """Return this method, with ``groups=3`` instead of the name if there are three classes.

        An earlier version put three classes into a single group. The number gives different
        options and therefore run ids that differ from those of that version.
        """
        by_name = self.groups == "head_medium_tail" and classes == 3
        return self.model_copy(update={"groups": 3}) if by_name else self

    def _groups(self, counts: Sequence[int]) -> list[list[int]]:
        """Return the labels of each group; no group is empty."""
        if self.groups == "head_medium_tail":
            return list(head_medium_tail(counts).values()) or equal_groups(counts, 1)
        if self.groups > len(counts):
            raise UserError(
                f"ltkd.groups can be at most the {len(counts)} classes, not {self.groups}"
            )
        return equal_groups(counts, self.groups)


def rebalanced(teacher: Tensor) -> Tensor:
    """Return log phat_G: group probabilities divided by their sums over the batch, renormalized.

    Args:
        teacher: Logarithms of the teacher's group probabilities p_G, ``(batch, groups)``.
    """
    return (teacher - teacher.logsumexp(dim=0)).log_softmax(dim=1)


def _grouping(groups: list[list[int]], device: str) -> _Grouping:
    import torch

    size = max(map(len, groups))
    members = [[*group, *[group[0]] * (size - len(group))] for group in groups]
    padding = [[place >= len(group) for place in range(size)] for group in groups]
    return _Grouping(torch.tensor(members, device=device), torch.tensor(padding, device=device))


class _Grouping:
    """Groups of logits, padded to the size of the largest group; ``padding`` marks the padding."""

    def __init__(self, members: Tensor, padding: Tensor) -> None:
        self._members, self.padding = members.flatten(), padding

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of groups, and of classes within their group.

        Their shapes are ``(batch, groups)`` and ``(batch, groups, size)``; the padding is 0.
        """
        values = logits.index_select(1, self._members).view(-1, *self.padding.shape)
        values = values.masked_fill(self.padding, -math.inf)
        masses = values.logsumexp(dim=2)
        within = (values - masses[:, :, None]).masked_fill(self.padding, 0)
        return masses.log_softmax(dim=1), within
