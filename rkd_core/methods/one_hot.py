"""Training of the student's network without a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rkd_core.methods.common.protocol import Context, LossInputs, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class OneHot(Method):
    """Training on true labels, without a teacher."""

    name = "one_hot"
    any_objective: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """No inputs other than labels."""
        return Needs()

    def loss(self, context: Context) -> Loss:
        """Return the cross-entropy, the loss of the standard objective."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        def loss(inputs: LossInputs) -> Tensor:
            smoothing = context.label_smoothing
            return F.cross_entropy(inputs.logits, inputs.labels, label_smoothing=smoothing)

        return Loss(loss)
