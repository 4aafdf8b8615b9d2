"""A command whose Ray is killed reports it, ends, and loses nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from rkd_core import records
from rkd_core.errors import UserError
from sweeps import stop as stopping
from sweeps.running.on_ray import liveness
from sweeps.stop import Stop

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_sweep_whose_ray_is_killed_ends_with_a_line(tmp_path, name):
    out = tmp_path / "results"
    with subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "sweeps" / "pareto.py"), "--dataset", "digits-lt"),
            *("--alphas", "0", "--temperatures", "1", "--epochs", "2000", "--out", str(out)),
            *("--max-concurrent", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as sweep:
        log, deadline = out / "sweep.log", time.monotonic() + 600
        begun = time.monotonic()
        while not (log.exists() and "started" in log.read_text()):
            assert sweep.poll() is None, sweep.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        children = psutil.Process(sweep.pid).children(recursive=True)
        startup = time.monotonic() - begun
        (victim,) = [child for child in children if child.name() == name]
        victim.kill()
        killed = time.monotonic()
        _, errors = sweep.communicate(timeout=600)
        took = time.monotonic() - killed
    assert sweep.returncode == 1, errors
    assert f"pareto.py: Ray has stopped: its {name} ended (killed by signal 9)" in errors
    assert "nothing finished is lost: continue with the same command" in errors
    assert took < max(30, 2 * startup)  # a busy machine is slow in both
    assert records.read(out / "records").num_rows == 0  # neither completed nor failed


def test_a_head_node_that_is_silent_for_long_is_given_up(monkeypatch):
    monkeypatch.setattr(liveness, "_PERIOD", 0.01)
    monkeypatch.setattr(liveness, "_TIMEOUT", 0.01)
    monkeypatch.setattr(liveness, "_SILENCE", 0.04)
    monkeypatch.setattr(liveness, "_own_death", lambda: None)
    looks = []

    def no_node():
        looks.append(len(looks))
        if len(looks) not in (3, 5):
            raise ConnectionError("no answer")

    monkeypatch.setattr(liveness, "_no_node", no_node)
    given_up = []

    class Given(Stop):
        def give_up(self, cause):
            given_up.append((len(looks), cause))

    with liveness.watched(Given()):
        deadline = time.monotonic() + 600
        while not given_up and time.monotonic() < deadline:
            time.sleep(0.01)
    ((after, cause),) = given_up
    assert after == 5 + 4  # an answer in between begins the count again
    assert "has not answered" in cause


def test_a_sweep_that_is_given_up_ends_with_the_reason(monkeypatch):
    """Give up while it waits; the command prints the `OSError`."""
    monkeypatch.setattr(stopping, "_later", lambda seconds, what: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = Stop()
    stop.handle_signals()

    def wait():
        with stop.saving():
            stop.give_up("Ray has stopped")
            time.sleep(60)

    try:
        with pytest.raises(OSError, match="Ray has stopped"):
            wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_cluster_that_notices_late_is_refused(monkeypatch):
    """The head node states the number of checks, their pause and their time limit."""

    class Asked:
        def options(self, scheduling_strategy, runtime_env):
            assert scheduling_strategy.node_id == "ab" * 28
            return self

        def remote(self):
            return self.settings

    asked = Asked()
    nodes = [
        {"NodeID": "cd" * 28, "Alive": True, "Resources": {}},
        {"NodeID": "ef" * 28, "Alive": False, "Resources": {"node:__internal_head__": 1.0}},
        {"NodeID": "ab" * 28, "Alive": True, "Resources": {"node:__internal_head__": 1.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda function: asked)
    monkeypatch.setattr(ray, "get", lambda values, timeout: values)
    asked.settings = 1000, 4000, 4
    liveness.check_noticing("auto")
    asked.settings = 3000, 10_000, 5  # Ray's defaults
    with pytest.raises(UserError, match="only after 65 seconds; start its head node with deploy/"):
        liveness.check_noticing("auto")


def test_a_dead_process_is_named(monkeypatch):
    def dead(*processes):
        node = SimpleNamespace(
            dead_processes=lambda: [(n, SimpleNamespace(returncode=c)) for n, c in processes]
        )
        monkeypatch.setattr(ray._private.worker, "_global_node", node)
        return liveness._own_death()

    assert dead() is None
    assert dead(("log_monitor", 1)) is None
    assert dead(("log_monitor", 1), ("raylet", -9)) == (
        "Ray has stopped: its raylet ended (killed by signal 9)"
    )
    assert dead(("gcs_server", 1)) == "Ray has stopped: its gcs_server ended (exit code 1)"
    monkeypatch.setattr(ray._private.worker, "_global_node", None)  # Ray was joined, not started
    assert liveness._own_death() is None


@pytest.mark.parametrize(("state", "given_up"), [(0, False), (1, True)])
def test_a_node_that_ray_has_given_up_is_noticed_by_itself_alone(monkeypatch, state, given_up):
    own, other = bytes.fromhex("ab"), bytes.fromhex("cd")
    infos = {other: SimpleNamespace(state=1), own: SimpleNamespace(state=state)}
    worker = SimpleNamespace(
        gcs_client=SimpleNamespace(get_all_node_info=lambda timeout: infos),
        node=SimpleNamespace(node_id="ab"),
    )
    monkeypatch.setattr(ray._private.worker, "global_worker", worker)
    assert (liveness._no_node() is not None) == given_up
