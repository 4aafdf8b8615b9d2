"""What every network here is: pooled features, and one linear classifier on them."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Network", "he_initialize"]


class Network(nn.Module):
    """A classifier whose last layer can be told from the rest.

    A subclass sets ``classifier``, the final linear layer, and defines ``features``. Methods that
    look at the penultimate layer, or give it another classifier, rely on these two alone.
    """

    classifier: nn.Linear

    def features(self, x: Tensor) -> Tensor:
        """Pooled penultimate features ``(batch, d)`` of images ``(batch, channels, h, w)``.

        ``d`` is ``classifier.in_features``.
        """
        raise NotImplementedError

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
