"""The guarantees of a results folder, on disk and in an object store."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import time

import pytest
import torch

from rkd_core import records
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.records import parquet, predictions
from rkd_core.results import artifacts, ledger
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.storage import bundles, files
from rkd_core.training import train
from tests.rkd_core.results.test_ledger import ID, MODEL, ROW, SPEC, WEIGHTS
from tests.rkd_core.training.test_loop import student_spec, teacher_spec
from tests.storage.writers import CONTENTS, commit_and_die, keep_committing
from tests.storage.writers import ID as WRITTEN
from tests.storage.writers import commit as commit_written

SPAWN = multiprocessing.get_context("spawn")
FAILED = ROW | {"status": "failed", "cause": "boom"}


def commit(out, **changes):
    return ledger.commit(out, SPEC, MODEL, WEIGHTS, ROW | changes)


def everything(folder):
    """Return the content of all files of a folder by name, hidden ones included."""
    found = {}
    for name in files.names(folder):
        if files.is_folder(folder / name):
            found |= {f"{name}/{k}": v for k, v in everything(folder / name).items()}
        else:
            found[name] = files.read(folder / name)
    return found


def test_a_commit_is_found_and_its_artifact_loads(out):
    assert ledger.find(out, ID) is None
    commit(out)
    assert ledger.find(out, ID)["train_loss"] == 0.5
    artifacts.check(out / "artifacts", ID)
    artifact = artifacts.load(out / "artifacts", ID)
    assert (artifact.spec, artifact.model) == (SPEC, MODEL)
    assert all(torch.equal(artifact.weights[k], v) for k, v in WEIGHTS.items())


def test_predictions_are_committed_with_the_artifact_and_published(out):
    kept = {"val": b"of validation", "test": b"of test"}
    ledger.commit(out, SPEC, MODEL, WEIGHTS, ROW, kept)
    ledger.commit(out, SPEC, MODEL, WEIGHTS, ROW, dict.fromkeys(kept, b"of another process"))
    paths = {split: predictions.file_of(out, split, ID) for split in kept}
    assert {split: files.read(path) for split, path in paths.items()} == kept
    for path in (*paths.values(), out / "records" / f"{ID}.parquet"):
        files.remove(path)  # as if a process was killed before it published them
    assert ledger.find(out, ID)["train_loss"] == 0.5
    assert {split: files.read(path) for split, path in paths.items()} == kept
    ledger.set_aside(out, ID)
    assert not any(map(files.exists, paths.values()))
    assert ledger.find(out, ID) is None


def test_of_two_commits_the_first_stands_and_nothing_changes(out):
    commit(out, train_loss=1.0)
    before = everything(out)
    assert commit(out, train_loss=2.0)["train_loss"] == 1.0
    assert not records.write(out / "records", FAILED)
    assert everything(out) == before


def test_racing_commits_agree(out):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda n: commit(out, train_loss=float(n)), range(16)))
    assert len({row["train_loss"] for row in rows}) == 1
    assert ledger.find(out, ID)["train_loss"] == rows[0]["train_loss"]
    assert files.names(out / "artifacts") == [ID]
    assert len(everything(out / "artifacts")) == 5  # nothing of those who lost
    assert list(everything(out / "records")) == [f"{ID}.parquet"]


def test_a_failure_never_takes_the_place_of_a_success(out):
    """Failures and one success at once, many times: the success stands in the end."""
    folder = out / "records"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(10):
            row = {"run_id": f"{number:020}", "train_loss": 1.0}
            writes = [FAILED | row | {"cause": str(n)} for n in range(6)]
            writes.insert(number % 7, ROW | row)
            committed = list(pool.map(lambda row: records.write(folder, row), writes))
            assert committed[number % 7]
    table = records.read(folder)
    assert table["status"].to_pylist() == ["completed"] * 10
    assert set(everything(folder)) == {f"{number:020}.parquet" for number in range(10)}


def test_a_success_that_comes_while_a_failure_is_written_stands(out, monkeypatch):
    """Commit the success between the check for existing records and the write."""
    records.write(out / "records", FAILED)
    parse = records.parse

    def late(path, content):
        table = parse(path, content)
        monkeypatch.undo()
        commit(out)
        return table

    monkeypatch.setattr(parquet, "parse", late)
    assert not records.write(out / "records", FAILED | {"cause": "of a zombie"})
    assert ledger.find(out, ID)["status"] == "completed"
    (row,) = records.read(out / "records").to_pylist()
    assert row["status"] == "completed"


def test_a_record_lost_between_artifact_and_record_is_published_again(out):
    commit(out)
    files.remove(out / "records" / f"{ID}.parquet")
    assert ledger.find(out, ID)["train_loss"] == 0.5
    assert records.read(out / "records")["run_id"].to_pylist() == [ID]


@pytest.mark.parametrize("name", ["weights.safetensors", "spec.json", "model.json"])
def test_a_damaged_file_is_refused_by_name_and_set_aside(out, name):
    commit(out)
    folder = out / "artifacts" / ID
    (place,) = (p for p in everything(folder) if p.endswith(name))
    content = bytearray(files.read(folder / place))
    content[len(content) // 2] ^= 1
    files.replace_file(folder / place, bytes(content))
    with pytest.raises(UserError, match=name):
        artifacts.load(out / "artifacts", ID)
    ledger.set_aside(out, ID)
    assert ledger.find(out, ID) is None
    assert commit(out, train_loss=3.0)["train_loss"] == 3.0
    artifacts.check(out / "artifacts", ID)
    assert bytes(content) in everything(out / "artifacts").values()


def test_a_manifest_leads_nowhere_else(out):
    commit(out)
    path = out / "artifacts" / ID / "manifest.json"
    text = files.read(path).decode().replace('"run_id"', '"attempt": "../../other", "run_id"', 1)
    files.replace_file(path, text.rsplit(',\n "attempt"', 1)[0].rstrip("}").encode() + b"}")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        artifacts.load(out / "artifacts", ID)


def test_a_killed_commit_leaves_all_or_nothing(url):
    """Killed before each of a commit's five writes, and not at all."""
    folders = [files.location(url) / f"sweep{after}" for after in range(6)]
    victims = [
        SPAWN.Process(target=commit_and_die, args=(url.replace("?", f"/sweep{after}?"), after))
        for after in range(6)
    ]
    for victim in victims:
        victim.start()
    for victim in victims:
        victim.join(600)
    assert [victim.exitcode for victim in victims] == [-signal.SIGKILL] * 5 + [0]
    for after, folder in enumerate(folders):
        committed = after >= 4  # three files, the manifest, the record
        path = folder / "artifacts" / WRITTEN
        assert bundles.exists(path) == committed
        standing = commit_written(folder, train_loss=-1.0)
        assert standing["train_loss"] == (after if committed else -1.0)
        bundles.check(path, WRITTEN, CONTENTS)
        assert records.read(folder / "records")["train_loss"].to_pylist() == [
            standing["train_loss"]
        ]


