"""CPUs and GPUs of the machines, and the number of trainings that fit on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rkd_core.device.hardware import cpu_count, gpu_count
from rkd_core.errors import UserError
from sweeps.cli.options import Machine

__all__ = ["Cluster"]


@dataclass(frozen=True)
class Cluster:
    """Number of GPUs, GPUs per trial, number of concurrent trials, and CPU cores for each."""

    gpus: int
    gpus_per_trial: float
    slots: int
    cores_per_trial: int = 1

    @classmethod
    def fit(cls, nodes: Sequence[tuple[float, float]], machine: Machine) -> Cluster:
        """Fit trainings onto nodes, each with its CPUs and GPUs.

        Raises:
            UserError: No node has room for one training.
        """
        cpus = max((cpus for cpus, _ in nodes), default=0.0)
        gpus = max((gpus for _, gpus in nodes), default=0.0)
        wanted = machine.gpus_per_trial
        per_trial = (1.0 if gpus else 0.0) if wanted is None else wanted

        def room(cpus: float, gpus: float) -> int:
            slots = int(cpus / machine.cpus + 1e-9)
            return min(slots, int(gpus / per_trial + 1e-9)) if per_trial else slots

        slots = sum(room(*node) for node in nodes)
        if slots < 1:
            if machine.cpus > cpus:
                too_much = f"--cpus-per-trial {machine.cpus:g} exceeds the {cpus:g} CPUs"
            elif per_trial > gpus:
                too_much = f"--gpus-per-trial {per_trial:g} exceeds the {gpus:g} GPUs"
            else:
                too_much = "--cpus-per-trial and --gpus-per-trial together exceed what"
            raise UserError(f"{too_much} one machine has")
        total = int(sum(gpus for _, gpus in nodes))
        used = min(slots, machine.max_concurrent or slots)
        cores = min(int(node[0] / min(room(*node), used)) for node in nodes if room(*node))
        return cls(total, per_trial, used, max(1, cores))

    @classmethod
    def local(cls, machine: Machine) -> Cluster:
        """Return this machine, before Ray starts on it; with ``--serial`` it has one slot."""
        cluster = cls.fit([(cpu_count(), gpu_count())], machine)
        if machine.serial:
            return replace(cluster, slots=1, cores_per_trial=cpu_count())
        return cluster
