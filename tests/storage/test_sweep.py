"""The commands with results in an object store, killed in the middle."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from analysis.select import main as select
from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.results import artifacts, ledger
from rkd_core.storage import bundles, files
from rkd_core.storage.object_store import ObjectStore
from sweeps import verify
from sweeps.commands.verify import sweep_leftovers
from sweeps.folder import lease, log
from sweeps.folder.ownership import check_folder, check_space
from sweeps.pareto import main
from sweeps.stop import Stop
from tests.e2e.command import answer
from tests.storage.test_ledger import everything
from tests.storage.writers import ID, ROW, commit

ROOT = Path(__file__).resolve().parents[2]
OTHER = "b" * 20
GRID = ["--alphas", "0", "1", "--temperatures", "1", "--epochs", "3", "--checkpoint-every", "1"]


def pareto(*arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
        start_new_session=True,
    )


def completed(out):
    """Return the bytes of the records of completed runs by name."""
    folder, found = out / "records", {}
    for name in files.names(folder):
        with contextlib.suppress(FileNotFoundError):
            content = files.read(folder / name)
            if records.parse(folder / name, content)["status"][0].as_py() == "completed":
                found[name] = content
    return found


@pytest.mark.slow
def test_a_sweep_in_a_store_survives_the_death_of_its_driver(url, capsys):
    out = files.location(url)
    command = ("--dataset", "digits-lt", *GRID, "--out", url)
    with pareto(*command) as driver:
        deadline = time.monotonic() + 600
        while len(completed(out)) < 4:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(driver.pid, signal.SIGKILL)
    before = completed(out)
    assert 4 <= len(before) < 15
    with pareto(*command) as driver:
        said, complaints = driver.communicate(timeout=900)
    assert driver.returncode == 0, complaints
    assert answer(said)
    after = completed(out)
    planned = json.loads(files.read(out / "plan.json"))["run_ids"]
    assert set(after) == {f"{run_id}.parquet" for run_id in planned}
    assert files.names(out / "records") == sorted(after)
    assert all(after[name] == content for name, content in before.items())
    for run_id in planned:
        artifacts.check(out / "artifacts", run_id)
    kept = set(files.names(out))
    assert kept >= {"artifacts", "dataset.json", "pareto.png", "plan.json", "ray", "selection.json"}
    assert kept >= {"sweep.log", "records"}
    assert not kept & {"checkpoints", "teacher_logits", ".in-use.json"}
    assert b"completed" in files.read(out / "sweep.log")
    assert not Path("s3:").exists()

    # The other commands read it too.
    assert verify.main([url]) == 0
    assert capsys.readouterr().out == "15 trainings are whole\n"
    chosen = files.read(out / "selection.json")
    files.remove(out / "selection.json")
    assert select([url]) == 0
    assert files.read(out / "selection.json") == chosen
    assert capsys.readouterr().out.splitlines()[-1] == f"{url.partition('?')[0]}/report.html"


@pytest.fixture
def swept(url):
    """A store with two minimal trainings."""
    out = files.location(url)
    for run_id in (ID, OTHER):
        row = dict.fromkeys(records.SCHEMA.names) | ROW | {"run_id": run_id}
        artifacts_of(out, run_id, row)
    files.create(out / "dataset.json", b'{"dataset": "digits", "fingerprint": "data"}')
    return url, out


def artifacts_of(out, run_id, row):
    contents = dict.fromkeys(("weights.safetensors", "spec.json", "model.json"), b"{}")
    contents["record.parquet"] = records.serialize(row)
    assert bundles.write(out / "artifacts" / run_id, run_id, contents)
    ledger.find(out, run_id)


def test_verify_names_and_repairs_what_is_damaged_in_a_store(swept, capsys):
    url, out = swept
    assert verify.main([url]) == 0
    assert capsys.readouterr().out == "2 trainings are whole\n"
    (damaged,) = (
        n for n in everything(out / "artifacts" / ID) if n.endswith("weights.safetensors")
    )
    files.replace_file(out / "artifacts" / ID / damaged, b"{ ")
    files.remove(out / "records" / f"{OTHER}.parquet")
    assert verify.main([url]) == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert f"s3://{files.location(url).path}/artifacts/{ID}/{damaged} is damaged" in first
    assert f"{OTHER}.parquet is missing" in second
    assert verify.main([url, "--repair"]) == 0
    assert verify.main([url]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 trainings are whole"
    assert [row["run_id"] for row in records.read(out / "records").to_pylist()] == [OTHER]
    assert b"{ " in everything(out / "artifacts").values()  # kept, under a hidden name


def test_leftovers_of_a_killed_attempt_are_not_read_and_swept_when_they_are_old(
    swept, capsys, monkeypatch
):
    url, out = swept
    attempt = uuid.uuid4().hex
    for run_id in (ID, "c" * 20):  # one was committed by another attempt, one was not
        files.replace_file(out / "artifacts" / run_id / attempt / "weights.safetensors", b"{")
    before = everything(out)
    assert ledger.find(out, "c" * 20) is None
    assert verify.main([url, "--repair"]) == 0
    assert everything(out) == before  # they may be under way
    monkeypatch.setattr(files, "_OLD", -1.0)
    assert verify.main([url, "--repair"]) == 0
    assert "2 leftovers" in capsys.readouterr().out
    after = everything(out)
    assert set(before) - set(after) == {name for name in before if attempt in name}
    assert verify.main([url]) == 0
    assert capsys.readouterr().out == "2 trainings are whole\n"


def test_leftovers_in_a_folder_are_swept_when_they_are_old(tmp_path, monkeypatch):
    commit(tmp_path)
    hidden = f".x.{uuid.uuid4().hex}"
    files.create(tmp_path / "artifacts" / hidden / "weights", b"")
    (tmp_path / "records" / f"{hidden}").write_bytes(b"")
    (tmp_path / "records" / ".damaged.x").write_bytes(b"")
    before = everything(tmp_path)
    assert sweep_leftovers(tmp_path) == 0
    assert everything(tmp_path) == before
    monkeypatch.setattr(files, "_OLD", -1.0)
    assert sweep_leftovers(tmp_path) == 2
    assert set(before) - set(everything(tmp_path)) == {n for n in before if hidden in n}


def test_ownership_is_checked_in_a_store_too(url, server, dataset):
    out = files.location(url)
    check_folder(out, "digits-lt", dataset)
    check_space(out, 10**18)
    assert files.names(out) == []
    files.create(out / "stranger", b"")
    with pytest.raises(UserError, match=r"holds other files \(stranger\)"):
        check_folder(out, "digits-lt", dataset)
    files.create(out / "dataset.json", b'{"dataset": "digits", "fingerprint": "other"}')
    with pytest.raises(UserError, match="another data set"):
        check_folder(out, "digits-lt", dataset)
    with pytest.raises(UserError, match="is a file"):
        check_folder(out / "stranger", "digits-lt", dataset)
    nowhere = f"s3://no-such-bucket/x?endpoint_override={server.address}&scheme=http"
    with pytest.raises(UserError, match=r"cannot be written: .*bucket does not exist"):
        check_space(files.location(nowhere), 1)


def test_one_process_holds_a_store_at_a_time(url, monkeypatch):
    monkeypatch.setattr(lease, "_BEAT", 0.1)
    monkeypatch.setattr(ObjectStore, "poll_seconds", 0.0)
    out = files.location(url)
    with lease.hold(out, Stop()) as token:
        gone = lease.taken_away(out, token)
        assert not gone()
        with pytest.raises(UserError, match="in use by another command"), lease.hold(out, Stop()):
            pytest.fail("both hold it")
    assert gone()
    assert files.names(out) == []


def test_the_log_is_appended_to(url, monkeypatch):
    path, said = files.location(url) / "sweep.log", []
    for number in range(2):
        with log.logging_to(path, said.append):
            print("printed", number)
        assert not Path(said[-1].split()[1].rstrip(",")).exists()
    assert files.read(path) == b"printed 0\nprinted 1\n"
    monkeypatch.setattr(log, "_PERIOD", 0.01)
    with log.logging_to(path, said.append):
        print("printed now")
        deadline = time.monotonic() + 600
        while b"now" not in files.read(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_log_that_cannot_be_copied_is_kept(url, monkeypatch):
    def refuse(*_):
        raise OSError("the line is cut")

    path, said = files.location(url) / "sweep.log", []
    monkeypatch.setattr(log, "replace_file", refuse)
    with log.logging_to(path, said.append):
        print("printed")
    kept = Path(said[0].split()[1].rstrip(","))
    assert kept.read_text().startswith("printed\n")
    kept.unlink()


@pytest.mark.parametrize(
    ("flag", "text", "said"),
    [
        ("--out", "hdfs://host/a", "--out hdfs://host/a: hdfs:// is not known"),
        ("--storage", "s4://bucket/a", "--storage s4://bucket/a: s4:// is not known"),
        ("--out", "s3:/bucket/a", "--out s3:/bucket/a: two slashes"),
        ("--out", " ", "--out is empty"),
    ],
)
def test_an_invalid_location_is_refused_in_one_line(flag, text, said, capsys, monkeypatch):
    assert main([flag, text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_many_records_are_read_in_few_round_trips(url, server):
    out, under_way, most = files.location(url), [], []
    for number in range(64):
        records.write(out / "records", ROW | {"run_id": f"{number:020}"})

    def slowly(method, path):
        under_way.append(path)
        most.append(len(under_way))
        time.sleep(0.05)
        under_way.pop()

    server.after = slowly
    try:
        assert len(records.read(out / "records")) == 64
    finally:
        server.after = lambda method, path: False
    assert max(most) >= 8


def test_the_endpoint_may_come_from_the_environment(server, url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.address}")
    plain = files.location(url.split("?")[0])
    files.create(plain / "file", b"one")
    assert files.read(files.location(url) / "file") == b"one"
