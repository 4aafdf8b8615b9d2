"""Manifests and what lies beside them: read as written, or refused by name."""

import json
import shutil

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save

from rkd_core.results import artifacts
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.storage import bundles
from tests.fuzz.cases import (
    REFUSED,
    attempt,
    changed_json,
    edited,
    edits,
    fuzz,
    json_changes,
    json_forms,
    nasty_text,
)

FILES = {"a.bin": b"one", "b.bin": b"another" * 99}
RUN = "0123456789abcdef0123"


@pytest.fixture(name="bundle")
def one_bundle(tmp_path):
    bundles.write(tmp_path / "bundle", RUN, FILES)
    return tmp_path / "bundle", (tmp_path / "bundle" / "manifest.json").read_bytes()


def check(path):
    found = attempt(lambda: bundles.read(path, RUN, FILES), path)
    assert found is REFUSED or found == FILES
    checked = attempt(lambda: bundles.check(path, RUN, FILES), path)
    assert (checked is REFUSED) == (found is REFUSED)


@fuzz(700, changes=json_changes, form=json_forms)
def test_changed_manifests(bundle, changes, form):
    path, manifest = bundle
    (path / "manifest.json").write_bytes(changed_json(json.loads(manifest), changes, form))
    check(path)


@fuzz(500, changes=edits())
def test_changed_bytes_of_manifests(bundle, changes):
    path, manifest = bundle
    (path / "manifest.json").write_bytes(edited(manifest, changes))
    check(path)


@fuzz(300, changes=edits(), name=st.sampled_from(sorted(FILES)))
def test_changed_bytes_of_files(bundle, changes, name):
    path, _ = bundle
    (path / name).write_bytes(edited(FILES[name], changes))
    check(path)
    (path / name).write_bytes(FILES[name])


@fuzz(
    400,
    name=st.sampled_from(["spec.json", "model.json", "weights.safetensors"]),
    changes=edits(),
    values=json_changes,
    form=json_forms,
    by_bytes=st.booleans(),
)
def test_artifacts_of_another_kind(trained, tmp_path, name, changes, values, form, by_bytes):
    """Artifacts with correct sums and invalid content."""
    out, (teacher, _) = trained
    files = {p.name: p.read_bytes() for p in (out / "artifacts" / teacher).iterdir()}
    files.pop("manifest.json")
    if by_bytes or name == "weights.safetensors":
        files[name] = edited(files[name], changes)
    else:
        files[name] = changed_json(json.loads(files[name]), values, form)
    path = tmp_path / "artifacts" / RUN
    shutil.rmtree(path, ignore_errors=True)
    bundles.write(path, RUN, files)
    artifact = attempt(lambda: artifacts.load(tmp_path / "artifacts", RUN), path / name)
    if artifact is not REFUSED:
        assert isinstance(artifact.model, dict)
        assert all(isinstance(value, torch.Tensor) for value in artifact.weights.values())


@fuzz(
    200,
    name=st.one_of(
        nasty_text, st.sampled_from(["²", "step-²", "step-٣", "step-", "step-" + "9" * 99])
    ),
)
def test_names_of_checkpoints(tmp_path, name):
    saved = Checkpoints(tmp_path, RUN)
    saved.save(2, {"weight": torch.ones(2)})
    if name.strip("./") and "/" not in name and len(name) < 200 and "\0" not in name:
        try:
            (tmp_path / "checkpoints" / RUN / name).mkdir(exist_ok=True)
        except (OSError, UnicodeEncodeError):
            return
    assert saved.newest() == 2


@fuzz(200, changes=edits())
def test_states_of_another_kind(tmp_path, changes):
    path = tmp_path / "checkpoints" / RUN / "step-1"
    shutil.rmtree(path, ignore_errors=True)
    content = save({"weight": torch.arange(9.0), "momentum": torch.ones(3)})
    bundles.write(path, RUN, {"state.safetensors": edited(content, changes)})
    state = attempt(lambda: Checkpoints(tmp_path, RUN).load(1), path)
    assert state is REFUSED or all(isinstance(value, torch.Tensor) for value in state.values())
