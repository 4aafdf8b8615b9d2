"""Linear classifiers and perceptrons on arrays, such as embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn

from rkd_core.errors import UserError
from rkd_core.models.base import Activations, Network, Stage

__all__ = ["Mlp"]

Norm = Literal["none", "layer", "batch"]

_NORMS = {"none": None, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


class Mlp(Network):
    """Hidden linear layers, each with a normalization and a ReLU, and a linear classifier.

    Args:
        classes: Number of logits.
        inputs: Number of values of a row; rows of several dimensions are flattened.
        hidden: Widths of the hidden layers; empty for a linear classifier.
        norm: Normalization between a hidden layer and its ReLU.
    """

    def __init__(self, classes: int, inputs: int, hidden: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            normalization = _NORMS[norm]
            layers.append(nn.Linear(inputs, width, bias=normalization is None))
            if normalization is not None:
                layers.append(normalization(width))
            layers.append(nn.ReLU())
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer ``(batch, d)`` of rows ``(batch, ...)``."""
        return self.widen(self.layers(x))

    def activations(self, x: Tensor) -> Activations:
        """Refuse: there are no maps.

        Raises:
            UserError: Always.
        """
        raise UserError("mlp and linear have no maps, which the method compares with the teacher's")

    def run_stages(self, x: Tensor) -> Iterator[Stage]:
        """Refuse, as ``activations`` does."""
        raise UserError("mlp and linear have no maps")
