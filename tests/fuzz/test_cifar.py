"""CIFAR's pickles: arrays and labels as pickled, or one line; never code, never a bomb."""

import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import strategies as st

from rkd_core.datasets.preparation.prepare import Options, prepare_in_memory
from rkd_core.datasets.readers import cifar
from tests.fuzz.cases import REFUSED, attempt, edited, edits, fuzz, nasty
from tests.rkd_core.datasets.on_disk import cifar10_batches, python2_pickle

OPTIONS = Options(None, False, 2**24)
BATCH = "data_batch_2"


@pytest.fixture(name="root")
def two_images_a_batch(tmp_path):
    cifar10_batches(tmp_path, per_batch=2)
    root = tmp_path / "cifar-10-batches-py"
    for number in range(1, 6):  # so that each class has an image
        batch = {"data": pixels(), "labels": [2 * number - 2, 2 * number - 1]}
        (root / f"data_batch_{number}").write_bytes(pickle.dumps(batch, 2))
    return root


def pixels(count=2):
    return np.arange(count * 3072).reshape(count, 3072).astype(np.uint8)


def prepared(root):
    return prepare_in_memory(cifar.read(root), OPTIONS, str(root))


def samples():
    batch = {"data": pixels(), "labels": [2, 3], "filenames": ["a.png", "b.png"]}
    as_bytes = {b"data": pixels(), b"labels": [2, 3]}
    return [python2_pickle(as_bytes), *(pickle.dumps(batch, protocol) for protocol in range(6))]


SAMPLES = samples()


@fuzz(1000, sample=st.sampled_from(range(len(SAMPLES))), changes=edits())
def test_changed_bytes(root, sample, changes):
    (root / BATCH).write_bytes(edited(SAMPLES[sample], changes))
    found = attempt(lambda: prepared(root), root)
    if found is not REFUSED:
        assert found.splits["train"].images.shape == (10, 32, 32, 3)


@fuzz(600, place=st.integers(0, 10**6), payload=st.binary(min_size=1, max_size=6), data=st.data())
def test_changed_instructions(root, place, payload, data):
    """Bytes changed where the pickle's instructions are, not its pixels."""
    sample = SAMPLES[data.draw(st.integers(0, 6))]
    places = [at for _, argument, at in pickletools.genops(sample)]
    at = places[place % len(places)]
    (root / BATCH).write_bytes(sample[:at] + payload + sample[at + len(payload) :])
    attempt(lambda: prepared(root), root)


@fuzz(
    500,
    data=st.one_of(
        st.just(pixels()),
        nasty,
        st.builds(
            np.zeros,
            st.sampled_from([0, 2, (2, 3072), (3, 3072), (0, 3072), (2, 3, 1024), (2, 3071)]),
            st.sampled_from(["u1", "i1", "u2", "f8", "O", "S4", "M8[s]", "?"]),
        ),
    ),
    labels=st.one_of(
        nasty,
        st.lists(st.one_of(st.integers(-2, 11), st.integers(), nasty), min_size=2, max_size=2),
    ),
    extra=nasty,
)
def test_other_contents(root, data, labels, extra):
    try:
        content = pickle.dumps({"data": data, "labels": labels, "more": extra}, 2)
    except UnicodeEncodeError:
        return
    (root / BATCH).write_bytes(content)
    found = attempt(lambda: prepared(root), root)
    if found is not REFUSED:
        assert found.splits["train"].labels[2 : 2 + len(labels)].tolist() == labels


@fuzz(300, names=nasty)
def test_names_of_classes(root, names):
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, 4))
    found = attempt(lambda: prepared(root), root)
    assert found is REFUSED or found.class_names == tuple(names)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02}r" + (2**31 - 1).to_bytes(4, "little") + b".",
        b"\x80\x02}p4000000000\n.",
        b"\x80\x02\x8e" + (2**40).to_bytes(8, "little") + b"x",
        b"\x80\x02cnumpy\nndarray\n(M\x10\x27J\x00\xe1\xf5\x05\x86tR.",
        b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
    ],
)
def test_bombs(root, bomb):
    (root / BATCH).write_bytes(bomb)
    assert attempt(lambda: prepared(root), root / BATCH) is REFUSED
