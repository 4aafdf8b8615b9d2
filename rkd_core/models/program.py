"""Export of a trained model to a ``torch.export`` program that takes images or arrays."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rkd_core.models.predictor import rebuild
from rkd_core.results.artifacts import Artifact

__all__ = ["ArrayClassifier", "Classifier", "classifier", "program"]

_TOLERANCE = 1e-4  # relative; kernels may sum in another order


class _Shifting(nn.Module):
    """A network whose logits are shifted by a number for each class, if there is a shift."""

    logit_shift: Tensor | None

    def __init__(self, network: nn.Module, logit_shift: Sequence[float] | None) -> None:
        super().__init__()
        self.network = network
        added = None if logit_shift is None else torch.tensor(logit_shift, dtype=torch.float32)
        self.register_buffer("logit_shift", added)

    def _logits(self, inputs: Tensor) -> Tensor:
        """Return the shifted logits of normalized inputs."""
        logits: Tensor = self.network(inputs)
        return logits if self.logit_shift is None else logits + self.logit_shift


class Classifier(_Shifting):
    """A network preceded by the normalization that it was trained with.

    Args:
        network: Network from normalized images ``(n, channels, height, width)`` to logits.
        mean: Mean per channel, on the scale where white is 1.
        std: Standard deviation per channel, on the same scale.
        logit_shift: Shift of the logits of each class; None for none.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: list[float],
        std: list[float],
        logit_shift: Sequence[float] | None = None,
    ) -> None:
        super().__init__(network, logit_shift)
        # The same operations as in rkd_core.datasets.batches.batches, so that results are equal.
        means, stds = (torch.tensor(v, dtype=torch.float32).double() for v in (mean, std))
        self.register_buffer("scale", (1 / (255 * stds)).float()[:, None, None])
        self.register_buffer("shift", (means / stds).float()[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 ``(n, classes)``.

        Args:
            images: uint8 ``(n, height, width, channels)``.
        """
        pixels = images.permute(0, 3, 1, 2).float()
        return self._logits(pixels * self.scale - self.shift)


class ArrayClassifier(_Shifting):
    """A network preceded by the standardization that it was trained with.

    Args:
        network: Network from standardized arrays ``(n, channels, ...)`` to logits.
        mean: Mean per channel.
        std: Standard deviation per channel.
        ndim: Number of dimensions of a row.
        logit_shift: Shift of the logits of each class; None for none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: list[float],
        std: list[float],
        ndim: int,
        logit_shift: Sequence[float] | None = None,
    ) -> None:
        super().__init__(network, logit_shift)
        shape = (-1, *[1] * (ndim - 1))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 ``(n, classes)``.

        Args:
            images: Arrays as they were given for training, ``(n, ...)``.
        """
        return self._logits((images.float() - self.mean) / self.std)


def classifier(artifact: Artifact, logit_shift: Sequence[float] | None = None) -> nn.Module:
    """Return the model of an artifact, in evaluation mode, for images or arrays as they are given.

    Args:
        artifact: The artifact.
        logit_shift: Shift of the logits of each class; None for none.
    """
    description, network = artifact.model, rebuild(artifact)
    statistics = description["normalization"]
    if "input" not in description:  # images
        return Classifier(network, **statistics, logit_shift=logit_shift).eval()
    ndim = 1 + len(description["image_size"])
    return ArrayClassifier(network, **statistics, ndim=ndim, logit_shift=logit_shift).eval()


def program(artifact: Artifact, logit_shift: Sequence[float] | None = None) -> bytes:
    """Export the model of an artifact as a ``torch.export`` archive, for any number of images.

    The program runs in float32. Its logits for random inputs are compared with the model's.

    Args:
        artifact: The artifact.
        logit_shift: Shift of the logits of each class; None for none.

    Returns:
        Bytes of a file for ``torch.export.load``, whose ``.module()`` is called like
        :class:`Classifier`.

    Raises:
        RuntimeError: The program and the model disagree.
    """
    description = artifact.model
    model = classifier(artifact, logit_shift)
    channels, size = description["channels"], description["image_size"]
    generator = torch.Generator().manual_seed(0)

    def inputs(n: int) -> Tensor:
        if isinstance(model, ArrayClassifier):
            noise = torch.randn(n, channels, *size, generator=generator)
            return model.mean + noise * model.std
        shape = (n, *size, channels)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    exported = torch.export.export(
        model, (inputs(2),), dynamic_shapes={"images": {0: torch.export.Dim("n")}}
    )
    archive = io.BytesIO()
    torch.export.save(exported, archive)
    archive.seek(0)
    with warnings.catch_warnings():  # torch 2.11 warns of its own read-only buffer
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        loaded = torch.export.load(archive).module()
    for n in (1, 3):
        images = inputs(n)
        with torch.no_grad():
            expected, found = model(images), loaded(images)
        tolerance = _TOLERANCE * float(expected.abs().max())
        if not torch.allclose(found, expected, _TOLERANCE, tolerance):
            raise RuntimeError(f"the exported program differs from the model on {n} images")
    return archive.getvalue()
