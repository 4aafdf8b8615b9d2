"""Where and in what precision a training runs: never part of what the training is.

Importing it imports no torch: a sweep's command only passes it on.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["Execution"]

Precision = Literal["auto", "float32", "bfloat16"]

_SMALLEST_IMAGE = 16
"""Pixels a side; below, arithmetic is so little that casting to bfloat16 costs more than it saves
(measured on scikit-learn's digits: 0.9 of the speed of float32)."""


@dataclass(frozen=True)
class Execution:
    """Device, precision and threads of a training.

    Losses, margins and multipliers are in float32 or more whatever the precision is.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: Of the forward and backward passes; ``auto`` is what is faster here.
        threads: CPU threads, and processes that decode streamed images; None leaves both as
            they are. Float sums depend on it in their last bits.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    threads: int | None = None

    @classmethod
    def best(cls) -> Execution:
        """The first CUDA device this process sees, else the CPU; in the faster precision."""
        import torch

        return cls("cuda" if torch.cuda.is_available() else "cpu", "auto")

    def prepared(self, image_size: tuple[int, int]) -> Execution:
        """Make this process ready for a training, whatever ran in it before.

        Args:
            image_size: Height and width of its images.

        Returns:
            The same with its precision decided.
        """
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.on_gpu:
            torch.cuda.empty_cache()  # what an earlier training reserved is another's to use
        else:
            _keep_memory()
        if self.precision != "auto":
            return self
        faster = min(image_size) >= _SMALLEST_IMAGE and self._computes_bfloat16()
        return replace(self, precision="bfloat16" if faster else "float32")

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device.split(":")[0] == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Of what is computed with no gradient in sight."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def evaluation_batch(self, image_size: tuple[int, int]) -> int:
        """Images per forward pass without gradients.

        On a GPU so many that it has enough to do, on a CPU so few that what passes between layers
        stays in its caches (measured: 256 images of 32 x 32 pixels are 1.4 times as fast as 512).
        """
        pixels = image_size[0] * image_size[1]
        at_32_by_32, least = (4096, 64) if self.on_gpu else (256, 32)
        return min(at_32_by_32, max(least, at_32_by_32 * 32**2 // pixels))

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Autocast to the precision, or nothing in float32."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        import torch

        # Each weight is used once a pass, so nothing is gained by keeping its cast form, and what
        # is kept cannot be recorded into a CUDA graph.
        device = "cuda" if self.on_gpu else "cpu"
        return torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)

    @property
    def host(self) -> str:
        """Name of this machine."""
        return socket.gethostname()

    @property
    def device_name(self) -> str:
        """Device as records carry it: ``cpu``, or the GPU's product name."""
        import torch

        return torch.cuda.get_device_name(self.device) if self.on_gpu else self.device

    def _computes_bfloat16(self) -> bool:
        """Whether the hardware multiplies bfloat16 itself; emulated, it is slower than float32."""
        import torch

        if self.on_gpu:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        # Releases without this function stay in float32; so do processors that were not measured.
        has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = has.get("amx_bf16") or has.get("avx512_bf16")
        return bool(fast) and torch.backends.mkldnn.is_available()


def _keep_memory() -> None:
    """Let glibc keep freed memory: the next step wants as much, and each page anew costs a fault.

    Measured on two cores: 6,000 page faults fewer in each step of a ResNet-20.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL("libc.so.6")
            # M_MMAP_THRESHOLD, of which some versions allow 32 MiB at the most; M_TRIM_THRESHOLD.
            if libc.mallopt(-3, 2**30) or libc.mallopt(-3, 2**25):
                libc.mallopt(-1, 2**31 - 1)
