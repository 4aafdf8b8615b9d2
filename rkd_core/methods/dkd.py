"""Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022), as in mdistiller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Context, Grid, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Dkd(SoftBoth):
    """Decoupled distillation: the target class and the others have weights of their own."""

    name = "dkd"
    grid: ClassVar[Grid] = {"others_weight": (2.0, 8.0)}

    target_weight: float = Field(default=1, ge=0)
    """alpha, of the divergence between target and not target."""
    others_weight: float = Field(default=8, ge=0)
    """beta, of the divergence among the other classes: 8, 6 or 2 by pair of networks on
    CIFAR-100; on ImageNet, at a temperature of 1, 0.5 or 2."""
    label_weight: float = Field(default=1, ge=0)
    warmup: float = Field(default=1 / 12, ge=0, le=1)
    """Share of the epochs over which the soft terms rise: 20 of 240; on ImageNet 1 of 100."""

    def loss(self, context: Context) -> Loss:
        """``CE(y, f) + r(epoch) T^2 (alpha TCKD + beta NCKD)``, means over the batch."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss, warm_up

        def loss(inputs: LossInputs) -> Tensor:
            hard = self.label_weight * F.cross_entropy(inputs.logits, inputs.labels)
            target, others = decoupled(
                inputs.logits / self.temperature, inputs.teacher / self.temperature, inputs.labels
            )
            soft = self.target_weight * target.mean() + self.others_weight * others.mean()
            return hard + warm_up(inputs, self.warmup, context) * self.temperature**2 * soft

        return Loss(loss)


def decoupled(logits: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of each image: ``KL = TCKD + (1 - p^t_y) NCKD``.

    The reference code takes logarithms of probabilities, and masks with -1000; both lose what is
    improbable. Here all stays in the log domain.

    Args:
        logits: The student's, ``(batch, classes)``, already divided by the temperature.
        teacher: Likewise the teacher's.
        labels: ``(batch,)``.

    Returns:
        Two of shape ``(batch,)``: the divergence of ``(p_y, 1 - p_y)``, and that of the other
        classes among themselves. Both are 0 if there is one class.
    """
    from torch.nn import functional as F

    if logits.shape[1] == 1:
        nothing = 0 * logits.sum(dim=1)
        return nothing, nothing
    chosen = F.one_hot(labels, logits.shape[1]).bool()

    def parts(values: Tensor) -> tuple[Tensor, Tensor]:
        """log(p_y / (1 - p_y)), ``(batch, 1)``; log of the others' shares (0 at y)."""
        rest = values.masked_fill(chosen, -math.inf).logsumexp(dim=1, keepdim=True)
        beside_rest = values - rest
        return beside_rest.gather(1, labels[:, None]), beside_rest.masked_fill(chosen, 0)

    odds, shares = parts(logits)
    wanted_odds, wanted_shares = parts(teacher)
    wanted = wanted_odds.sigmoid()
    # Cross-entropy less entropy, each in one operation.
    cross = F.binary_cross_entropy_with_logits(odds, wanted, reduction="none")
    target = cross - F.binary_cross_entropy_with_logits(wanted_odds, wanted, reduction="none")
    return target[:, 0], (wanted_shares.exp() * (wanted_shares - shares)).sum(dim=1)
