"""Wide residual networks for small images: Zagoruyko and Komodakis (BMVC 2016)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.models.base import Network, Stage, he_initialize

__all__ = ["WideResNet"]


class WideResNet(Network):
    """WRN of ``depth`` = 6k + 4, with k pre-activation blocks in each of three stages.

    The output of a stage is a sum without activation function; ``before`` in its :class:`Stage` is
    that sum after the next batch norm, as in mdistiller's code. Weights are also initialized as in
    that code: He's normal distribution, zero biases.

    Args:
        depth: 16, 28, 40 and so on.
        widen: Factor of the 16, 32 and 64 channels of the stages.
        classes: Number of logits.
        channels: Channels of the images.
    """

    def __init__(self, depth: int, widen: int, classes: int, channels: int) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"a wide ResNet has a depth of 10, 16, 22 and so on, not {depth}")
        self._length = (depth - 4) // 6
        self.stem = _convolution(channels, 16)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList()
        width_in = 16
        for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for i in range(self._length):
                stride = 2 if stage > 0 and i == 0 else 1
                self.blocks.append(_Block(width_in, width, stride))
                width_in = width
        self.classifier = nn.Linear(width_in, classes)
        he_initialize(self)

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """See :class:`Network`."""
        x = self.stem(x)
        normed = self.norm(x)
        for number, block in enumerate(self.blocks, start=1):
            x, normed = block(x, normed)
            if number % self._length == 0:
                yield Stage(normed, x)

    def last_map(self, stage: Stage) -> Tensor:
        """See :class:`Network`."""
        return F.relu(stage.before)


class _Block(nn.Module):
    """Pre-activation block: x + convolutions(relu(normed)), and the batch norm of that sum.

    The batch norm belongs to the next block. If the shape changes, the shortcut is a projection of
    relu(normed).
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(width_in, width, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, width),
        )
        self.project = width_in != width
        if self.project:
            self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
        active = F.relu(normed)
        total = (self.shortcut(active) if self.project else x) + self.residual(active)
        return total, self.norm(total)


def _convolution(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
