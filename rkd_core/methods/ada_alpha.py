"""AdaAlpha of Lukasik et al. (TMLR 2022), eqs. 3 and 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rkd_core.methods.common.adaptive import Adaptive
from rkd_core.methods.common.protocol import Context, Grid, LossInputs

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class AdaAlpha(Adaptive):
    """Each class mixes true and soft labels as far as its teacher can be trusted."""

    name = "ada_alpha"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    def alphas(self, context: Context) -> Tensor:
        """Weight of the teacher's labels by class, in [0, 1], ``(classes,)``."""
        return self.margins(context).clamp_min(0)

    def loss(self, context: Context) -> Loss:
        """``CE(f, (1 - alpha_y) one-hot + alpha_y softmax(z / T))``."""
        from rkd_core.methods.common.losses import Loss, mixed_targets, soft_labels_loss

        alphas = self.alphas(context)

        def loss(inputs: LossInputs) -> Tensor:
            weights = alphas[inputs.labels, None].to(inputs.logits.dtype)
            targets = mixed_targets(inputs.labels, inputs.teacher, self.temperature, weights)
            return soft_labels_loss(inputs.logits, targets)

        return Loss(loss)
