"""A sweep on several `ray start` nodes: one is killed, one joins, one hangs and wakes again."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import psutil
import pytest

from rkd_core import records
from sweeps.commands.verify import examine

ROOT = Path(__file__).resolve().parents[2]
NOTICED = 20.0  # seconds, as promised
MARK = "RKD_TEST_NODE"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    """The processes of one `ray start`, which have its mark in their environment."""

    def __init__(self, token, log, *arguments):
        self.mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [
                *("sh", str(ROOT / "deploy" / "ray-start.sh"), *arguments, "--block"),
                # Several nodes of one machine must not take each other's ports.
                *("--min-worker-port", "0", "--max-worker-port", "0"),
                *("--dashboard-agent-listen-port", "0", "--node-ip-address", "127.0.0.1"),
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=ROOT,
            env=os.environ
            | {
                MARK: self.mark,
                "RAY_raylet_start_wait_time_s": "300",  # the machine may be busy
                "RAY_AUTH_TOKEN": token,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
        )

    def processes(self):
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    yield process
            except psutil.Error:
                continue

    def send(self, number):
        for _ in range(2 if number in (signal.SIGKILL, signal.SIGSTOP) else 1):  # some fork
            for process in self.processes():
                try:
                    process.send_signal(number)
                except psutil.Error:
                    continue

    @property
    def training(self):
        """Whether a process of this node has trained."""
        for process in self.processes():
            try:
                if any("ray::ImplicitFunc" in part for part in process.cmdline()):
                    return True
            except psutil.Error:
                continue
        return False

    def end(self):
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self._process.wait()


def wait_until(condition, what, sweep, seconds=400.0):
    began = time.monotonic()
    while not condition():
        assert sweep.poll() is None, f"ended before {what}: {sweep.communicate()}"
        assert time.monotonic() - began < seconds, f"no {what} in {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - began


def committed(out):
    """Return the SHA-256 of every committed file."""
    done = [
        r["run_id"] for r in records.read(out / "records").to_pylist() if r["status"] == "completed"
    ]
    files = [out / "records" / f"{run_id}.parquet" for run_id in done]
    files += [f for run_id in done for f in (out / "artifacts" / run_id).iterdir()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_nodes_are_killed_join_hang_and_wake_and_nothing_is_lost(tmp_path):
    out, token, port = tmp_path / "results", uuid.uuid4().hex * 2, free_port()
    log = out / "sweep.log"
    address = f"127.0.0.1:{port}"
    nodes, sweep = [], None
    with (tmp_path / "nodes.log").open("w") as nodes_log:

        def start(*arguments):
            nodes.append(Node(token, nodes_log, *arguments))
            return nodes[-1]

        def said(text):
            return log.exists() and text in log.read_text()

        try:
            start(
                "head",
                "--port",
                str(port),
                "--num-cpus",
                "0",
                "--ray-client-server-port",
                str(free_port()),
            )
            deadline = time.monotonic() + 600
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, (tmp_path / "nodes.log").read_text()
                    time.sleep(0.5)
            killed = start("worker", address, "--num-cpus", "1")
            hung = start("worker", address, "--num-cpus", "1")
            while (tmp_path / "nodes.log").read_text().count("Ray runtime started") < 3:
                assert time.monotonic() < deadline + 300, (tmp_path / "nodes.log").read_text()
                time.sleep(0.5)
            sweep = subprocess.Popen(
                [
                    *(sys.executable, str(ROOT / "sweeps" / "pareto.py"), "--dataset", "digits-lt"),
                    *("--alphas", "0", "1", "--temperatures", "1", "3", "--epochs", "600"),
                    *("--address", address, "--out", str(out), "--checkpoint-every", "50"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"RAY_AUTH_TOKEN": token},
            )
            # One that is still starting joins the sweep when it is there.
            wait_until(lambda: killed.training and hung.training, "training on both", sweep)
            wait_until(lambda: said(" completed "), "first result", sweep)
            before = committed(out)

            killed.send(signal.SIGKILL)
            took = wait_until(lambda: said("has 1 slots now, it had 2"), "notice of a death", sweep)
            print(f"killed node noticed after {took:.1f} s")
            assert took < NOTICED

            joined = start("worker", address, "--num-cpus", "1")
            wait_until(lambda: said("has 2 slots now, it had 1"), "notice of a new node", sweep)
            wait_until(lambda: joined.training, "training on the new node", sweep)
            before |= committed(out)

            lost = log.read_text().count("retry 1 of")
            hung.send(signal.SIGSTOP)
            took = wait_until(
                lambda: log.read_text().count("has 1 slots now, it had 2") == 2,
                "notice of a hang",
                sweep,
            )
            print(f"hanging node noticed after {took:.1f} s")
            assert took < NOTICED
            wait_until(
                lambda: log.read_text().count("retry 1 of") > lost, "retry of what it had", sweep
            )
            time.sleep(5)  # its work is given away by now, or already done again
            before |= committed(out)
            hung.send(signal.SIGCONT)

            output, errors = sweep.communicate(timeout=900)
            assert sweep.returncode == 0, (output, errors)
            rows = records.read(out / "records").to_pylist()
            assert Counter(r["status"] for r in rows) == {"completed": 3 + 18}
            assert len({r["run_id"] for r in rows}) == len(rows)
            after = committed(out)
            assert {path: after.get(path) for path in before} == before
            assert list(examine(out)) == []
        finally:
            if sweep is not None:
                sweep.kill()
            for node in nodes:
                node.end()
