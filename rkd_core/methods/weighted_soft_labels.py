"""WSL: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation" (ICLR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.common.protocol import Context, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss

EPSILON = 1e-7  # as in the authors' code


class WeightedSoftLabels(SoftBoth):
    """Distillation with a smaller weight of soft labels for images that the student fits well."""

    name = "weighted_soft_labels"

    weight: float = Field(default=2.25, ge=0)
    """Weight of the soft term. The defaults are the authors' for CIFAR-100; for ImageNet they use
    2.5 and a temperature of 2."""

    def loss(self, context: Context) -> Loss:
        """Return the loss ``mean CE(y, f) + weight T^2 mean_i w_i CE(p^t_T, p^s_T)``."""
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
    """Return the weights ``1 - exp(-CE_student / CE_teacher)`` in [0, 1], without gradient.

    Args:
        student: Cross-entropies of the student with the true labels at temperature 1, ``(batch,)``.
        teacher: Cross-entropies of the teacher, ``(batch,)``.

    Returns:
        Weights ``(batch,)``.
    """
    return -(-student.detach() / (teacher.detach() + EPSILON)).expm1()
