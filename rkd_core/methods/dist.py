"""Huang et al., "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.common.protocol import Context, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Dist(SoftBoth):
    """DIST: probabilities correlate with the teacher's, by image and by class."""

    name = "dist"

    label_weight: float = Field(default=1, ge=0)
    row_weight: float = Field(default=2, ge=0)
    """Of the correlation within each image. The authors' 1 times their loss weight of 2."""
    column_weight: float = Field(default=2, ge=0)
    """Of the correlation within each class, over the batch."""

    def loss(self, context: Context) -> Loss:
        """``CE + T^2 (row_weight (1 - mean Pearson by row) + column_weight (... by column))``."""
        from torch.nn import functional as F

        from rkd_core.methods.common.correlation import agreement
        from rkd_core.methods.common.losses import Loss

        def loss(inputs: LossInputs) -> Tensor:
            student = F.softmax(inputs.logits / self.temperature, dim=1)
            teacher = F.softmax(inputs.teacher / self.temperature, dim=1)
            alike = agreement(student, teacher, self.row_weight, self.column_weight)
            soft = self.row_weight + self.column_weight - alike
            hard = self.label_weight * F.cross_entropy(inputs.logits, inputs.labels)
            return hard + self.temperature**2 * soft

        return Loss(loss)
