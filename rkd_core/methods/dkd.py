"""DKD: Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022), as in mdistiller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Context, Grid, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Dkd(SoftBoth):
    """Decoupled distillation: separate weights for the target class and for the other classes."""

    name = "dkd"
    grid: ClassVar[Grid] = {"others_weight": (2.0, 8.0)}

    target_weight: float = Field(default=1, ge=0)
    """alpha, weight of the divergence between target and non-target."""
    others_weight: float = Field(default=8, ge=0)
    """beta, weight of the divergence among the other classes: 8, 6 or 2 on CIFAR-100, depending on
    the networks; 0.5 or 2 on ImageNet, at a temperature of 1."""
    label_weight: float = Field(default=1, ge=0)
    warmup: float = Field(default=1 / 12, ge=0, le=1)
    """Share of the epochs over which the soft terms rise: 20 of 240; on ImageNet 1 of 100."""

    def loss(self, context: Context) -> Loss:
        """Return the loss ``CE(y, f) + r(epoch) T^2 (alpha TCKD + beta NCKD)``."""
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
    """Return TCKD and NCKD of each image, where ``KL = TCKD + (1 - p^t_y) NCKD``.

    The reference implementation takes logarithms of probabilities and masks with -1000, which is
    inaccurate for small probabilities. This one works in the log domain.

    Args:
        logits: Logits of the student divided by the temperature, ``(batch, classes)``.
        teacher: Logits of the teacher divided by the temperature, ``(batch, classes)``.
        labels: True labels, ``(batch,)``.

    Returns:
        Two tensors ``(batch,)``: the divergence between the distributions ``(p_y, 1 - p_y)``, and
        that between the distributions over the other classes. Both are 0 if there is one class.
    """
    from torch.nn import functional as F

    if logits.shape[1] == 1:
        nothing = 0 * logits.sum(dim=1)
        return nothing, nothing
    chosen = F.one_hot(labels, logits.shape[1]).bool()

    def parts(values: Tensor) -> tuple[Tensor, Tensor]:
        """Return log(p_y / (1 - p_y)), ``(batch, 1)``, and log(p_j / (1 - p_y)), with 0 for y."""
        rest = values.masked_fill(chosen, -math.inf).logsumexp(dim=1, keepdim=True)
        relative = values - rest
        return relative.gather(1, labels[:, None]), relative.masked_fill(chosen, 0)

    odds, shares = parts(logits)
    wanted_odds, wanted_shares = parts(teacher)
    wanted = wanted_odds.sigmoid()
    # Cross-entropy minus entropy, each in one operation.
    cross = F.binary_cross_entropy_with_logits(odds, wanted, reduction="none")
    target = cross - F.binary_cross_entropy_with_logits(wanted_odds, wanted, reduction="none")
    return target[:, 0], (wanted_shares.exp() * (wanted_shares - shares)).sum(dim=1)
