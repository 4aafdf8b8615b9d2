"""Exponential moving average of the weights of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of the parameters and buffers of a network.

    The first update copies the weights, so that those before the training do not count, as in
    ``torch.optim.swa_utils.AveragedModel`` with ``use_buffers``. Integers are always copied.

    Args:
        model: Network whose weights are averaged.
        decay: Weight of the previous average in an update.

    Attributes:
        model: Network with the averaged weights, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._decay = decay
        self._share = torch.ones((), device=next(model.parameters()).device)

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average, in place."""
        for average, value in self._pairs:
            if average.is_floating_point():
                average.lerp_(value, self._share.to(average.dtype))
            else:
                average.copy_(value)
        self._share.fill_(1 - self._decay)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continue from an average after at least one update."""
        self.model.load_state_dict(weights)
        self._share.fill_(1 - self._decay)

    def changing(self) -> list[Tensor]:
        """Return the tensors that an update changes in place."""
        return [*_tensors(self.model), self._share]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
