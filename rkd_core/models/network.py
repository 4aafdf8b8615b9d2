"""What every network here is: stages, a last map, its pooling, and one linear classifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.specs import Normalization

__all__ = ["Activations", "Network", "Stage", "conv_bn", "he_initialize"]


class Stage(NamedTuple):
    """What a stage ends in, ``(batch, channels, h, w)`` both."""

    before: Tensor
    """Before the activation; the output itself if there is none (linear bottlenecks)."""
    output: Tensor
    """As the next stage gets it."""


class Activations(NamedTuple):
    """What a network computes on its way to the logits."""

    stages: tuple[Stage, ...]
    """In order; the stem is none of them."""
    last: Tensor
    """The map that is pooled, ``(batch, channels, h, w)``."""
    pooled: Tensor
    """Penultimate features ``(batch, d)``; ``d`` is ``classifier.in_features``."""
    logits: Tensor
    """``(batch, classes)``."""


class Network(nn.Module):
    """A classifier that can be asked for what it computes on its way.

    A subclass sets ``classifier``, the final linear layer, and defines ``run_stages``; where more
    than the mean over the map lies between its last stage and the classifier, ``last_map`` and
    ``pool`` as well. Methods that look into a network, or give it another classifier, rely on
    these alone. A network draws no random numbers when it runs.
    """

    classifier: nn.Linear

    published_names: tuple[tuple[str, str], ...] = ()
    """How published weights call what begins so here: prefixes here and there; the first that fits
    counts."""
    published_normalization: Normalization | None = None
    """Of the images that published weights were trained on; None: there are none."""

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """Run images ``(batch, channels, h, w)`` through the stem, then through each stage."""
        raise NotImplementedError

    def last_map(self, stage: Stage) -> Tensor:
        """The map that is pooled, ``(batch, channels, h, w)``, from the last stage."""
        return stage.output

    def pool(self, last: Tensor) -> Tensor:
        """Features ``(batch, d)`` from the last map."""
        return last.mean((-2, -1))

    def class_activation_maps(self, last: Tensor) -> Tensor:
        """Where each class is seen: the classifier, without its bias, at every place of a map.

        Args:
            last: Last map ``(batch, channels, h, w)``, as in :class:`Activations`.

        Returns:
            Maps ``(batch, classes, h, w)``; their mean over h and w is the logits less the bias.

        Raises:
            UserError: Between map and classifier is more than a mean, so there are no such maps.
        """
        return F.conv2d(last, self.classifier.weight[:, :, None, None])

    def activations(self, x: Tensor) -> Activations:
        """All that the network computes of images ``(batch, channels, h, w)``, in one pass."""
        stages = tuple(self.run_stages(x))
        last = self.last_map(stages[-1])
        pooled = self.pool(last)
        return Activations(stages, last, pooled, self.classifier(pooled))

    def features(self, x: Tensor) -> Tensor:
        """Pooled penultimate features ``(batch, d)`` of images ``(batch, channels, h, w)``."""
        for stage in self.run_stages(x):  # none is kept once the next is there
            last = stage
        return self.pool(self.last_map(last))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def he_initialize(module: nn.Module) -> None:
    """Draw convolutions from He's normal distribution (fan out) and set every bias to zero.

    He et al. (ICCV 2015). Linear weights and batch norm keep the initial values PyTorch gives.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def conv_bn(
    width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the size (but for the stride), with batch norm and so no bias."""
    convolution = nn.Conv2d(
        width_in, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(width)]
