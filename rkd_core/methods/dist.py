"""DIST: Huang et al., "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.common.protocol import Context, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Dist(SoftBoth):
    """DIST: correlation of probabilities with the teacher's, within images and within classes."""

    name = "dist"

    label_weight: float = Field(default=1, ge=0)
    row_weight: float = Field(default=2, ge=0)
    """Weight of the correlation within each image: the authors' 1 times their loss weight of 2."""
    column_weight: float = Field(default=2, ge=0)
    """Weight of the correlation within each class, over the batch."""

    def loss(self, context: Context) -> Loss:
        """Return the loss ``CE + T^2 (row_weight (1 - r_rows) + column_weight (1 - r_columns))``.

        Here ``r_rows`` and ``r_columns`` are mean Pearson correlations.
        """
        from torch.nn import functional as F

        from rkd_core.methods.common.correlation import agreement
        from rkd_core.methods.common.losses import Loss

        def loss(inputs: LossInputs) -> Tensor:
            student = F.softmax(inputs.logits / self.temperature, dim=1)
            teacher = F.softmax(inputs.teacher / self.temperature, dim=1)
            correlation = agreement(student, teacher, self.row_weight, self.column_weight)
            soft = self.row_weight + self.column_weight - correlation
            hard = self.label_weight * F.cross_entropy(inputs.logits, inputs.labels)
            return hard + self.temperature**2 * soft

        return Loss(loss)
