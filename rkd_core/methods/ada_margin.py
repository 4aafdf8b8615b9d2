"""AdaMargin (Lukasik et al., TMLR 2022), eqs. 5 and 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.adaptive import Adaptive
from rkd_core.methods.common.protocol import Context, Grid, LossInputs

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class AdaMargin(Adaptive):
    """Soft labels with a margin for classes that the teacher finds hard."""

    name = "ada_margin"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    offset: float = Field(default=1e-2, gt=0, le=1)
    """Lower bound of alpha. The paper does not state the value of its small offset."""

    def loss(self, context: Context) -> Loss:
        """Return the margin loss with the teacher's soft labels and costs ``1 / alpha``."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss
        from rkd_core.objectives import margin_loss

        costs = 1 / self.margins(context).clamp_min(self.offset)

        def loss(inputs: LossInputs) -> Tensor:
            targets = F.softmax(inputs.teacher / self.temperature, dim=1)
            return margin_loss(inputs.logits, targets, costs)

        return Loss(loss)
