"""Export of a trained model to a ``torch.export`` program that takes decoded images."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rkd_core.models.predictor import rebuild
from rkd_core.results.artifacts import Artifact

__all__ = ["Classifier", "program"]

_TOLERANCE = 1e-4  # relative; kernels may sum in another order


class Classifier(nn.Module):
    """A network preceded by the normalization that it was trained with.

    Args:
        network: Network from normalized images ``(n, channels, height, width)`` to logits.
        mean: Mean per channel, on the scale where white is 1.
        std: Standard deviation per channel, on the same scale.
        logit_shift: Shift of the logits of each class; None for none.
    """

    scale: Tensor
    shift: Tensor
    logit_shift: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        mean: list[float],
        std: list[float],
        logit_shift: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        # The same operations as in rkd_core.datasets.batches.batches, so that results are equal.
        means, stds = (torch.tensor(v, dtype=torch.float32).double() for v in (mean, std))
        self.register_buffer("scale", (1 / (255 * stds)).float()[:, None, None])
        self.register_buffer("shift", (means / stds).float()[:, None, None])
        added = None if logit_shift is None else torch.tensor(logit_shift, dtype=torch.float32)
        self.register_buffer("logit_shift", added)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 ``(n, classes)``.

        Args:
            images: uint8 ``(n, height, width, channels)``.
        """
        pixels = images.permute(0, 3, 1, 2).float()
        logits: Tensor = self.network(pixels * self.scale - self.shift)
        return logits if self.logit_shift is None else logits + self.logit_shift


def program(artifact: Artifact, logit_shift: Sequence[float] | None = None) -> bytes:
    """Export the model of an artifact as a ``torch.export`` archive, for any number of images.

    The program runs in float32. Its logits for random pixels are compared with the model's.

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
    normalization = description["normalization"]
    model = Classifier(rebuild(artifact), **normalization, logit_shift=logit_shift).eval()
    shape = (*description["image_size"], description["channels"])
    generator = torch.Generator().manual_seed(0)

    def pixels(n: int) -> Tensor:
        return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)

    exported = torch.export.export(
        model, (pixels(2),), dynamic_shapes={"images": {0: torch.export.Dim("n")}}
    )
    archive = io.BytesIO()
    torch.export.save(exported, archive)
    archive.seek(0)
    with warnings.catch_warnings():  # torch 2.11 warns of its own read-only buffer
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        loaded = torch.export.load(archive).module()
    for n in (1, 3):
        images = pixels(n)
        with torch.no_grad():
            expected, found = model(images), loaded(images)
        tolerance = _TOLERANCE * float(expected.abs().max())
        if not torch.allclose(found, expected, _TOLERANCE, tolerance):
            raise RuntimeError(f"the exported program differs from the model on {n} images")
    return archive.getvalue()
