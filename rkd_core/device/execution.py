"""Device, precision and threads of a training, which are not part of its spec.

Importing this module does not import torch, because the commands of a sweep only pass it on.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rkd_core.device.hardware import gpu_count, use_all_queues

if TYPE_CHECKING:
    import torch

__all__ = ["Execution", "Precision"]

Precision = Literal["auto", "float32", "bfloat16"]

_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvmap", "/dev/dxg")

_SMALLEST_IMAGE = 16
"""Minimum side in pixels for bfloat16; for smaller images, casting costs more time than bfloat16
saves (measured on scikit-learn's digits: 0.9 of the speed of float32)."""
_ARRAYS = 1024
"""Arrays per forward pass without gradients."""


@dataclass(frozen=True)
class Execution:
    """Device, precision and threads of a training.

    Losses, margins and multipliers are in float32 or higher precision in any case.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: Precision of the forward and backward passes; ``auto`` for the faster one.
        threads: Number of CPU threads; None leaves it unchanged. The last bits of float sums depend
            on it.
        recorded: Whether the steps of trainings on a GPU are recorded into CUDA graphs.
        compiled: Whether the forward passes of long trainings are compiled if they are recorded.
        decoders: Number of processes that decode streamed images; None for ``threads``, and if that
            is None, too, for one per CPU core, at most 8.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    threads: int | None = None
    recorded: bool = True
    compiled: bool = True
    decoders: int | None = None

    @staticmethod
    def unseen_gpus() -> int:
        """Return the number of GPUs that torch can use although the driver's library reports none.

        Sweeps count GPUs by that library (NVML). Without device files there is no GPU, and torch is
        not imported.
        """
        if gpu_count() or not any(Path(name).exists() for name in _DEVICE_FILES):
            return 0
        import torch

        return torch.cuda.device_count()

    @classmethod
    def best(cls) -> Execution:
        """Return the first visible CUDA device, or else the CPU, in the faster precision."""
        import torch

        use_all_queues()
        return cls("cuda" if torch.cuda.is_available() else "cpu", "auto")

    def prepared(self, image_size: tuple[int, ...]) -> Execution:
        """Prepare this process for a training, regardless of earlier trainings in it.

        Args:
            image_size: Height and width of the images in pixels; other dimensions for arrays.

        Returns:
            This execution with ``auto`` replaced by the faster precision.
        """
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if not self.on_gpu:
            _keep_memory()
        execution = self
        if self.precision == "auto":
            large = len(image_size) == 2 and min(image_size) >= _SMALLEST_IMAGE
            faster = large and self._computes_bfloat16()
            execution = replace(self, precision="bfloat16" if faster else "float32")
        if self.on_gpu:
            use_all_queues()
            torch.cuda.empty_cache()  # release memory that an earlier training reserved
            torch.backends.cudnn.benchmark = True  # all batches but the last have one size
            # TF32 has only the 10 mantissa bits of float16, so float32 excludes it.
            torch.backends.cudnn.allow_tf32 = execution.precision != "float32"
            torch.backends.cuda.matmul.allow_tf32 = execution.precision != "float32"
        return execution

    @property
    def workers(self) -> int | None:
        """Number of processes that decode streamed images; None for one per core, at most 8."""
        return self.threads if self.decoders is None else self.decoders

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device.split(":")[0] == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Data type of computations without gradients."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def evaluation_batch(self, image_size: tuple[int, ...]) -> int:
        """Return the number of images per forward pass without gradients.

        It is large enough to utilize a GPU, and small enough for activations to stay in the caches
        of a CPU (measured: 256 images of 32 x 32 pixels are 1.4 times as fast as 512).
        """
        if len(image_size) != 2:  # vectors, or arrays of the user
            return _ARRAYS
        pixels = image_size[0] * image_size[1]
        at_32_by_32, least = (4096, 64) if self.on_gpu else (256, 32)
        return min(at_32_by_32, max(least, at_32_by_32 * 32**2 // pixels))

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return a context that casts to the precision; it does nothing in float32."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        import torch

        # Each weight is used once per pass, so caching its cast copy saves nothing, and a cached
        # copy cannot be recorded into a CUDA graph.
        device = "cuda" if self.on_gpu else "cpu"
        return torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)

    @property
    def host(self) -> str:
        """Name of this machine."""
        return socket.gethostname()

    @property
    def device_name(self) -> str:
        """Device as stored in records: ``cpu``, or the product name of the GPU."""
        import torch

        return torch.cuda.get_device_name(self.device) if self.on_gpu else self.device

    def _computes_bfloat16(self) -> bool:
        """Return whether the hardware supports bfloat16; emulated, it is slower than float32."""
        import torch

        if self.on_gpu:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        # Releases without this function use float32, and so do processors that were not measured.
        has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = has.get("amx_bf16") or has.get("avx512_bf16")
        return bool(fast) and torch.backends.mkldnn.is_available()


def _keep_memory() -> None:
    """Let glibc keep freed memory for the next step, which avoids page faults.

    Measured on two cores: 6,000 fewer page faults in each step of a ResNet-20.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL("libc.so.6")
            # M_MMAP_THRESHOLD, which some versions limit to 32 MiB, and M_TRIM_THRESHOLD.
            if libc.mallopt(-3, 2**30) or libc.mallopt(-3, 2**25):
                libc.mallopt(-1, 2**31 - 1)
