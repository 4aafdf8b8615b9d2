import concurrent.futures
import json

import pytest
import torch

from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.results import artifacts, ledger
from rkd_core.specs import Recipe, TrainingSpec, run_id
from rkd_core.storage import bundles

SPEC = TrainingSpec(
    stage="teacher",
    dataset="digits",
    architecture="digits_cnn",
    objective="standard",
    recipe=Recipe(epochs=1),
)
ID = run_id(SPEC, "data")
ROW = records.identity(SPEC, ID, "data") | {"status": "completed", "train_loss": 0.5}
WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3, dtype=torch.float64)}
MODEL = {"architecture": "digits_cnn", "classes": 10}


def commit(out, **changes):
    return ledger.commit(out, SPEC, MODEL, WEIGHTS, ROW | changes)


def test_a_commit_is_found_and_its_artifact_loads(tmp_path):
    assert ledger.find(tmp_path, ID) is None
    commit(tmp_path)
    assert ledger.find(tmp_path, ID)["train_loss"] == 0.5
    artifact = artifacts.load(tmp_path / "artifacts", ID)
    assert artifact.spec == SPEC
    assert artifact.model == MODEL
    assert all(torch.equal(artifact.weights[k], v) for k, v in WEIGHTS.items())
    assert sorted(p.name for p in (tmp_path / "artifacts").iterdir()) == [ID]


def test_a_record_lost_between_artifact_and_record_is_published_again(tmp_path):
    commit(tmp_path)
    (tmp_path / "records" / f"{ID}.parquet").unlink()
    assert ledger.find(tmp_path, ID)["train_loss"] == 0.5
    assert records.read(tmp_path / "records")["run_id"].to_pylist() == [ID]


def test_of_two_commits_the_first_stands_and_both_report_it(tmp_path):
    assert commit(tmp_path, train_loss=1.0)["train_loss"] == 1.0
    assert commit(tmp_path, train_loss=2.0)["train_loss"] == 1.0
    assert ledger.find(tmp_path, ID)["train_loss"] == 1.0


def test_racing_commits_agree(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda n: commit(tmp_path, train_loss=float(n)), range(16)))
    assert len({row["train_loss"] for row in rows}) == 1
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == [ID]


def test_a_failed_record_is_not_a_find(tmp_path):
    records.write(tmp_path / "records", ROW | {"status": "failed"})
    assert ledger.find(tmp_path, ID) is None
    commit(tmp_path)
    assert ledger.find(tmp_path, ID)["status"] == "completed"


@pytest.mark.parametrize("name", ["weights.safetensors", "spec.json", "model.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name, damage):
    commit(tmp_path)
    path = tmp_path / "artifacts" / ID / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(UserError, match=name):
        artifacts.load(tmp_path / "artifacts", ID)


@pytest.mark.parametrize(
    "manifest",
    [None, b"", b"[]", b"{}", b'{"run_id": 3, "files": {}}', b"\xff", b"[" * 10**5],
    ids=repr,
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path, manifest):
    commit(tmp_path)
    path = tmp_path / "artifacts" / ID / "manifest.json"
    path.unlink() if manifest is None else path.write_bytes(manifest)
    with pytest.raises(UserError, match=r"manifest\.json"):
        artifacts.load(tmp_path / "artifacts", ID)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"bytes": ', b'"bytes":  '), (b"record", b"regord"), (b'\n "sha256"', b'\n "sha257"')],
)
def test_no_byte_of_a_manifest_changes_unnoticed(tmp_path, old, new):
    commit(tmp_path)
    path = tmp_path / "artifacts" / ID / "manifest.json"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        artifacts.load(tmp_path / "artifacts", ID)


def test_a_manifest_without_a_sum_is_accepted(tmp_path):
    commit(tmp_path)
    path = tmp_path / "artifacts" / ID / "manifest.json"
    former = json.loads(path.read_bytes())
    del former["sha256"]
    path.write_text(json.dumps(former, indent=1))
    artifacts.check(tmp_path / "artifacts", ID)


@pytest.mark.parametrize("name", ["weights.safetensors", "spec.json", "model.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10**5], ids=repr)
def test_complete_folders_that_are_not_artifacts(tmp_path, name, content):
    commit(tmp_path)
    files = {p.name: p.read_bytes() for p in (tmp_path / "artifacts" / ID).iterdir()}
    del files["manifest.json"]
    bundles.write(tmp_path / "others" / ID, ID, files | {name: content})
    with pytest.raises(UserError, match=f"{name} is of another version") as caught:
        artifacts.load(tmp_path / "others", ID)
    assert "\n" not in str(caught.value)


def test_an_artifact_under_another_name_is_refused(tmp_path):
    commit(tmp_path)
    (tmp_path / "artifacts" / ID).rename(tmp_path / "artifacts" / "other")
    with pytest.raises(UserError, match="manifest of run"):
        artifacts.load(tmp_path / "artifacts", "other")


def test_the_manifest_covers_every_other_file(tmp_path):
    commit(tmp_path)
    folder = tmp_path / "artifacts" / ID
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) | {"manifest.json"} == {p.name for p in folder.iterdir()}


def test_a_run_that_is_set_aside_is_trained_again_and_nothing_is_lost(tmp_path):
    commit(tmp_path, train_loss=1.0)
    before = sum(path.is_file() for path in tmp_path.rglob("*"))
    ledger.set_aside(tmp_path, ID)
    assert ledger.find(tmp_path, ID) is None
    for folder in ("records", "artifacts"):
        assert [p.name for p in (tmp_path / folder).iterdir() if not p.name.startswith(".")] == []
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == before
    assert commit(tmp_path, train_loss=2.0)["train_loss"] == 2.0
    assert ledger.find(tmp_path, ID)["train_loss"] == 2.0
