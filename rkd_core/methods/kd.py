"""KD: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), as in mdistiller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.common.protocol import Context, LossInputs, SoftBoth

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class Kd(SoftBoth):
    """Hinton's distillation: true labels and the divergence of softened probabilities."""

    name = "kd"

    label_weight: float = Field(default=0.1, ge=0)
    """Weight of the true labels. Defaults are mdistiller's for CIFAR; for ImageNet both weights are
    0.5 and the temperature is 1."""
    soft_weight: float = Field(default=0.9, ge=0)

    def loss(self, context: Context) -> Loss:
        """Return the loss ``label_weight CE(y, f) + soft_weight T^2 KL(p^t_T || p^s_T)``."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss, softened_divergence

        def loss(inputs: LossInputs) -> Tensor:
            hard = F.cross_entropy(inputs.logits, inputs.labels)
            soft = softened_divergence(inputs.logits, inputs.teacher, self.temperature)
            return self.label_weight * hard + self.soft_weight * soft

        return Loss(loss)
