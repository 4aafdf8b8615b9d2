"""What this machine has, without importing torch or ray."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["cpu_count", "gpu_count"]


def cpu_count() -> int:
    """CPU cores this process may use: its affinity, and its container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limit = int(quota) // int(period)
    except (OSError, ValueError):  # no container, or "max": no quota
        limit = 0
    return max(1, min(cores or 1, limit or cores or 1))


def gpu_count() -> int:
    """NVIDIA GPUs the driver sees, as far as ``CUDA_VISIBLE_DEVICES`` leaves them visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return 0
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    if library.nvmlInit_v2() != 0:
        return 0
    count = ctypes.c_uint(0)
    try:
        failed = library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0
        found = 0 if failed else count.value
    finally:
        library.nvmlShutdown()
    return found if visible is None else min(found, len(visible.split(",")))
