"""Listening sockets of a sweep on one machine."""

import ipaddress
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[4]
SWEEP = ["--alphas", "0", "--temperatures", "1", "--epochs", "3", "--max-concurrent", "2"]
MARK = "RKD_TEST_LISTENERS"


def processes(mark):
    """Return all processes that a command started, recognized by its environment."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process
        except psutil.Error:
            continue


def within(address):
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def listeners(mark):
    """Return (program, address, port) of every listening TCP and UDP socket."""
    for process in processes(mark):
        try:
            name = process.name()
            for connection in process.net_connections("inet"):
                udp = connection.type == socket.SOCK_DGRAM
                if connection.status == psutil.CONN_LISTEN or (udp and not connection.raddr):
                    yield name, connection.laddr.ip, connection.laddr.port
        except psutil.Error:
            continue


def test_the_lister_sees_what_another_machine_can_reach():
    server = (
        "import socket, time; s = socket.create_server(('', 0)); print('up', flush=True); "
        "u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(('::', 0)); time.sleep(60)"
    )
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-c", server],
        stdout=subprocess.PIPE,
        env=os.environ | {MARK: mark},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 600
        found = {}
        while len(found) < 2 and time.monotonic() < deadline:
            found = {address for _, address, _ in listeners(mark)}
        process.kill()
    assert found == {"0.0.0.0", "::"}
    assert not any(map(within, found))
    assert all(map(within, ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1")))
    assert not within("::ffff:192.0.2.1")


def test_a_sweep_on_one_machine_listens_on_loopback_only_and_leaves_no_token(tmp_path):
    mark = uuid.uuid4().hex
    home = tmp_path / "home"
    home.mkdir()
    seen, looks = set(), 0
    with subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "sweeps" / "pareto.py"), "--dataset", "digits-lt"),
            *(*SWEEP, "--out", str(tmp_path / "results")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {MARK: mark, "HOME": str(home), "RAY_AUTH_MODE": "disabled"},
    ) as sweep:
        while sweep.poll() is None:
            seen.update(listeners(mark))
            looks += 1
            time.sleep(0.2)
        _, errors = sweep.communicate()
    assert sweep.returncode == 0, errors
    assert looks > 5
    names = {name for name, *_ in seen}
    assert {"gcs_server", "raylet"} <= names, names
    assert any(name.startswith("ray::") for name in names), names  # workers
    assert sorted(s for s in seen if not within(s[1])) == []
    assert not (home / ".ray").exists()
