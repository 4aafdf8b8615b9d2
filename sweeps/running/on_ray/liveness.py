"""Whether Ray is still there, and whether it will notice when one of its nodes is not.

Ray takes a node for dead when so many checks in a row have had no answer. With its defaults that is
after more than a minute; and a program whose own Ray has gone may wait for ever, or be ended
without a word.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from rkd_core.errors import UserError
from sweeps.running.on_ray.limits import explain
from sweeps.stop import Stop

__all__ = ["check_noticing", "watched"]

NOTICED_WITHIN = 20.0
"""Seconds until a node that has gone, or hangs, is given up."""

_SILENCE = 20.0  # seconds that the cluster's head may be silent
_PERIOD = 0.5  # seconds between looks
_TIMEOUT = 5  # seconds for an answer

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(stop: Stop) -> Iterator[None]:
    """Meanwhile, give the sweep up when the Ray it runs on has gone."""
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(stop, done), name="ray-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _watch(stop: Stop, done: threading.Event) -> None:
    unanswered = 0  # looks in a row; time that this process itself was stopped for is no silence
    while not done.wait(_TIMEOUT if unanswered else _PERIOD):
        cause = _own_death()
        if cause is None:
            try:
                cause, unanswered = _no_node(), 0
            except Exception as error:  # Ray raises what its RPC layer does
                unanswered += 1
                log.warning("Ray's head node does not answer: %s", error)
                if unanswered * _TIMEOUT >= _SILENCE:
                    cause = f"Ray's head node has not answered for {_SILENCE:.0f} seconds"
        if cause is not None and not done.is_set():
            stop.give_up(cause)
            return


def _own_death() -> str | None:
    """What has happened to the processes that were started here, if anything."""
    import ray

    node: Any = ray._private.worker._global_node
    for name, process in node.dead_processes() if node is not None else ():
        if name in ("raylet", "gcs_server"):
            return explain(f"Ray has stopped: its {name} ended ({_ending(process.returncode)})")
    return None


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _no_node() -> str | None:
    """What has happened to the node that this command is connected to, if anything."""
    import ray

    worker: Any = ray._private.worker.global_worker
    nodes = worker.gcs_client.get_all_node_info(timeout=_TIMEOUT)
    own = [info for identity, info in nodes.items() if identity.hex() == worker.node.node_id]
    alive = 0  # as in Ray's gcs.proto
    if own and own[0].state != alive:
        return "Ray has given up the node that this command runs on"
    return None


def check_noticing(address: str) -> None:
    """Make sure that a cluster notices a node that hangs.

    What a cluster goes by is known to its head node's processes only, so one of them is asked.

    Raises:
        UserError: It would take longer than ``NOTICED_WITHIN``.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def settings() -> tuple[int, int, int]:  # by value: the head node need not have this file
        from ray._raylet import Config

        return (
            Config.health_check_period_ms(),
            Config.health_check_timeout_ms(),
            Config.health_check_failure_threshold(),
        )

    heads = [
        n["NodeID"]
        for n in ray.nodes()
        if n["Alive"] and "node:__internal_head__" in n["Resources"]
    ]
    where = NodeAffinitySchedulingStrategy(heads[0], soft=False)
    period, timeout, failures = ray.get(
        settings.options(scheduling_strategy=where, runtime_env={}).remote(), timeout=120
    )
    seconds = (period + timeout) * failures / 1000
    if seconds > NOTICED_WITHIN:
        raise UserError(
            f"--address {address}: the cluster would notice a node that hangs only after "
            f"{seconds:.0f} seconds; start its head node with deploy/ray-start.sh, or with "
            "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=4000 "
            "RAY_health_check_failure_threshold=3"
        )
