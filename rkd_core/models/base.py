"""Base class of all networks: stages, a last map, its pooling, and a linear classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.specs import Normalization

__all__ = [
    "Activations",
    "Float32Linear",
    "Network",
    "Stage",
    "channels_last",
    "conv_bn",
    "default_initialize",
    "evaluating",
    "he_initialize",
    "lower_precision",
]


N = TypeVar("N", bound=nn.Module)


class Stage(NamedTuple):
    """Final maps of a stage, both ``(batch, channels, h, w)``."""

    before: Tensor
    """Map before the last activation function; the output if there is none (linear bottleneck)."""
    output: Tensor
    """Input of the next stage."""


class Activations(NamedTuple):
    """Intermediate results and logits of a forward pass."""

    stages: tuple[Stage, ...]
    """Stages from shallow to deep, without the stem."""
    last: Tensor
    """Map that is pooled, ``(batch, channels, h, w)``."""
    pooled: Tensor
    """Penultimate features ``(batch, d)``; ``d`` is ``classifier.in_features``."""
    logits: Tensor
    """``(batch, classes)``, in float32 or more."""


class Network(nn.Module):
    """A classifier that returns intermediate activations on request.

    A subclass sets ``classifier``, the final linear layer, and defines ``run_stages``. If there is
    more than a spatial mean between its last stage and the classifier, it also overrides
    ``last_map`` and ``pool``. Methods that use intermediate activations, or that replace the
    classifier, rely on this interface only.
    """

    classifier: nn.Linear

    draws = False
    """Whether a forward pass in training mode draws random numbers."""
    published_names: tuple[tuple[str, str], ...] = ()
    """Pairs of name prefixes, here and in published weights; the first match is used."""
    published_normalization: Normalization | None = None
    """Normalization that published weights were trained with; None if there are no such weights."""

    @property
    def classifier_name(self) -> str | None:
        """Name of the classifier in the state dict; None if the final layer is not linear."""
        return "classifier"

    @staticmethod
    def initialize_convolution(weight: Tensor) -> None:
        """Draw the weight of a convolution in place by this network's rule.

        The rule is He's normal distribution (fan out; He et al., ICCV 2015); subclasses may
        override it.
        """
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def initialize_class_maps(self) -> None:
        """Draw the classifier like the bias-free 1x1 convolution in CAT-KD's code."""
        self.initialize_convolution(self.classifier.weight[:, :, None, None])

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """Pass images ``(batch, channels, h, w)`` through the stem and yield each stage."""
        raise NotImplementedError

    def last_map(self, stage: Stage) -> Tensor:
        """Return the map to be pooled, ``(batch, channels, h, w)``, from the last stage."""
        return stage.output

    def pool(self, last: Tensor) -> Tensor:
        """Return features ``(batch, d)`` of the last map, in float32 or higher precision."""
        return _mean(last)

    @staticmethod
    def widen(maps: Tensor) -> Tensor:
        """Return maps in float32, or in their precision if it is higher."""
        return _widened(maps)

    def class_activation_maps(self, last: Tensor) -> Tensor:
        """Apply the classifier, without its bias, at every position of a map.

        Args:
            last: Last map ``(batch, channels, h, w)``, as in :class:`Activations`.

        Returns:
            Maps ``(batch, classes, h, w)`` in float32 or higher precision; their mean over h and
            w equals the logits minus the bias.

        Raises:
            UserError: There is more than a mean between map and classifier, so these maps do not
                exist.
        """
        weight = self.classifier.weight
        with _autocast_off(last):
            return self._maps(_widened(last), _widened(weight))

    def _maps(self, last: Tensor, weight: Tensor) -> Tensor:
        """Return class activation maps; both arguments are in float32 or higher precision."""
        return F.conv2d(last, weight[:, :, None, None])

    def classify(self, pooled: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of pooled features, in float32 or higher precision."""
        return _linear(pooled, self.classifier.weight, self.classifier.bias)

    def activations(self, x: Tensor) -> Activations:
        """Return all activations of images ``(batch, channels, h, w)`` from one forward pass."""
        stages = tuple(self.run_stages(x))
        last = self.last_map(stages[-1])
        pooled = self.pool(last)
        return Activations(stages, last, pooled, self.classify(pooled))

    def features(self, x: Tensor) -> Tensor:
        """Return penultimate features ``(batch, d)`` of images ``(batch, channels, h, w)``."""
        for stage in self.run_stages(x):  # no list: the memory of each stage is freed
            last = stage
        return self.pool(self.last_map(last))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        return self.classify(self.features(x))


# Tracing does not enter wrapped functions, so a folded network computes the same.


@torch.fx.wrap
def _linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear layer in float32 or higher precision."""
    with _autocast_off(features):
        wide_bias = None if bias is None else _widened(bias)
        return F.linear(_widened(features), _widened(weight), wide_bias)


@torch.fx.wrap
def _mean(maps: Tensor) -> Tensor:
    """Return the mean over height and width in float32 or higher precision."""
    return maps.mean((-2, -1), dtype=torch.promote_types(maps.dtype, torch.float32))


@torch.fx.wrap
def _widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or in its precision if it is higher."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _autocast_off(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Disable autocast if it is enabled; otherwise add nothing to an exported program."""
    device = tensor.device.type
    if tensor.is_meta or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


class Float32Linear(nn.Linear):
    """Linear layer that computes in float32 or higher precision, also under autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``(batch, out_features)`` of features ``(batch, in_features)``."""
        return _linear(input, self.weight, self.bias)


def channels_last(network: N) -> N:
    """Store the weights of convolutions in the order that is fastest for images, in place."""
    if any(parameter.ndim == 5 for parameter in network.parameters()):  # has no such order
        return network
    return network.to(memory_format=torch.channels_last)


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Return a context without gradients in which a network is in evaluation mode.

    Afterwards each of its modules has its previous mode.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def lower_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a network in place, except for its classifiers.

    Args:
        network: A :class:`Network`, a module with several of them, or a folded network.
        dtype: Precision of all layers before a classifier.
    """
    wide = {
        id(tensor)
        for name, module in network.named_modules()
        if isinstance(module, Float32Linear) or name.split(".")[-1] == "classifier"
        for tensor in module.parameters(recurse=False)
    }
    for _, tensor in chain(network.named_parameters(), network.named_buffers()):
        if tensor.is_floating_point() and id(tensor) not in wide:
            tensor.data = tensor.data.to(dtype)
    return network


def he_initialize(module: nn.Module) -> None:
    """Draw convolutions from He's normal distribution (fan out) and set every bias to zero.

    See He et al. (ICCV 2015). Linear weights and batch norm keep PyTorch's initial values.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            Network.initialize_convolution(layer.weight)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def default_initialize(weight: Tensor) -> None:
    """Draw a weight in place with PyTorch's default for convolutions and linear layers."""
    nn.init.kaiming_uniform_(weight, a=5**0.5)


def conv_bn(
    width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias that divides the size by the stride, and its batch norm."""
    convolution = nn.Conv2d(
        width_in, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(width)]
