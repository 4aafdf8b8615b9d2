"""Functions that use Ray's private modules.

Private modules may change with any release, so no other module of this project uses them.
``pyproject.toml`` states the range of Ray releases that the tests of this module were run with.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "bootstrap_address",
    "dead_processes",
    "forget_token",
    "health_checks",
    "node_infos",
    "own_node_is_dead",
    "raylet_pid",
    "read_no_results_at_the_end",
]

_ALIVE = 0  # state of a node in Ray's gcs.proto
_CONNECT_SECONDS = 10


def _node() -> Any:
    """Return the node whose processes this process has started; None if it started none."""
    import ray._private.worker

    return ray._private.worker._global_node


def raylet_pid() -> int:
    """Return the process id of the raylet that was started here."""
    return int(_node().all_processes["raylet"][0].process.pid)


def dead_processes() -> list[tuple[str, int]]:
    """Return name and exit code of each ended Ray process that was started here."""
    node = _node()
    dead = () if node is None else node.dead_processes()
    return [(name, process.returncode) for name, process in dead]


def own_node_is_dead(timeout: float) -> bool:
    """Return whether the cluster considers the node that this process is connected to as dead.

    Raises:
        Exception: The head node does not answer within ``timeout`` seconds.
    """
    import ray._private.worker

    worker: Any = ray._private.worker.global_worker
    nodes = worker.gcs_client.get_all_node_info(timeout=timeout)
    own = [info for identity, info in nodes.items() if identity.hex() == worker.node.node_id]
    return bool(own) and own[0].state != _ALIVE


def bootstrap_address(address: str) -> str | None:
    """Return the ``host:port`` of the head node for an address such as ``auto``.

    Raises:
        ConnectionError: There is no cluster on this machine.
        ValueError: The address is not valid.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found: str | None = canonicalize_bootstrap_address(address)
    return found


def forget_token() -> None:
    """Make Ray read the authentication token from its source again."""
    from ray._raylet import AuthenticationTokenLoader

    AuthenticationTokenLoader.instance().reset_cache()


def node_infos(address: str, timeout: float) -> Any:
    """Return the nodes that the head node at an address knows, using the current token.

    Raises:
        ray.exceptions.AuthenticationError: The token is not the cluster's.
        Exception: Nothing answers within ``timeout`` seconds.
    """
    from ray._raylet import Config, GcsClient

    # This also reads the environment again.
    Config.initialize(f'{{"py_gcs_connect_timeout_s": {_CONNECT_SECONDS}}}')
    forget_token()
    return GcsClient(address=address).get_all_node_info(timeout=timeout)


def health_checks(node_id: str, timeout: float) -> tuple[int, int, int]:
    """Return period (ms), timeout (ms) and number of failed health checks until a node is dead.

    Only processes of the head node know them, so they are read in a task there.

    Args:
        node_id: Id of the head node.
        timeout: Seconds to wait for the task.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def settings() -> tuple[int, int, int]:  # sent by value: the head node need not have this file
        from ray._raylet import Config

        return (
            Config.health_check_period_ms(),
            Config.health_check_timeout_ms(),
            Config.health_check_failure_threshold(),
        )

    where = NodeAffinitySchedulingStrategy(node_id, soft=False)
    reply = settings.options(scheduling_strategy=where, runtime_env={}).remote()
    found: tuple[int, int, int] = ray.get(reply, timeout=timeout)
    return found


def read_no_results_at_the_end() -> None:
    """Prevent Tune from reading a ``result.json`` of each trial at the end.

    No such files are written here, and Tune would log a ``FileNotFoundError`` for each.
    """
    from ray.tune.analysis import ExperimentAnalysis

    ExperimentAnalysis._fetch_trial_dataframes = lambda _: {}
