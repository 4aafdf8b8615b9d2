"""ReviewKD: Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021).

The implementation follows mdistiller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Context, Grid, LossInputs, Method, Needs, needed

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class ReviewKd(Method):
    """Knowledge review: the student's stages, fused from deep to shallow, match the teacher's."""

    name = "review_kd"
    grid: ClassVar[Grid] = {"weight": (1.0, 5.0)}

    weight: float = Field(default=5, ge=0)
    """Weight of the distances of maps: 5 or 0.6 on CIFAR-100, depending on the networks; 1 or 8 on
    ImageNet."""
    warmup: float = Field(default=1 / 12, ge=0, le=1)
    """Share of the epochs over which the weight rises: 20 of 240; on ImageNet 1 of 100."""
    before_activation: bool = False
    """Whether the student's maps are taken before the activation function, as on ImageNet, rather
    than after it, as on CIFAR. The teacher's maps are always taken before it."""

    @property
    def needs(self) -> Needs:
        """A teacher, and the features of both networks."""
        return Needs(teacher="full", features=True)

    def loss(self, context: Context) -> Loss:
        """Return the loss ``CE + r(epoch) weight (sum of HCL over stages)``.

        The fusion module is trained with the student and discarded afterwards.
        """
        from torch.nn import functional as F

        from rkd_core.methods.common.fusion import Fusion, hierarchical_distance, map_sizes
        from rkd_core.methods.common.losses import Loss, warm_up

        fusion = Fusion(*map_sizes(context), seed=context.seed).to(context.device)

        def loss(inputs: LossInputs) -> Tensor:
            student = needed(inputs.student_features, "the student's features")
            teacher = needed(inputs.teacher_features, "the teacher's features")
            stages = student.before if self.before_activation else student.outputs
            fused = fusion([*stages, student.pooled[:, :, None, None]])
            wanted = [*teacher.before, teacher.pooled[:, :, None, None]][-len(fused) :]
            distances = [hierarchical_distance(a, b) for a, b in zip(fused, wanted, strict=True)]
            hard = F.cross_entropy(inputs.logits, inputs.labels)
            return hard + warm_up(inputs, self.warmup, context) * self.weight * sum(distances)

        return Loss(loss, trained=fusion)
