"""Access control of Ray: loopback and a random token locally, the token of a cluster elsewhere.

Anyone who can connect to a Ray process can run programs through it. So a Ray that is started here
listens on loopback only and requires a random token, which exists only in the environment of its
processes; and a cluster is joined only if it requires a token.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from rkd_core.errors import UserError, first_line
from sweeps.running.on_ray.private_ray import bootstrap_address, forget_token, node_infos

__all__ = ["check_cluster", "check_confined", "close_to_others"]

_HOW = "start its nodes with deploy/ray-start.sh, or see docs/cluster.md"


def close_to_others() -> None:
    """Set the environment that confines a Ray started here; call this before Ray is imported.

    Ray 2.60 listens on every interface unless its node's address is 127.0.0.1, and replaces that
    address if it is passed. The first variable makes it the default, as on macOS and Windows.
    """
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # precedes any file; without it Ray writes one
    }
    if "ray" in sys.modules:
        forget_token()


def check_confined() -> None:
    """Check that the Ray that was started here listens on loopback only.

    Raises:
        UserError: It does not, as may happen with an untested release of Ray.
    """
    import ray

    for node in ray.nodes():
        if not ipaddress.ip_address(node["NodeManagerAddress"]).is_loopback:
            raise UserError(
                f"Ray {ray.__version__} cannot be kept from listening to other machines "
                f"(on {node['NodeManagerAddress']}); install Ray 2.60"
            )


def check_cluster(address: str) -> None:
    """Check that the cluster at an address requires a token, and accepts the one of this user.

    Args:
        address: ``auto``, or the head node's ``host:port``.

    Raises:
        UserError: There is no cluster, it requires no token, or the token is missing, wrong, or in
            a file that others can read.
    """
    try:
        found = bootstrap_address(address)
    except (ConnectionError, ValueError) as error:
        found = None
        reason = first_line(error)
    if found is None:
        raise UserError(f"--address {address}: {reason}")
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(f"--address {address}: nothing answers at {found} ({error})") from error

    os.environ["RAY_AUTH_MODE"] = "token"
    with _token(secrets.token_hex(32)):
        if _admitted(found, address):
            raise UserError(
                f"--address {address}: the cluster has no token authentication, so anyone who can "
                f"reach its ports can run programs as you; {_HOW}"
            )
    source = _token_source()
    if isinstance(source, Path):
        _check_file(source, address)
    if not _admitted(found, address):
        raise UserError(
            f"--address {address}: the token in {source} is not the cluster's; copy the head "
            "node's here"
        )


def _token_source() -> Path | str:
    """Return the source of the token that Ray uses: a file, or an environment variable."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def _check_file(path: Path, address: str) -> None:
    try:
        others = path.stat().st_mode & 0o077
        empty = not path.read_bytes().strip()
    except OSError as error:
        raise UserError(
            f"--address {address}: no token in {path} ({error.strerror}); copy the head node's "
            "there, or set RAY_AUTH_TOKEN"
        ) from error
    if others:
        raise UserError(f"{path} can be read by others: chmod 600 {shlex.quote(str(path))}")
    if empty:
        raise UserError(f"{path} is empty; copy the head node's token there")


def _admitted(found: str, address: str) -> bool:
    """Return whether the cluster accepts the current token."""
    from ray.exceptions import AuthenticationError

    try:
        with _silence():
            node_infos(found, timeout=10)
    except AuthenticationError:
        return False
    except Exception as error:  # any error of the RPC layer
        reason = first_line(error)
        raise UserError(f"--address {address}: no Ray answers at {found} ({reason})") from error
    return True


@contextlib.contextmanager
def _token(value: str) -> Iterator[None]:
    before = os.environ.get("RAY_AUTH_TOKEN")
    os.environ["RAY_AUTH_TOKEN"] = value
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN"]
        if before is not None:
            os.environ["RAY_AUTH_TOKEN"] = before


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard the errors that Ray's C++ code prints, since they are raised as well."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
