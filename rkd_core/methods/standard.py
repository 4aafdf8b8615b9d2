"""Standard distillation as in Wang et al. (UAI 2023) and Lukasik et al. (TMLR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Cell, Context, Grid, LossInputs, SoftTeacher

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Standard(SoftTeacher):
    """Distillation: cross-entropy with the teacher's softened probabilities, or a mix with labels.

    Without true labels in the mix, it is the standard student of the grid. On ImageNet, Lukasik et
    al. use a temperature of 0.9 and ``one_hot_weight`` 0.8.
    """

    name = "standard"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    one_hot_weight: float = Field(default=0, ge=0, le=1)
    """Weight of the true label in the targets; 0 in Wang et al., and in Lukasik et al. on CIFAR."""

    @property
    def cell(self) -> Cell | None:
        """The standard student; None if true labels are mixed in."""
        return Cell("standard", self.temperature) if self.one_hot_weight == 0 else None

    def loss(self, context: Context) -> Loss:
        """Return the loss ``CE(f, w one-hot + (1 - w) softmax(z / T))``."""
        from rkd_core.methods.common.losses import Loss, mixed_targets, soft_labels_loss

        def loss(inputs: LossInputs) -> Tensor:
            soft = 1 - self.one_hot_weight
            targets = mixed_targets(inputs.labels, inputs.teacher, self.temperature, soft)
            return soft_labels_loss(inputs.logits, targets)

        return Loss(loss)
