"""The sweep on Ray Tune: one Tuner, no barrier between teachers and students."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rkd_core.datasets import Dataset
from rkd_core.errors import UserError
from sweeps.options import Machine
from sweeps.sweep import Sweep

__all__ = ["Cluster", "connect", "run_on_ray"]

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


class Cluster:
    """A running Ray, and how many trainings fit on it at a time."""

    def __init__(self, machine: Machine) -> None:
        import ray

        resources = ray.cluster_resources()
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        wanted = machine.gpus_per_trial
        self.gpus_per_trial = (1.0 if gpus else 0.0) if wanted is None else wanted
        fitting = int(cpus / machine.cpus_per_trial + 1e-9)
        if fitting < 1:
            raise UserError(
                f"--cpus-per-trial {machine.cpus_per_trial:g} exceeds the {cpus:g} CPUs Ray sees"
            )
        if self.gpus_per_trial:
            fitting = min(fitting, int(gpus / self.gpus_per_trial + 1e-9))
            if fitting < 1:
                raise UserError(
                    f"--gpus-per-trial {self.gpus_per_trial:g} exceeds the {gpus:g} GPUs Ray sees"
                )
        self.slots = min(fitting, machine.max_concurrent or fitting)


@contextlib.contextmanager
def connect(machine: Machine) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at ``--address``, and leave it afterwards.

    Raises:
        UserError: There is no cluster at that address, or no training fits on it.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Workers import this checkout, also where it is not installed.
    paths = [_ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    python_path = os.pathsep.join(dict.fromkeys(paths))
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        if machine.address is None:
            os.environ["PYTHONPATH"] = python_path
            ray.init(address="local", include_dashboard=False, **options)
        else:
            environment = {"env_vars": {"PYTHONPATH": python_path}}
            ray.init(address=machine.address, runtime_env=environment, **options)
    except (ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--address {machine.address}: no Ray cluster there ({reason})") from error
    try:
        yield Cluster(machine)
    finally:
        ray.shutdown()


def run_on_ray(
    sweep: Sweep,
    dataset: Dataset,
    out: Path,
    machine: Machine,
    cluster: Cluster,
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
            threads=max(1, int(machine.cpus_per_trial)),
            gpu=cluster.gpus_per_trial > 0,
            precision=machine.precision,
        ),
        {"cpu": machine.cpus_per_trial, "gpu": cluster.gpus_per_trial},
    )
    storage = machine.storage or str((out / "ray").resolve())
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
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
    logging.getLogger(__name__).info("Ray Tune: %d slots, storage %s", cluster.slots, storage)
    tuner.fit()


def _trial_name(trial: Any) -> str:
    return str(trial.config["run_id"])

