"""AdaAlpha of Lukasik et al. (TMLR 2022), eqs. 3 and 4, and its ablations of Table 11."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.adaptive import Adaptive
from rkd_core.methods.common.protocol import Context, Grid, LossInputs
from rkd_core.seeds import stream, stream_seed

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class AdaAlpha(Adaptive):
    """Each class mixes true and soft labels as far as its teacher can be trusted."""

    name = "ada_alpha"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    def alphas(self, context: Context) -> Tensor:
        """Return the weight of the teacher's labels by class, in [0, 1], ``(classes,)``."""
        return self.margins(context).clamp_min(0)

    def loss(self, context: Context) -> Loss:
        """Return the loss ``CE(f, (1 - alpha_y) one-hot + alpha_y softmax(z / T))``."""
        from rkd_core.methods.common.losses import Loss, mixed_targets, soft_labels_loss

        alphas = self.alphas(context)

        def loss(inputs: LossInputs) -> Tensor:
            weights = alphas[inputs.labels, None].to(inputs.logits.dtype)
            targets = mixed_targets(inputs.labels, inputs.teacher, self.temperature, weights)
            return soft_labels_loss(inputs.logits, targets)

        return Loss(loss)


class AdaAlphaRemoveHardest(AdaAlpha):
    """AdaAlpha's ablation: no soft labels for the hardest classes, one weight for all others."""

    name = "ada_alpha_remove_hardest"

    removed: float = Field(default=0.1, ge=0, le=1)
    """Share of the classes, rounded up, that count as hardest: those with the smallest margins."""
    weight: float = Field(default=1, ge=0, le=1)
    """alpha of the other classes: 1 on CIFAR, 0.2 on ImageNet."""

    def alphas(self, context: Context) -> Tensor:
        """Return ``weight``, and 0 for the hardest classes; ties are broken by label."""
        margins = self.margins(context)
        hardest = margins.argsort(stable=True)[: math.ceil(self.removed * len(margins) - 1e-9)]
        alphas = margins.new_full(margins.shape, self.weight)
        alphas[hardest] = 0
        return alphas


class AdaAlphaShuffled(AdaAlpha):
    """AdaAlpha's ablation: its class weights, dealt out to the classes at random."""

    name = "ada_alpha_shuffled"

    shuffle_seed: int = Field(default=0, ge=0)
    """Seed of the permutation; the same for all training seeds."""

    def alphas(self, context: Context) -> Tensor:
        """Return AdaAlpha's weights in a random order."""
        order = stream(stream_seed(self.name, self.shuffle_seed)).permutation(context.classes)
        return super().alphas(context)[order.tolist()]
