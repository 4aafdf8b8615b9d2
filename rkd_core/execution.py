"""Where and in what precision a training runs: never part of what the training is."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Execution"]

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Execution:
    """Device and precision of the forward and backward passes.

    Losses, margins and multipliers are in float32 or more whatever the precision is.
    """

    device: str = "cpu"
    precision: Precision = "float32"

    @classmethod
    def best(cls, precision: Precision = "float32") -> Execution:
        """The first CUDA device this process sees, else the CPU."""
        return cls("cuda" if torch.cuda.is_available() else "cpu", precision)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Autocast to the precision, or nothing in float32."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    @property
    def host(self) -> str:
        """Name of this machine."""
        return socket.gethostname()

    @property
    def device_name(self) -> str:
        """Device as records carry it: ``cpu``, or the GPU's product name."""
        if torch.device(self.device).type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return self.device
