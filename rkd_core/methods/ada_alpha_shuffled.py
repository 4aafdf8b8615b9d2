"""An ablation of AdaAlpha: Lukasik et al. (TMLR 2022), Table 11."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.ada_alpha import AdaAlpha
from rkd_core.methods.common.protocol import Context

if TYPE_CHECKING:
    from torch import Tensor


class AdaAlphaShuffled(AdaAlpha):
    """AdaAlpha's ablation: its class weights, dealt out to the classes at random."""

    name = "ada_alpha_shuffled"

    shuffle_seed: int = Field(default=0, ge=0)
    """Of the permutation, which is the same for all seeds of the training."""

    def alphas(self, context: Context) -> Tensor:
        """AdaAlpha's in another order."""
        from rkd_core.seeds import stream, stream_seed

        order = stream(stream_seed(self.name, self.shuffle_seed)).permutation(context.classes)
        return super().alphas(context)[order.tolist()]
