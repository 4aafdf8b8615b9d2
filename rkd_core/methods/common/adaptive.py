"""Base class of the Ada methods, which weight the teacher by its margin on held-out images.

See Lukasik et al., "Teacher's pet: understanding and mitigating biases in distillation" (TMLR
2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rkd_core.methods.common.protocol import Context, HeldOut, Needs, SoftTeacher, needed
from rkd_core.spec_options import HoldoutRule

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Adaptive", "class_margins"]


class Adaptive(SoftTeacher):
    """Options and needs of a method with class weights that are estimated on a hold-out set."""

    holdout: HoldoutRule | Literal["validation"] = HoldoutRule()
    """Images on which margins are estimated: training images that the initial teacher was not
    trained on (Lukasik et al.), or the validation set (Wang et al.)."""
    alpha_temperature: float = Field(default=1, gt=0)
    """Temperature of the teacher's probabilities in alpha; a high temperature makes every alpha
    0."""
    distil_from: Literal["full", "initial"] = "full"
    """Teacher of the student: the one trained on all images, or the initial one, whose margins are
    estimated."""

    @property
    def needs(self) -> Needs:
        """A teacher, and a hold-out set."""
        full = self.holdout == "validation"
        return Needs(teacher="full" if full else self.distil_from, holdout=self.holdout)

    def margins(self, context: Context) -> Tensor:
        """Return the margin gamma of each class on the hold-out set; see ``class_margins``."""
        held_out = needed(context.held_out, "the hold-out")
        return class_margins(held_out, self.alpha_temperature).to(context.device)


def class_margins(held_out: HeldOut, temperature: float = 1) -> Tensor:
    """Return the mean margin of each class (eq. 4 before clipping at 0), float64 ``(classes,)``.

    The margin of an image is ``p_y - mean over y' != y of p_y' = (L p_y - 1) / (L - 1)``, in
    ``[-1 / (L - 1), 1]``. It is 0 for a class without held-out images, and 1 if there is only one
    class.
    """
    logits, labels = held_out.logits.detach().double().cpu(), held_out.labels.cpu()
    classes = logits.shape[1]
    if classes == 1:
        return logits.new_ones(1)
    probabilities = (logits / temperature).softmax(dim=1).gather(1, labels[:, None])[:, 0]
    margins = (classes * probabilities - 1) / (classes - 1)
    total = labels.bincount(weights=margins, minlength=classes)
    return total / labels.bincount(minlength=classes).clamp_min(1)
