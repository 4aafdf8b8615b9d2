"""Training of the student's network without a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rkd_core.methods.common.protocol import Context, LossInputs, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class OneHot(Method):
    """Training on true labels, without a teacher."""

    name = "one_hot"

    @property
    def needs(self) -> Needs:
        """No inputs other than labels."""
        return Needs()

    def loss(self, context: Context) -> Loss:
        """Return the cross-entropy."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        def loss(inputs: LossInputs) -> Tensor:
            return F.cross_entropy(inputs.logits, inputs.labels)

        return Loss(loss)
