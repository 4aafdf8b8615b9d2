"""What the Ada methods share: how far the teacher can be trusted, class by class.

Lukasik et al., "Teacher's pet: understanding and mitigating biases in distillation" (TMLR 2022).
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
    """Options and needs of a method whose class weights come from a hold-out."""

    holdout: HoldoutRule | Literal["validation"] = HoldoutRule()
    """Where the teacher is judged: on training images that it has not seen (Lukasik et al.), or
    on validation (Wang et al.)."""
    alpha_temperature: float = Field(default=1, gt=0)
    """Of the teacher's probabilities in alpha, which a high temperature would all make 0."""
    distil_from: Literal["full", "initial"] = "full"
    """The teacher of the student: trained on all images, or the one that was judged."""

    @property
    def needs(self) -> Needs:
        """A teacher, and a hold-out that shows how it generalises."""
        judged_is_full = self.holdout == "validation"
        return Needs(teacher="full" if judged_is_full else self.distil_from, holdout=self.holdout)

    def margins(self, context: Context) -> Tensor:
        """gamma of each class with the judged teacher; see ``class_margins``."""
        held_out = needed(context.held_out, "the hold-out")
        return class_margins(held_out, self.alpha_temperature).to(context.device)


def class_margins(held_out: HeldOut, temperature: float = 1) -> Tensor:
    """Mean margin of each class (eq. 4 before it is cut at 0), float64 ``(classes,)``.

    The margin of an image is ``p_y - mean over y' != y of p_y' = (L p_y - 1) / (L - 1)``, in
    ``[-1 / (L - 1), 1]``. It is 0 for a class that the hold-out lacks, for nothing speaks for the
    teacher, and 1 if there is one class only.
    """
    logits, labels = held_out.logits.detach().double().cpu(), held_out.labels.cpu()
    classes = logits.shape[1]
    if classes == 1:
        return logits.new_ones(1)
    probabilities = (logits / temperature).softmax(dim=1).gather(1, labels[:, None])[:, 0]
    margins = (classes * probabilities - 1) / (classes - 1)
    total = labels.bincount(weights=margins, minlength=classes)
    return total / labels.bincount(minlength=classes).clamp_min(1)
