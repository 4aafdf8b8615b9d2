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
    """Device, precision and threads of a training.

    Losses, margins and multipliers are in float32 or more whatever the precision is.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: Of the forward and backward passes.
        threads: CPU threads, and processes that decode streamed images; None leaves both as
            they are. Float sums depend on it in their last bits.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    threads: int | None = None

    @classmethod
    def best(cls) -> Execution:
        """The first CUDA device this process sees, else the CPU; in float32."""
        return cls("cuda" if torch.cuda.is_available() else "cpu")

    def prepare(self) -> None:
        """Make this process ready for a training, whatever ran in it before."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()  # what an earlier training reserved is another's to use

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
