"""Who may reach Ray: nobody beyond this machine, or nobody without the cluster's token.

Whoever can talk to a Ray process can have it run programs. So a Ray that is started here listens on
loopback only and asks for a random token besides, which is in the environment of its processes and
nowhere else; and a cluster that is joined has to ask for a token.
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

__all__ = ["check_cluster", "check_confined", "close_to_others"]

_HOW = "start its nodes with deploy/ray-start.sh, or see docs/cluster.md"


def close_to_others() -> None:
    """Set what a Ray that is started here goes by. To be called before Ray is imported.

    Ray 2.60 listens on every interface unless its node's address is 127.0.0.1, and replaces such an
    address where it is given. This variable is what makes it the default on macOS and Windows.
    """
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # goes before any file; without it Ray makes one
    }
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader

        AuthenticationTokenLoader.instance().reset_cache()


def check_confined() -> None:
    """Make sure that Ray, which has been started here, is on loopback.

    Raises:
        UserError: It is not; another release of Ray might do that.
    """
    import ray

    for node in ray.nodes():
        if not ipaddress.ip_address(node["NodeManagerAddress"]).is_loopback:
            raise UserError(
                f"Ray {ray.__version__} cannot be kept from listening to other machines "
                f"(on {node['NodeManagerAddress']}); install Ray 2.60"
            )


def check_cluster(address: str) -> None:
    """Make sure that the cluster at an address asks for a token, and takes the one that is here.

    Args:
        address: ``auto``, or the head node's ``host:port``.

    Raises:
        UserError: There is no cluster, it admits anybody, the token is missing, not its own, or in
            a file that others can read.
    """
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address(address)
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
                f"--address {address}: the cluster has no token authentication, so whoever reaches "
                f"its ports can run programs as you; {_HOW}"
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
    """Where Ray takes the token from: a file, or an environment variable."""
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
    """Whether the cluster answers to the token that Ray has at present."""
    from ray._raylet import AuthenticationTokenLoader, Config, GcsClient
    from ray.exceptions import AuthenticationError

    Config.initialize('{"py_gcs_connect_timeout_s": 10}')  # reads the environment again, too
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        with _silence():
            GcsClient(address=found).get_all_node_info(timeout=10)
    except AuthenticationError:
        return False
    except Exception as error:  # Ray raises what its RPC layer does
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
    """Ray's C++ code writes to the process's standard error what is raised anyway."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
