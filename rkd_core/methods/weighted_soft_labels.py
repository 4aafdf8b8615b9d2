"""Zhou et al., "Rethinking Soft Labels for Knowledge Distillation" (ICLR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.common.protocol import Context, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss

EPSILON = 1e-7  # of the authors' code


class WeightedSoftLabels(SoftBoth):
    """Distillation that trusts each image's soft label the less, the better the student does."""

    name = "weighted_soft_labels"

    weight: float = Field(default=2.25, ge=0)
    """Of the soft term. The defaults are the authors' for CIFAR-100; for ImageNet they take 2.5
    at a temperature of 2."""

    def loss(self, context: Context) -> Loss:
        """``mean CE(y, f) + weight T^2 mean_i w_i CE(p^t_T, p^s_T)``."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        def loss(inputs: LossInputs) -> Tensor:
            hard = F.cross_entropy(inputs.logits, inputs.labels, reduction="none")
            weights = image_weights(
                hard, F.cross_entropy(inputs.teacher, inputs.labels, reduction="none")
            )
            wanted = F.softmax(inputs.teacher / self.temperature, dim=1)
            student = F.log_softmax(inputs.logits / self.temperature, dim=1)
            soft = -(wanted * student).sum(dim=1)
            return hard.mean() + self.weight * self.temperature**2 * (weights * soft).mean()

        return Loss(loss)


def image_weights(student: Tensor, teacher: Tensor) -> Tensor:
    """``1 - exp(-CE_student / CE_teacher)``, without gradient, in [0, 1], ``(batch,)``.

    Args:
        student: Cross-entropies with the true labels at a temperature of 1, ``(batch,)``.
        teacher: Likewise the teacher's.
    """
    return -(-student.detach() / (teacher.detach() + EPSILON)).expm1()
