"""Students of one array on a GPU, and the speed of their steps."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import quick_and_data_dir

if TYPE_CHECKING:
    from rkd_core.datasets.array_data import ArrayData
    from rkd_core.teachers.answers import Teacher

__all__ = ["FLOOR", "Array", "arguments"]

FLOOR = {
    "images_per_second_by_arithmetic": 790e12 / 0.752e9,
    "images_per_second_by_unfused_traffic": 4.3e12 / 2.5e9 * 128,
}
"""Limits of ResNet-56 on an H200: 0.752 GFLOP per trained image at 790 TFLOP/s; 2.5 GB per step of
128 at 4.3 TB/s, which fused kernels would reduce."""


def arguments() -> tuple[bool, Path | None]:
    """Return ``--quick`` and ``--data-dir``; refuse to measure without a GPU."""
    import torch

    small, data_dir = quick_and_data_dir()
    if not small and not torch.cuda.is_available():
        raise SystemExit(
            "this benchmark measures a CUDA device, and there is none; --quick runs its small "
            "form on the CPU"
        )
    return small, data_dir


class Array:
    """Students of one teacher on CIFAR-10-LT, ResNet-56 in bfloat16.

    Args:
        small: Use ResNet-8 on random images on the CPU, whose recorder repeats the recorded calls.
        data_dir: Folder of CIFAR-10.
    """

    def __init__(self, small: bool, data_dir: Path | None) -> None:
        from benchmarks.training.workload import images, student, teacher
        from rkd_core.datasets.array_data import ArrayData
        from rkd_core.device.execution import Execution
        from rkd_core.teachers.answers import Teacher
        from rkd_core.training import train

        network = "resnet8" if small else "resnet56"
        self.execution = Execution("cpu" if small else "cuda", "bfloat16", 1)
        dataset = images(small, data_dir)
        spec = teacher(network, 1)
        self._spec = student(spec, dataset, network, 2.0)
        with tempfile.TemporaryDirectory(prefix="rkd-array-") as out:
            train([spec], data=dataset, out=out, execution=self.execution)
            self._array_data: ArrayData = ArrayData(self._spec, dataset, self.execution)
            self._teacher: Teacher = Teacher(self._spec.teacher, self._array_data, Path(out))
        self._steps = 4 if small else 60

    def speed(self, students: int, *, recorded: bool) -> float:
        """Return images per second of all students together, after a warm-up."""
        import torch

        from rkd_core.training.run import Run
        from rkd_core.training.steps import CudaRecorder, EagerSteps, PlainRecorder, RecordedSteps

        device, size = self.execution.device, self._spec.recipe.batch_size
        rate = torch.tensor(0.01, device=device) if recorded else None
        runs = [
            Run(self._spec, str(k), self._array_data, self._teacher, rate) for k in range(students)
        ]
        gpu = self.execution.on_gpu
        recorder = CudaRecorder(device, students) if gpu else PlainRecorder()
        steps = EagerSteps(runs) if rate is None else RecordedSteps(runs, rate, size, recorder)
        # Repeat the one epoch in the teacher's table.
        epochs = itertools.chain.from_iterable(
            self._array_data.batches.epoch(0) for _ in itertools.count()
        )
        for warm_up in (True, False):
            start = time.perf_counter()
            for batch in itertools.islice(epochs, 2 if warm_up else self._steps):
                steps(batch, self._teacher.logits(batch), 0.01)
            if gpu:
                torch.cuda.synchronize()
        return students * size * self._steps / (time.perf_counter() - start)
