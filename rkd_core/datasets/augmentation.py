"""Random crop and horizontal flip of a whole batch, as one gather of pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["crop_and_flip"]


def crop_and_flip(pixels: Tensor, padding: int, shifts: Tensor, flips: Tensor) -> Tensor:
    """Pad with zeros, crop back to size, mirror left to right.

    Args:
        pixels: uint8 ``(batch, height, width, channels)``.
        padding: Pixels on every side; 0 for no crop.
        shifts: int64 ``(batch, 2)``, top and left of each crop in the padded image, from 0 to
            ``2 * padding``.
        flips: bool ``(batch,)``, which crops are mirrored.

    Returns:
        uint8 ``(batch, height, width, channels)``.
    """
    batch, height, width, channels = pixels.shape
    padded = F.pad(pixels, (0, 0, padding, padding, padding, padding))
    device = pixels.device
    column = torch.arange(width, device=device)
    columns = torch.where(flips[:, None], width - 1 - column, column) + shifts[:, 1:]
    rows = torch.arange(height, device=device) + shifts[:, :1]
    first_rows = torch.arange(batch, device=device)[:, None] * (height + 2 * padding)
    index = (first_rows + rows)[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    gathered = padded.view(-1, channels).index_select(0, index.view(-1))
    return gathered.view(batch, height, width, channels)
