"""The sweep on Ray Tune: one Tuner, no barrier between teachers and students."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core.datasets import Dataset
from rkd_core.errors import UserError
from rkd_core.hardware import cpu_count, gpu_count
from sweeps.options import Machine
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from rkd_core.execution import Execution

__all__ = ["Cluster", "connect", "run_on_ray"]

_PROCESS_DEATHS = 2  # how often one training may lose its process, and is begun again

_ROOT = str(Path(__file__).resolve().parent.parent)

# Read by Ray when it is imported or started, so they are set before that.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # only the loggers that are asked for
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is handled once, by the command
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TQDM": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True)
class Cluster:
    """What there is to run on, and how many trainings fit at a time."""

    gpus: int
    gpus_per_trial: float
    slots: int

    @classmethod
    def fit(cls, cpus: float, gpus: float, machine: Machine) -> Cluster:
        """Fit trainings onto CPUs and GPUs.

        Raises:
            UserError: Not even one fits.
        """
        wanted = machine.gpus_per_trial
        per_trial = (1.0 if gpus else 0.0) if wanted is None else wanted
        slots = int(cpus / machine.cpus_per_trial + 1e-9)
        if slots < 1:
            raise UserError(
                f"--cpus-per-trial {machine.cpus_per_trial:g} exceeds the {cpus:g} CPUs there are"
            )
        if per_trial:
            slots = min(slots, int(gpus / per_trial + 1e-9))
            if slots < 1:
                raise UserError(
                    f"--gpus-per-trial {per_trial:g} exceeds the {gpus:g} GPUs there are"
                )
        return cls(int(gpus), per_trial, min(slots, machine.max_concurrent or slots))

    @classmethod
    def local(cls, machine: Machine) -> Cluster:
        """This machine, before Ray is started on it; one training at a time if ``--serial``."""
        cluster = cls.fit(cpu_count(), gpu_count(), machine)
        return replace(cluster, slots=1) if machine.serial else cluster


@contextlib.contextmanager
def connect(machine: Machine) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at ``--address``, and leave it afterwards.

    Raises:
        UserError: There is no cluster at that address, or no training fits on it.
    """
    if machine.address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's own default, without its notice
    else:
        _check_address(machine.address)
        logging.getLogger("ray").setLevel(logging.ERROR)
    for name, value in _ENVIRONMENT.items():  # read when Ray is imported: not before this line
        os.environ.setdefault(name, value)
    # Workers import this checkout, also where it is not installed.
    paths = [_ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    python_path = os.pathsep.join(dict.fromkeys(paths))
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        if machine.address is None:
            os.environ["PYTHONPATH"] = python_path
            ray.init(
                address="local",
                num_cpus=cpu_count(),
                num_gpus=gpu_count(),
                include_dashboard=False,
                **options,
            )
        else:
            environment = {"env_vars": {"PYTHONPATH": python_path}}
            ray.init(address=machine.address, runtime_env=environment, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        if machine.address is None:
            raise UserError(f"Ray did not start on this machine: {reason}") from error
        raise UserError(
            f"--address {machine.address}: {reason} (if the cluster has token authentication, "
            "set RAY_AUTH_MODE=token)"
        ) from error
    try:
        with contextlib.suppress(ValueError):  # not in the main thread
            for number, handler in handlers.items():  # ray.init puts its own there
                signal.signal(number, handler)
        resources = ray.cluster_resources()
        yield Cluster.fit(resources.get("CPU", 0.0), resources.get("GPU", 0.0), machine)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse at once what Ray would try to reach for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise UserError(
            f'--address {address}: give "auto", or the head node\'s host:port (such as '
            "10.0.0.1:6379)"
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: nothing answers there ({error})") from error


def run_on_ray(
    sweep: Sweep,
    dataset: Dataset,
    out: Path,
    machine: Machine,
    cluster: Cluster,
    execution: Execution,
) -> None:
    """Train all that a sweep has left, as many at a time as the cluster has slots for."""
    from ray import tune
    from ray.tune.logger import TBXLoggerCallback

    from sweeps.searcher import PlanSearcher
    from sweeps.trainable import train_trial

    trainable = tune.with_resources(
        tune.with_parameters(
            train_trial,
            dataset=dataset,
            out=str(out.resolve()),
            execution=execution,
        ),
        {"cpu": machine.cpus_per_trial, "gpu": cluster.gpus_per_trial},
    )
    storage = machine.storage or str(out / "ray")
    if "://" not in storage:
        storage = str(Path(storage).expanduser().resolve())
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=PlanSearcher(sweep),
            num_samples=-1,  # the searcher says when it is finished
            max_concurrent_trials=cluster.slots,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("sweep-%Y%m%d-%H%M%S"),
            storage_path=storage,
            callbacks=[TBXLoggerCallback()],
            # A training that raises reports so; what counts here is a process that died.
            failure_config=tune.FailureConfig(max_failures=_PROCESS_DEATHS),
            verbose=0,
        ),
    )
    logging.getLogger(__name__).info("Ray Tune: %d slots, storage %s", cluster.slots, storage)
    tuner.fit()


def _trial_name(trial: Any) -> str:
    return str(trial.config["run_id"])
