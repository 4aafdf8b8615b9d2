"""An ablation of AdaAlpha: Lukasik et al. (TMLR 2022), Table 11."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from rkd_core.methods.ada_alpha import AdaAlpha
from rkd_core.methods.common.protocol import Context

if TYPE_CHECKING:
    from torch import Tensor


class AdaAlphaRemoveHardest(AdaAlpha):
    """AdaAlpha's ablation: no soft labels for the hardest classes, and alike for all others."""

    name = "ada_alpha_remove_hardest"

    removed: float = Field(default=0.1, ge=0, le=1)
    """Share of the classes, rounded up, of the smallest margins."""
    weight: float = Field(default=1, ge=0, le=1)
    """alpha of the other classes: 1 on CIFAR, 0.2 on ImageNet."""

    def alphas(self, context: Context) -> Tensor:
        """``weight``, and 0 for the hardest classes; ties go by label."""
        margins = self.margins(context)
        hardest = margins.argsort(stable=True)[: math.ceil(self.removed * len(margins) - 1e-9)]
        alphas = margins.new_full(margins.shape, self.weight)
        alphas[hardest] = 0
        return alphas
