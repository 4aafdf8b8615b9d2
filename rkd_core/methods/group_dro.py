"""Group DRO: Sagawa et al., "Distributionally Robust Neural Networks" (ICLR 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.common.protocol import Context, LossInputs, Method, Needs, needed

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class GroupDro(Method):
    """Group DRO: class weights that rise with the training losses; true labels, no teacher.

    The groups are the classes.
    """

    name = "group_dro"
    mixes_labels = False  # each loss of a batch updates the weights

    step_size: float = Field(default=0.01, ge=0)
    """eta, step size of the logarithms of the weights."""
    adjustment: float = Field(default=0, ge=0)
    """C of the generalization adjustment ``C / sqrt(n_g)``."""
    reweight_groups: bool = True
    """Whether classes are sampled uniformly, as in the authors' commands. Otherwise the loss of a
    batch without most classes is too small."""

    @property
    def needs(self) -> Needs:
        """Class counts, and by default uniform sampling of classes."""
        return Needs(class_counts=True, sampling="class_uniform" if self.reweight_groups else "all")

    def loss(self, context: Context) -> Loss:
        """Return the loss ``sum_g q_g l_g``; q is first updated with the losses of the batch."""
        import torch
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        counts = needed(context.class_counts, "the class counts")
        sizes = torch.tensor(counts, dtype=torch.float64, device=context.device)
        adjustments = self.adjustment / sizes.clamp_min(1).sqrt()
        # In the log domain, a weight that underflows as a probability can still rise again.
        log_q = torch.zeros_like(sizes).log_softmax(dim=0)

        def loss(inputs: LossInputs) -> Tensor:
            losses = F.cross_entropy(inputs.logits, inputs.labels, reduction="none")
            members = F.one_hot(inputs.labels, context.classes).to(losses.dtype)
            by_class = (losses @ members) / members.sum(dim=0).clamp_min(1)
            rise = by_class.detach().to(torch.float64) + adjustments
            log_q.copy_((log_q + self.step_size * rise).log_softmax(dim=0))
            return (log_q.exp().to(losses.dtype) * by_class).sum()

        return Loss(loss, log_q=log_q)
