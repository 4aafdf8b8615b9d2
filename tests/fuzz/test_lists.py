"""Image lists with arbitrary content: the named images, or one line with the list."""

import shutil

import pytest
from hypothesis import strategies as st

from rkd_core.datasets.readers import image_lists
from tests.fuzz.cases import REFUSED, attempt, edited, edits, fuzz, nasty_text
from tests.rkd_core.datasets.on_disk import image_folder

TRAIN = b"train/cat/000.png 0\ntrain/dog/000.png 1\ntrain/owl/000.png 2\ntrain/owl/001.png 2\n"
TEST = b"val/owl/000.png 2\nval/cat/000.png 0\n"


@pytest.fixture(name="folder", scope="module")
def some_images(tmp_path_factory):
    root = tmp_path_factory.mktemp("listed") / "images"
    image_folder(root)
    shutil.copy(root / "train/cat/000.png", root / "train/cat/a b.png")
    return root


def read(folder, train, test):
    """Check that a source is whole: distinct existing files within the folder, labels in range."""
    paths = folder.parent / "a_train.txt", folder.parent / "a_test.txt"
    for path, content in zip(paths, (train, test), strict=True):
        path.write_bytes(content)
    location = attempt(lambda: image_lists.locate(folder, image_lists.ImageLists(*paths)), *paths)
    if location is REFUSED:
        return location
    source, classes = location.read(), len(location.read().class_names)
    seen = set()
    for split, content in ((source.train, train), (source.test, test)):
        lines = [line for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        assert len(split.labels) == len(split.images) == len(lines)
        for file, label in zip(split.images.files, split.labels, strict=True):
            path = (folder / file.path).resolve()
            assert path.is_relative_to(folder.resolve())
            assert path.stat().st_size == file.size
            assert path not in seen
            seen.add(path)
            assert 0 <= label < classes
    assert set(source.train.labels) == set(range(classes))
    return source


@fuzz(700, changes=edits(), of_train=st.booleans())
def test_changed_bytes(folder, changes, of_train):
    train, test = TRAIN, TEST
    if of_train:
        train = edited(TRAIN, changes)
    else:
        test = edited(TEST, changes)
    read(folder, train, test)


paths = st.one_of(
    nasty_text,
    st.sampled_from(["train/cat/a b.png", "./train/cat//a b.png", "train/dog/../cat/a b.png"]),
    st.sampled_from(
        ["train/cat", "..", "/", "~", "train/cat/000.png", "val/owl/000.png", "-", "a "]
    ),
    st.sampled_from(["../images/train/cat/a b.png", "/dev/zero", "train/x/../cat/a b.png"]),
)
labels = st.one_of(
    st.integers(-2, 5).map(str),
    st.sampled_from(["00", "9" * 9, "9" * 10, "9" * 5000, "1e0", "²", "٣", "", "x", "1_0", "+1"]),
    nasty_text,
)


@fuzz(700, path=paths, between=st.sampled_from([" ", "\t", "  ", ",", "\u00a0"]), label=labels)
def test_arbitrary_lines(folder, path, between, label):
    """A further line is read as written or refused by its number."""
    line = f"{path}{between}{label}\n".encode("utf-8", "surrogatepass")
    if line.count(b"\n") > 1 or not (path + between + label).strip():
        return
    train = folder.parent / "a_train.txt"
    train.write_bytes(TRAIN + line)
    (folder.parent / "a_test.txt").write_bytes(TEST)
    read_at = attempt(
        lambda: image_lists.locate(
            folder, image_lists.ImageLists(train, folder.parent / "a_test.txt")
        ),
        *(f"{train} line 5: ", f"{train}: label ", "a_test.txt line 1: val/owl/000.png"),
    )
    if read_at is not REFUSED:
        source = read(folder, TRAIN + line, TEST)
        assert source.train.images.files[-1].path == "train/cat/a b.png"
        assert source.train.labels[-1] == int(label) <= 3