def test_killed_writers_never_spoil_what_is_read(tmp_path):
    """Two processes write and are killed repeatedly: everything is readable, nothing changes."""
    folder, seen = tmp_path / "records", {}
    for _ in range(5):
        writers = [SPAWN.Process(target=keep_committing, args=(tmp_path, n)) for n in (1, 2)]
        for writer in writers:
            writer.start()
        already, deadline = len(seen), time.monotonic() + 600
        while len(seen) < already + 7 and time.monotonic() < deadline:
            for row in records.read(folder).to_pylist():
                if row["status"] == "completed":
                    assert seen.setdefault(row["run_id"], row) == row
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    assert len(seen) >= 35
    kept = {row["run_id"]: row for row in records.read(folder).to_pylist()}
    assert all(kept[run_id] == row for run_id, row in seen.items())
    for run_id in seen:
        bundles.check(tmp_path / "artifacts" / run_id, run_id, (*CONTENTS, "record"))


def test_training_resumes_from_a_checkpoint_in_a_store(url, dataset, tmp_path):
    """Teacher and student, stopped and continued: the records that a folder gets."""
    data, execution = dataset, Execution("cpu")
    two = {"recipe": teacher_spec().recipe.model_copy(update={"epochs": 2})}
    teacher = teacher_spec(**two)
    specs = [teacher, student_spec(teacher, data.fingerprint, **two)]
    free = {"train_seconds", "started_at"}

    def plain(rows):
        return [{k: v for k, v in row.items() if k not in free} for row in rows]

    here = plain(train(specs, data=data, out=tmp_path, execution=execution))
    out = files.location(url)

    class DeathError(Exception):
        pass

    def die(progress):
        if progress.epoch == 2:
            raise DeathError

    for spec in specs:
        with contextlib.suppress(DeathError):
            train([spec], data=data, out=url, execution=execution, report=die, checkpoint_every=1)
        (run_id,) = files.names(out / "checkpoints")
        assert Checkpoints(out, run_id).newest() > 0
        train([spec], data=data, out=url, execution=execution)
        assert files.names(out / "checkpoints") == []
    assert files.names(out / "teacher_logits")
    assert plain(train(specs, data=data, out=url, execution=execution)) == here
