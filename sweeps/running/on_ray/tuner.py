"""Execution of a sweep on Ray Tune: one Tuner, without a barrier between teachers and students."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core.datasets import Dataset
from rkd_core.device.hardware import gpu_count
from rkd_core.errors import UserError, first_line
from rkd_core.storage.files import Location, location, storage_of
from rkd_core.training import TrainingControls
from sweeps.cli.options import Machine
from sweeps.planning.cluster import Cluster
from sweeps.running.on_ray.agents import ended_with_this_process
from sweeps.running.on_ray.limits import Allowance, Limits, allow, explain
from sweeps.running.on_ray.liveness import check_noticing
from sweeps.running.on_ray.private_ray import read_no_results_at_the_end
from sweeps.running.on_ray.security import check_cluster, check_confined, close_to_others
from sweeps.running.sweep import Sweep
from sweeps.stop import SIGNALS

if TYPE_CHECKING:
    from rkd_core.device.execution import Execution

__all__ = ["allowance_for", "connect", "is_running", "run_on_ray"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between queries of the nodes of the cluster

_NO_ROOM = (ImportError, OSError, MemoryError)  # raised by an import that runs out of memory
_M_ARENA_MAX = -8  # from glibc's malloc.h

_ROOT = str(Path(__file__).resolve().parents[3])

# Read by Ray when it is imported or started, so they are set before that.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # only the requested loggers
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is handled once, by the command
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # the searcher knows how many fit
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TQDM": "0",
    "RAY_raylet_start_wait_time_s": "120",  # the default of 30 s is too short on a busy machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


# Environment that Tune sets for its actors. Ray starts worker processes in advance with the
# environment of the job, and an actor uses one of them only if its environment is the same.
# Otherwise a new process has to start and import everything, which takes seconds.
_ACTORS_ENVIRONMENT = {"PL_DISABLE_FORK": "1"}


def allowance_for(machine: Machine, dataset: Dataset, cluster: Cluster) -> Allowance | None:
    """Return the resources for a Ray on this machine; None if none is to be started.

    Raises:
        UserError: Ray would not start within the limits of this machine.
    """
    if machine.serial or machine.address is not None:
        return None
    return allow(Limits.of_this_machine(), dataset.nbytes, cluster.slots)


@contextlib.contextmanager
def connect(
    machine: Machine, allowance: Allowance | None = None
) -> Iterator[Callable[[], Cluster]]:
    """Start Ray on this machine, or join the cluster at ``--address``, and leave it afterwards.

    A Ray that the caller has initialized is used as it is, and stays.

    Ray takes seconds to start, mostly waiting, so it starts in a thread, and the yielded function
    waits for it.

    Args:
        machine: Machine or cluster to run on.
        allowance: Resources of a Ray that is started here.

    Raises:
        UserError: There is no cluster at that address. The yielded function raises it if Ray does
            not start, or no training fits.
    """
    if is_running():
        if machine.address is not None:
            raise UserError(
                "--address: this process is connected to a Ray cluster already; leave it out"
            )
        yield lambda: Cluster.fit(_nodes(), machine)
        return
    if machine.address is None:
        close_to_others()
    else:
        _check_address(machine.address)
    if allowance is not None and allowance.few_arenas:
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # read by the C library of new processes
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    for name, value in _ENVIRONMENT.items():  # read when Ray is imported: not before this line
        os.environ.setdefault(name, value)
    # Workers import this checkout, even if it is not installed.
    paths = [_ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    python_path = os.pathsep.join(dict.fromkeys(paths))
    if machine.address is None:
        os.environ["PYTHONPATH"] = python_path
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with contextlib.ExitStack() as guarded, ThreadPoolExecutor(1, "ray-start") as pool:
        starting = pool.submit(_start, machine, python_path, allowance)

        def ready() -> Cluster:
            with contextlib.suppress(*_NO_ROOM):  # Ray then reports the cause
                import ray.tune  # noqa: F401 (takes a second, which fits into the wait)

            starting.result()
            if machine.address is None:
                guarded.enter_context(ended_with_this_process())
            with contextlib.suppress(ValueError):  # not in the main thread
                for number, handler in handlers.items():  # those of Ray print a stack
                    signal.signal(number, handler)
            return Cluster.fit(_nodes(), machine)

        try:
            yield ready
        finally:
            wait([starting])
            with contextlib.suppress(*_NO_ROOM):
                import ray

                ray.shutdown()


def is_running() -> bool:
    """Return whether this process is connected to Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _start(machine: Machine, python_path: str, allowance: Allowance | None = None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        import ray

        # The import of Ray resets the level. In a thread, Ray warns that it does not handle
        # SIGTERM, which the command does. For the messages of a cluster there is no log yet.
        level = logging.getLogger("ray").level
        logging.getLogger("ray").setLevel(logging.ERROR)
        if machine.address is None:
            slots = Cluster.local(machine).slots
            ray.init(
                address="local",
                # Ray starts a process for each CPU, and each imports the modules of trials.
                num_cpus=max(1, math.ceil(slots * machine.cpus)),
                num_gpus=gpu_count(),
                include_dashboard=False,
                runtime_env={
                    "env_vars": _ACTORS_ENVIRONMENT,
                    "worker_process_setup_hook": "sweeps.running.on_ray.preload.imports",
                },
                **_told(allowance or Allowance()),
                **options,
            )
            logging.getLogger("ray").setLevel(level)
            check_confined()
        else:
            check_cluster(machine.address)
            environment = {"env_vars": {"PYTHONPATH": python_path}}
            ray.init(address=machine.address, runtime_env=environment, **options)
            check_noticing(machine.address)
    except UserError:
        raise
    except Exception as error:  # Ray raises this class if its processes take too long
        reason = first_line(error)
        if machine.address is None:
            failure = explain(f"Ray did not start on this machine: {reason}")
            raise UserError(f"{failure}; --serial trains without Ray") from error
        raise UserError(f"--address {machine.address}: {reason}") from error


def _told(allowance: Allowance) -> dict[str, Any]:
    """Return the arguments of ``ray.init`` for an allowance."""
    store, folder = allowance.store_folder, allowance.folder
    fields = {
        "object_store_memory": allowance.object_store,
        "_plasma_directory": None if store is None else str(store),
        "_temp_dir": None if folder is None else str(folder / f"ray-{os.getuid()}"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _nodes() -> list[tuple[float, float]]:
    """Return the CPUs and GPUs of each node that is alive."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive]


def _following(cluster: Cluster, machine: Machine) -> Callable[[], int]:
    """Return a function that counts the slots of the cluster, as nodes join and die."""
    machine = replace(machine, gpus_per_trial=cluster.gpus_per_trial)
    slots, checked = cluster.slots, time.monotonic()

    def current() -> int:
        nonlocal slots, checked
        if time.monotonic() - checked >= _LOOK_SECONDS:
            before, checked = slots, time.monotonic()
            try:
                slots = Cluster.fit(_nodes(), machine).slots
            except UserError:  # until a node joins
                slots = 0
            if slots != before:
                log.info("the cluster has %d slots now, it had %d", slots, before)
        return slots

    return current


def _check_address(address: str) -> None:
    """Check that something answers at an address, which Ray would try to reach for minutes."""
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
    out: Location,
    machine: Machine,
    cluster: Cluster,
    execution: Execution,
    token: str | None = None,
    trackers: Sequence[Any] = (),
    controls: TrainingControls = TrainingControls(),
) -> None:
    """Run the remaining trials of a sweep, one in each slot of the cluster."""
    from ray import tune
    from ray.tune.logger import TBXLoggerCallback

    from sweeps.running.on_ray.searcher import ErrorForwarder, PlanSearcher
    from sweeps.running.on_ray.trainable import train_trial

    trainable = tune.with_resources(
        tune.with_parameters(
            train_trial,
            dataset=dataset,
            out=out.absolute(),
            execution=execution,
            controls=controls,
            token=token,
            hang_timeout=machine.hang_timeout,
        ),
        {"cpu": machine.cpus, "gpu": cluster.gpus_per_trial},
    )
    where = location(machine.storage) if machine.storage else out / "ray"
    storage, system = storage_of(where).pyarrow_system(where)
    searcher = PlanSearcher(sweep, _following(cluster, machine))
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=ErrorForwarder(searcher),
            num_samples=-1,  # the searcher announces the end
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("sweep-%Y%m%d-%H%M%S"),
            storage_path=storage,
            storage_filesystem=system,
            callbacks=[TBXLoggerCallback(), *trackers],
            # The sweep itself retries: Tune would put retries at the end of the queue.
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
    read_no_results_at_the_end()  # the records hold the figures
    log.info("Ray Tune: %d slots, storage %s", cluster.slots, where)
    tuner.fit()


def _trial_name(trial: Any) -> str:
    return str(trial.config["run_id"])
