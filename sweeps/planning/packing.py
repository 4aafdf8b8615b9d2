"""Layout of trainings: the number side by side in one trial, their device and threads."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from rkd_core.device.execution import Execution
from rkd_core.device.hardware import (
    CUDA_QUEUES,
    gpu_memory,
    thread_count,
    use_all_queues,
)
from rkd_core.errors import UserError
from rkd_core.teachers.table_or_live import TeacherPass, table_bytes

if TYPE_CHECKING:
    from rkd_core.datasets import Dataset
    from sweeps.cli.options import Machine
    from sweeps.planning.cluster import Cluster
    from sweeps.planning.settings import Settings

__all__ = ["ONE", "PerTrial", "execution_of", "trainings_per_trial"]

_SHARING = 4  # students that share the forward pass of their teacher on a CPU
_STACKED = 64  # small networks that take their steps together on a CPU
_UNKNOWN_GPU = 16 * 2**30  # memory assumed for a GPU that cannot be queried
_USABLE = 0.8  # usable share of the memory of a GPU


class PerTrial(NamedTuple):
    """Largest numbers of trainings side by side in a trial."""

    teachers: int = 1
    students: int = 1
    """The largest number of any network."""
    by_network: Mapping[str, int] = MappingProxyType({})
    """Numbers of students by architecture, if there are several networks."""

    @classmethod
    def of(cls, teachers: int, students: Mapping[str, int]) -> PerTrial:
        """Return the numbers of teachers, and of students by architecture."""
        return cls(teachers, max(students.values()), students if len(students) > 1 else {})


ONE = PerTrial()
"""One training at a time."""


def trainings_per_trial(
    machine: Machine, settings: Settings, dataset: Dataset, cluster: Cluster, asked: TeacherPass
) -> PerTrial:
    """Return ``--students-per-trial``, or as many as run in parallel and fit in memory.

    On a CPU, trainings side by side cost as much as one after the other, so there are several only
    if they share the forward pass of their teacher, or if their networks are small enough to be
    stacked.
    """
    given = machine.students_per_trial
    if not cluster.gpus_per_trial:
        one = 1 if asked == "table" else _SHARING
        if dataset.of_images:
            return PerTrial(1, given or one)
        from rkd_core.models.stacking import stacks

        def together(architecture: str, least: int) -> int:
            digest = settings.network_digests.get(architecture)
            return _STACKED if stacks(architecture, dataset, digest) else least

        trained = settings.teaching.epochs and settings.given_logits is None
        teachers = together(settings.teacher_architecture, 1) if trained else 1
        if given is not None:
            return PerTrial(teachers, given)
        students = {name: together(name, one) for name in settings.student_architectures}
        return PerTrial.of(teachers, students)
    if given is not None:
        return PerTrial(given, given)
    from rkd_core.models.memory import training_bytes

    memory = _UNKNOWN_GPU if machine.address else gpu_memory() or _UNKNOWN_GPU
    usable = memory * min(1.0, cluster.gpus_per_trial) * _USABLE
    usable -= min(dataset.nbytes, usable / 2)  # images live on the GPU, up to half of it
    if asked == "table" and settings.given_logits is None:
        usable -= table_bytes(settings.recipe, len(dataset.train), dataset.classes)

    def fitting(architecture: str) -> int:
        half = machine.precision != "float32"
        digest = settings.network_digests.get(architecture)
        each = training_bytes(architecture, settings.recipe, dataset, half=half, digest=digest)
        return max(1, min(CUDA_QUEUES, int(usable / each)))

    given_teacher = settings.given_logits is not None
    teachers = 1 if given_teacher else fitting(settings.teacher_architecture)
    return PerTrial.of(teachers, {name: fitting(name) for name in settings.student_architectures})


def execution_of(machine: Machine, cluster: Cluster) -> Execution:
    """Return the device, precision and threads of each training.

    Raises:
        UserError: PyTorch cannot use the GPU of this machine.
    """
    gpu = cluster.gpus_per_trial > 0
    if gpu and machine.address is None:
        import torch

        use_all_queues()
        if not torch.cuda.is_available():
            raise UserError(
                f"PyTorch {torch.__version__} cannot use the GPU of this machine: install its "
                "CUDA build, or pass --gpus-per-trial 0"
            )
    alone = machine.serial and machine.cpus_per_trial is None
    threads = thread_count() if alone else max(1, int(machine.cpus))
    decoders = max(threads, cluster.cores_per_trial) if gpu else None
    return Execution("cuda" if gpu else "cpu", machine.precision, threads, decoders=decoders)
