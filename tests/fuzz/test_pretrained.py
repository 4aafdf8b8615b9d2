"""Files of weights: finite tensors of a network, or one line that names the file."""

import io
import json
import os
import pickle
import warnings
import zipfile

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save

from rkd_core.models import build, load_pretrained, read_pretrained
from tests.fuzz.cases import (
    REFUSED,
    attempt,
    changed_json,
    edited,
    edits,
    fuzz,
    json_changes,
    nasty_text,
)
from tests.fuzz.test_pickles import Runs

NETWORK = ("digits_cnn", 5, 1, (8, 8))
STATE = build(*NETWORK, seed=3).state_dict()
NAMES = sorted(STATE)


def torch_bytes(value, **options):
    content = io.BytesIO()
    torch.save(value, content, **options)
    return content.getvalue()


FORMATS = {
    "zip.pth": torch_bytes(STATE),
    "old.pt": torch_bytes(STATE, _use_new_zipfile_serialization=False),
    "w.safetensors": save(STATE),
}
formats = st.sampled_from(sorted(FORMATS))


def check(path):
    """Check that both readers accept the same weights."""
    found = attempt(lambda: read_pretrained(path, *NETWORK), path)
    network = attempt(lambda: load_pretrained(path, *NETWORK), path)
    if found is REFUSED:
        assert network is REFUSED
        return False
    assert list(found.tensors) == list(STATE)
    assert (network is REFUSED) == (found.classes != 5)
    for name, value in found.tensors.items():
        needed = STATE[name]
        assert value.dtype == needed.dtype
        assert value.shape[1:] == needed.shape[1:]
        assert value.shape == needed.shape or name.startswith("classifier.")
        assert torch.isfinite(value).all()
    return True


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_whole_files_are_read(tmp_path, name):
    assert check(written(tmp_path, name, FORMATS[name]))


@fuzz(500, name=formats, changes=edits())
def test_changed_bytes(tmp_path, name, changes):
    check(written(tmp_path, name, edited(FORMATS[name], changes)))


@fuzz(150, name=formats, share=st.floats(0, 1))
def test_truncated(tmp_path, name, share):
    content = FORMATS[name]
    assert not check(written(tmp_path, name, content[: int(share * (len(content) - 1))]))


@fuzz(300, changes=json_changes)
def test_changed_headers_of_safetensors(tmp_path, changes):
    content = FORMATS["w.safetensors"]
    length = int.from_bytes(content[:8], "little")
    header = changed_json(json.loads(content[8 : 8 + length]), changes)
    body = len(header).to_bytes(8, "little") + header + content[8 + length :]
    check(written(tmp_path, "w.safetensors", body))


# ---- State dicts that are none, or another network's --------------------------------------------

odd_tensors = st.sampled_from(
    [
        lambda t: t[:-1] if t.ndim else t.reshape(1),
        lambda t: t.flatten(),
        lambda t: t.unsqueeze(0),
        lambda t: t.new_zeros(0),
        lambda t: t.new_zeros(1).expand(2**40),
        lambda t: t.to(torch.int32),
        lambda t: t.to(torch.bool),
        lambda t: t.to(torch.complex64),
        lambda t: t.to(torch.float16),
        lambda t: t.to(torch.bfloat16),
        lambda t: t.double() * 1e300,
        lambda t: t.double() * float("nan"),
        lambda t: torch.full_like(t, float("inf"), dtype=torch.float32),
        lambda t: t.double().mT if t.ndim > 1 else t.double(),
        lambda t: t.to_sparse() if t.ndim else t,
        lambda t: t.to("meta"),
    ]
)
odd_values = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.just({}), st.just([1.0]), st.just(b"x")
)
names = st.one_of(st.sampled_from(NAMES), nasty_text, st.integers(), st.just(("a", "b")))
change = st.one_of(
    st.tuples(st.just("odd"), st.sampled_from(NAMES), odd_tensors),
    st.tuples(st.just("value"), names, odd_values),
    st.tuples(st.just("add"), names, st.just(torch.ones(2))),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), names),
)


@fuzz(400, changes=st.lists(change, min_size=1, max_size=2), old=st.booleans())
def test_state_dicts_of_something_else(tmp_path, changes, old):
    state = dict(STATE)
    for what, name, new in changes:
        if what == "odd" and name in state:
            state[name] = new(state[name])
        elif what in ("value", "add"):
            state[name] = new
        elif name in state:
            value = state.pop(name)
            if what == "rename":
                state[new] = value
    try:
        content = torch_bytes(state, _use_new_zipfile_serialization=not old)
    except (UnicodeEncodeError, NotImplementedError):  # what cannot be written cannot be read
        return
    check(written(tmp_path, "w.pth", content))


@fuzz(100, value=odd_values)
def test_objects_that_are_no_state_dict(tmp_path, value):
    for whole in (value, [STATE], {"model": [STATE]}, (STATE,)):
        assert not check(written(tmp_path, "w.pth", torch_bytes(whole)))
    for whole in ({"model": STATE}, {"model": STATE, "epoch": value, "more": [STATE]}):
        assert check(written(tmp_path, "w.pth", torch_bytes(whole)))


def test_tensors_of_another_kind(tmp_path):
    weight = STATE["classifier.weight"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both are experimental, or will go
        others = [
            torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
            torch.nested.nested_tensor(list(weight)),
            weight.to_sparse_csr(),
        ]
        contents = [torch_bytes(STATE | {"classifier.weight": value}) for value in others]
        for content in contents:
            assert not check(written(tmp_path, "w.pth", content))
            with torch.serialization.safe_globals([torch._utils._rebuild_nested_tensor]):
                assert not check(written(tmp_path, "w.pth", content))


# ---- Pickles that want more than tensors ---------------------------------------------------------


def in_an_archive(bomb):
    """torch's own archive, with another pickle in it."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(FORMATS["zip.pth"])) as whole,
        zipfile.ZipFile(content, "w") as changed,
    ):
        for name in whole.namelist():
            changed.writestr(name, bomb if name.endswith("data.pkl") else whole.read(name))
    return content.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickled_code_is_run(tmp_path, protocol):
    proof = tmp_path / "proof"
    for value in (Runs(proof), {"classifier.weight": Runs(proof)}, [Runs(proof)]):
        bomb = pickle.dumps(value, protocol)
        for content in (bomb, in_an_archive(bomb), FORMATS["old.pt"] + bomb):
            for name in FORMATS:
                check(written(tmp_path, name, content))
                assert not proof.exists()
    pickle.loads(bomb)
    assert proof.exists()  # had it been unpickled, it would have shown


def test_paths_that_are_not_files(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "empty.pth").touch()
    (tmp_path / "empty.safetensors").touch()
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    for path in (*tmp_path.iterdir(), tmp_path / "absent.pth", tmp_path / ("x" * 300 + ".pth")):
        assert not check(path)
    assert not check(tmp_path / "w.npz")
