"""Detection of a dead Ray, and a check that a cluster detects dead nodes soon enough.

Ray considers a node dead after a number of health checks in a row without an answer: with its
defaults after more than a minute. A program whose own Ray has died may wait forever, or end
without a message.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from rkd_core.errors import UserError
from sweeps.running.on_ray.limits import explain
from sweeps.running.on_ray.private_ray import dead_processes, health_checks, own_node_is_dead
from sweeps.stop import Stop

__all__ = ["check_noticing", "watched"]

NOTICED_WITHIN = 20.0
"""Largest number of seconds until a node that has died or hangs is considered dead."""

_SILENCE = 20.0  # seconds that the head node may be silent
_PERIOD = 0.5  # seconds between checks
_TIMEOUT = 5  # seconds for an answer
_HEAD_TIMEOUT = 120  # seconds for a first task on the head node

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(stop: Stop) -> Iterator[None]:
    """Give up the sweep if its Ray dies while this context is active."""
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(stop, done), name="ray-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _watch(stop: Stop, done: threading.Event) -> None:
    unanswered = 0  # checks in a row, so that time in a stopped process does not count
    while not done.wait(_TIMEOUT if unanswered else _PERIOD):
        cause = _own_death()
        if cause is None:
            try:
                cause, unanswered = _no_node(), 0
            except Exception as error:  # any error of the RPC layer
                unanswered += 1
                log.warning("Ray's head node does not answer: %s", error)
                if unanswered * _TIMEOUT >= _SILENCE:
                    cause = f"Ray's head node has not answered for {_SILENCE:.0f} seconds"
        if cause is not None and not done.is_set():
            stop.give_up(cause)
            return


def _own_death() -> str | None:
    """Return why Ray has stopped; None if its processes that were started here are alive."""
    for name, code in dead_processes():
        if name in ("raylet", "gcs_server"):
            return explain(f"Ray has stopped: its {name} ended ({_ending(code)})")
    return None


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _no_node() -> str | None:
    """Return why the node of this command is no longer part of the cluster; None if it is."""
    dead = own_node_is_dead(_TIMEOUT)
    return "Ray has given up the node that this command runs on" if dead else None


def check_noticing(address: str) -> None:
    """Check that a cluster notices a node that hangs.

    Raises:
        UserError: It would take longer than ``NOTICED_WITHIN`` seconds.
    """
    import ray

    heads = [
        n["NodeID"]
        for n in ray.nodes()
        if n["Alive"] and "node:__internal_head__" in n["Resources"]
    ]
    period, timeout, failures = health_checks(heads[0], _HEAD_TIMEOUT)
    seconds = (period + timeout) * failures / 1000
    if seconds > NOTICED_WITHIN:
        raise UserError(
            f"--address {address}: the cluster would notice a node that hangs only after "
            f"{seconds:.0f} seconds; start its head node with deploy/ray-start.sh, or with "
            "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=4000 "
            "RAY_health_check_failure_threshold=3"
        )
