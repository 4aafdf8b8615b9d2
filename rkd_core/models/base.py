"""What every network here is: stages, a last map, its pooling, and one linear classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.specs import Normalization

__all__ = [
    "Activations",
    "Network",
    "Stage",
    "conv_bn",
    "default_initialize",
    "he_initialize",
    "lower_precision",
]


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
    """``(batch, classes)``, in float32 or more."""


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

    @staticmethod
    def initialize_convolution(weight: Tensor) -> None:
        """Draw the weight of a convolution in place by this network's rule.

        The rule is He's normal distribution (fan out; He et al., ICCV 2015); subclasses may
        override it.
        """
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def initialize_class_maps(self) -> None:
        """Draw the classifier as the bias-free 1x1 convolution of CAT-KD's code."""
        self.initialize_convolution(self.classifier.weight[:, :, None, None])

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """Run images ``(batch, channels, h, w)`` through the stem, then through each stage."""
        raise NotImplementedError

    def last_map(self, stage: Stage) -> Tensor:
        """The map that is pooled, ``(batch, channels, h, w)``, from the last stage."""
        return stage.output

    def pool(self, last: Tensor) -> Tensor:
        """Return features ``(batch, d)`` of the last map, in float32 or more."""
        return _mean(last)

    @staticmethod
    def widen(maps: Tensor) -> Tensor:
        """Return maps in float32, or in their own precision if that is higher."""
        return _widened(maps)

    def class_activation_maps(self, last: Tensor) -> Tensor:
        """Apply the classifier, without its bias, at every place of a map.

        Args:
            last: Last map ``(batch, channels, h, w)``, as in :class:`Activations`.

        Returns:
            Maps ``(batch, classes, h, w)`` in float32 or more; their mean over h and w is the
            logits less the bias.

        Raises:
            UserError: Between map and classifier is more than a mean, so there are no such maps.
        """
        weight = self.classifier.weight
        with _autocast_off(last):
            return self._maps(_widened(last), _widened(weight))

    def _maps(self, last: Tensor, weight: Tensor) -> Tensor:
        """Return class activation maps; both arguments are in float32 or more."""
        return F.conv2d(last, weight[:, :, None, None])

    def classify(self, pooled: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of pooled features, in float32 or more."""
        return _linear(pooled, self.classifier.weight, self.classifier.bias)

    def activations(self, x: Tensor) -> Activations:
        """All that the network computes of images ``(batch, channels, h, w)``, in one pass."""
        stages = tuple(self.run_stages(x))
        last = self.last_map(stages[-1])
        pooled = self.pool(last)
        return Activations(stages, last, pooled, self.classify(pooled))

    def features(self, x: Tensor) -> Tensor:
        """Pooled penultimate features ``(batch, d)`` of images ``(batch, channels, h, w)``."""
        for stage in self.run_stages(x):  # none is kept once the next is there
            last = stage
        return self.pool(self.last_map(last))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        return self.classify(self.features(x))


# Tracing does not enter wrapped functions, so a folded network computes them alike.


@torch.fx.wrap
def _linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear layer in float32 or more."""
    with _autocast_off(features):
        wide_bias = None if bias is None else _widened(bias)
        return F.linear(_widened(features), _widened(weight), wide_bias)


@torch.fx.wrap
def _mean(maps: Tensor) -> Tensor:
    """Return the mean over height and width in float32 or more."""
    return maps.mean((-2, -1), dtype=torch.promote_types(maps.dtype, torch.float32))


@torch.fx.wrap
def _widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or in its own precision if that is higher."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _autocast_off(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off if it is on; otherwise leave no trace in an exported program."""
    device = tensor.device.type
    if tensor.is_meta or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def lower_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a network in place, except for its final layers.

    Args:
        network: A :class:`Network`, several side by side, or a folded one.
        dtype: Precision of the layers below the final one.
    """
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        final = name.split(".")[-2:-1] == ["classifier"]
        if tensor.is_floating_point() and not final:
            tensor.data = tensor.data.to(dtype)
    return network


def he_initialize(module: nn.Module) -> None:
    """Draw convolutions from He's normal distribution (fan out) and set every bias to zero.

    He et al. (ICCV 2015). Linear weights and batch norm keep the initial values PyTorch gives.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            Network.initialize_convolution(layer.weight)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def default_initialize(weight: Tensor) -> None:
    """Draw a weight in place by PyTorch's default for convolutions and linear layers."""
    nn.init.kaiming_uniform_(weight, a=5**0.5)


def conv_bn(
    width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the size (but for the stride), with batch norm and so no bias."""
    convolution = nn.Conv2d(
        width_in, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(width)]
