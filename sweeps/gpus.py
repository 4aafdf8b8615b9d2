"""Whether this machine has a GPU that may be used, without importing torch or ray."""

from __future__ import annotations

import ctypes
import os

__all__ = ["has_gpu"]


def has_gpu() -> bool:
    """Whether NVIDIA's driver sees a GPU and ``CUDA_VISIBLE_DEVICES`` does not hide them all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return False
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() != 0:
        return False
    try:
        return library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 and count.value > 0
    finally:
        library.nvmlShutdown()
