"""CAT-KD: Guo et al., "Class Attention Transfer Based Knowledge Distillation" (CVPR 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Context, Grid, LossInputs, Method, Needs, needed

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.methods.common.losses import Loss


class CatKd(Method):
    """Class attention transfer: the student matches the teacher's class activation maps."""

    name = "cat_kd"
    grid: ClassVar[Grid] = {"weight": (15.0, 40.0), "normalize": (True,)}

    weight: float = Field(default=15, ge=0)
    """beta. The defaults are the authors' for ResNet-32x4 to ResNet-8x4 on CIFAR-100. For other
    pairs they use 0.5 to 600; values of several hundred are used with a resolution of 4
    and normalization."""
    resolution: int = Field(default=2, ge=1)
    """Side in pixels to which maps are pooled."""
    normalize: bool = False
    """Whether each map is divided by its norm, as in the grid. Otherwise a weight that suits one
    pair of networks can make another pair diverge."""

    @property
    def needs(self) -> Needs:
        """Class activation maps."""
        return Needs(teacher="full", maps=True)

    def loss(self, context: Context) -> Loss:
        """Return the loss ``CE + beta MSE(N(pool(CAM^s)), N(pool(CAM^t)))``."""
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        def pooled(maps: Tensor) -> Tensor:
            small = F.adaptive_avg_pool2d(maps, self.resolution)
            return F.normalize(small, dim=(2, 3)) if self.normalize else small  # type: ignore[arg-type]

        def loss(inputs: LossInputs) -> Tensor:
            student = pooled(needed(inputs.student_maps, "the student's maps"))
            teacher = pooled(needed(inputs.teacher_maps, "the teacher's maps"))
            hard = F.cross_entropy(inputs.logits, inputs.labels)
            return hard + self.weight * F.mse_loss(student, teacher)

        return Loss(loss)
