"""The lease of a folder: one holder, lost if it dies or is silent, and checked by workers."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from rkd_core.errors import UserError
from rkd_core.storage import local
from sweeps.folder import lease
from sweeps.folder.lease import hold, taken_away
from sweeps.folder.ownership import check_folder
from sweeps.stop import Stop
from tests.sweeps.folder.test_ownership import dataset  # noqa: F401

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
from pathlib import Path
from sweeps.folder.lease import hold
from sweeps.stop import Stop
with hold(Path(sys.argv[1]), Stop()):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "_BEAT", 0.05)
    monkeypatch.setattr(lease, "_SILENCE", 1.0)
    monkeypatch.setattr(local.Local, "poll_seconds", 0.0)


@pytest.fixture
def without_locks(monkeypatch):
    def unsupported(self):
        raise NotImplementedError

    monkeypatch.setattr(local.FileLock, "acquire", unsupported)


def content(out):
    return json.loads((out / ".in-use.json").read_text())


def wait_until(true, seconds=600.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def refused(out, match):
    with pytest.raises(UserError, match=match), hold(out, Stop()):
        pytest.fail("both hold it")


@pytest.fixture
def somebody(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_only_one_command_trains_in_a_folder(tmp_path, dataset):  # noqa: F811
    out = tmp_path / "new"
    with hold(out, Stop()):
        refused(out, rf"in use by another command \(process {os.getpid()} on")
        check_folder(out, "digits-lt", dataset)  # the lease does not make it somebody else's
    assert not (out / ".in-use.json").exists()
    with hold(out, Stop()):
        pass


def test_the_lease_of_a_dead_process_ends_at_once(tmp_path, somebody):
    refused(tmp_path, f"process {somebody.pid}")
    somebody.kill()
    somebody.wait()
    said = []
    with hold(tmp_path, Stop(), said.append):
        assert content(tmp_path)["pid"] == os.getpid()
    assert said == []


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_live_process_keeps_the_lease(tmp_path):
    said = []
    with (
        hold(tmp_path, Stop()),
        pytest.raises(UserError, match="in use"),
        hold(tmp_path, Stop(), said.append),
    ):
        pytest.fail("both hold it")
    assert "waiting for its heartbeat" in said[0]


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_silent_process_loses_the_lease(tmp_path, monkeypatch):
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(lease, "_BEAT", 3600.0)
            first = Stop()
            token = stack.enter_context(hold(tmp_path, first))
        gone = taken_away(tmp_path, token)
        assert not gone()
        with hold(tmp_path, Stop()) as other:
            assert gone()
            assert not taken_away(tmp_path, other)()
            wait_until(lambda: content(tmp_path)["beat"] > 2)
        assert gone()


def test_a_holder_on_another_machine_is_watched_even_where_our_lock_is_free(tmp_path):
    with hold(tmp_path, Stop()):
        theirs = content(tmp_path) | {"host": "elsewhere", "token": "theirs"}
    path = tmp_path / ".in-use.json"
    path.write_text(json.dumps(theirs))
    with hold(tmp_path, Stop()) as token:  # it was silent
        assert content(tmp_path)["token"] == token

    ended = threading.Event()

    def live():
        beat = 0
        while not ended.wait(0.1):
            beat += 1
            lease.replace_file(path, json.dumps(theirs | {"beat": beat}).encode())

    thread = threading.Thread(target=live)
    path.write_text(json.dumps(theirs))
    thread.start()
    try:
        refused(tmp_path, "on elsewhere")
    finally:
        ended.set()
        thread.join()
    assert content(tmp_path)["token"] == "theirs"


def test_a_process_that_resumes_after_losing_the_lease_stops(tmp_path):
    stop = Stop()
    with hold(tmp_path, stop):
        theirs = content(tmp_path) | {"host": "elsewhere", "token": "theirs", "pid": 7}
        lease.replace_file(tmp_path / ".in-use.json", json.dumps(theirs).encode())
        wait_until(lambda: stop.asked)
        assert "process 7 on elsewhere" in stop.cause
    assert content(tmp_path)["token"] == "theirs"  # it is not ours to remove


def test_workers_learn_of_a_stop_and_of_the_end(tmp_path):
    stop = Stop()
    with hold(tmp_path, stop) as token:
        gone = taken_away(tmp_path, token)
        assert not gone()
        stop.ask("enough")
        assert gone()  # at once, not at the next sign of life
    assert taken_away(tmp_path, token)()


def test_workers_check_the_lease_once_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(local.Local, "poll_seconds", 1.0)
    now, looks, read = [0.0], [], lease._read
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    with hold(tmp_path, Stop()) as token:
        gone = taken_away(tmp_path, token)
        monkeypatch.setattr(lease, "_read", lambda path: looks.append(now[0]) or read(path))
        for step in range(40):
            now[0] = step / 8
            assert not gone()
        monkeypatch.undo()
    assert [look for look in looks if look in {1.0, 2.0, 3.0, 4.0}] == [1.0, 2.0, 3.0, 4.0]


def test_an_unreachable_server_does_not_stop_trainings(tmp_path, monkeypatch):
    stop, read = Stop(), lease._read
    with hold(tmp_path, stop) as token:
        gone = taken_away(tmp_path, token)

        def away(path):
            raise OSError("stale file handle")

        monkeypatch.setattr(lease, "_read", away)
        time.sleep(0.2)
        assert not gone()
        assert not stop.asked
        monkeypatch.setattr(lease, "_read", read)
        beat = content(tmp_path)["beat"]
        wait_until(lambda: content(tmp_path)["beat"] > beat)


def test_a_damaged_lease_is_taken_for_dead(tmp_path):
    (tmp_path / ".in-use.json").write_text("{")
    with hold(tmp_path, Stop()):
        assert content(tmp_path)["pid"] == os.getpid()


@pytest.mark.usefixtures("without_locks")
def test_one_of_many_processes_takes_over_from_a_dead_holder(tmp_path):
    with hold(tmp_path, Stop()):
        dead = content(tmp_path) | {"token": "dead", "host": "elsewhere"}
    (tmp_path / ".in-use.json").write_text(json.dumps(dead))
    held, ended = [], threading.Barrier(4)

    def contend():
        stop = Stop()
        try:
            with hold(tmp_path, stop):
                time.sleep(0.5)  # two may hold it for a moment: the next sign of life tells
                if not stop.asked:
                    held.append(1)
                ended.wait(600)
        except UserError:
            ended.wait(600)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held == [1]
