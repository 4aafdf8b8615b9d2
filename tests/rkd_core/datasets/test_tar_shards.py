"""Tar shards as WebDataset writes them."""

import io
import json
import pickle
import shutil
import tarfile

import numpy as np
import pytest

from rkd_core.datasets import ImageSet, StreamedImageSet
from rkd_core.datasets.batches.batches import TrainingBatches
from rkd_core.datasets.batches.order import buffered_order
from rkd_core.datasets.load import load as load_data
from rkd_core.datasets.readers.parquet_columns import Columns
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions, Recipe
from tests.rkd_core.datasets.on_disk import NAMES, cycling_labels, encode, random_images, settle

STREAMED = {"decode_limit": 0}
SIZED = DataOptions(image_size=8)


def samples(count, seed, label="cls"):
    """Members of ``count`` samples: ``[(name, content), ...]`` for each."""
    found = []
    images, labels = random_images(count, seed=seed), cycling_labels(count)
    for row, (image, number) in enumerate(zip(images, labels, strict=True)):
        text = {"cls": NAMES[number], "number": str(number)}.get(label)
        if text is not None:
            second = ("cls", text.encode())
        else:
            second = ("json", json.dumps({label: NAMES[number], "width": 8}).encode())
        found.append([(f"{row:04d}.png", encode(image)), (f"{row:04d}.{second[0]}", second[1])])
    return found


def write_tar(path, groups, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in (member for group in groups for member in group):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_shards(root, label="cls", name="{split}-{shard:06d}.tar", **options):
    """Write 12 + 6 + 6 samples, two shards a split."""
    for seed, (split, count) in enumerate({"train": 12, "val": 6, "test": 6}.items()):
        groups = samples(count, seed, label)
        half = count // 2
        for shard, part in enumerate((groups[:half], groups[half:])):
            write_tar(root / name.format(split=split, shard=shard), part, **options)
    settle(root)


@pytest.fixture
def load(tmp_path):
    def call(folder, options=DataOptions(), **keywords):  # noqa: B008
        return load_data(str(folder), options, cache_dir=tmp_path / "cache", **keywords)

    return call


def expected(split):
    seed, count = {"train": (0, 12), "val": (1, 6), "test": (2, 6)}[split]
    return random_images(count, seed=seed), cycling_labels(count)


@pytest.mark.parametrize(
    "name",
    [
        "{split}-{shard:06d}.tar",
        "{split}/{shard:05d}.tar",
        "data/animals-{split}-{shard:04d}.tar",
        "{split}_{shard}.TAR",
    ],
)
@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_names_and_formats_of_shards(tmp_path, load, name, tar_format):
    write_shards(tmp_path / "a", name=name, format=tar_format)
    for _ in range(2):  # built, then found
        dataset = load(tmp_path / "a")
        assert dataset.class_names == NAMES
        assert dataset.origins == {"train": "train", "val": "val", "test": "test"}
        for split in ("train", "val", "test"):
            images, labels = expected(split)
            ours = getattr(dataset, split)
            assert isinstance(ours, ImageSet)
            np.testing.assert_array_equal(ours.images, images)
            assert ours.labels.tolist() == labels


@pytest.mark.parametrize("label", ["number", "label", "species"])
def test_labels_of_shards(tmp_path, load, label):
    write_shards(tmp_path / "a", label)
    columns = Columns(label="species") if label == "species" else Columns()
    dataset = load(tmp_path / "a", columns=columns)
    assert dataset.class_names == (("0", "1", "2") if label == "number" else NAMES)
    assert dataset.train.labels.tolist() == cycling_labels(12)


def test_shards_and_a_folder_in_the_same_order_are_the_same_data(tmp_path, load):
    write_shards(tmp_path / "a")
    for seed, split in enumerate(("train", "val", "test")):
        count = 12 if split == "train" else 6
        groups = sorted(samples(count, seed), key=lambda group: group[1][1])
        write_tar(tmp_path / "b" / f"{split}.tar", groups)
        for (name, content), (_, label) in groups:
            path = tmp_path / "c" / split / label.decode() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    shards, folder = load(tmp_path / "b"), load(tmp_path / "c")
    assert shards.fingerprint == folder.fingerprint
    assert load(tmp_path / "a").fingerprint != folder.fingerprint  # another order


def test_large_shards_are_streamed_in_their_order(tmp_path, load):
    write_shards(tmp_path / "a")
    whole = load(tmp_path / "a")
    for _ in range(2):  # built, then found
        streamed = load(tmp_path / "a", SIZED, **STREAMED)
        assert isinstance(streamed.train, StreamedImageSet)
        assert streamed.train.shards.tolist() == [0] * 6 + [1] * 6
        for split in ("train", "val", "test"):
            ours, theirs = getattr(streamed, split), getattr(whole, split)
            assert ours.labels.tolist() == theirs.labels.tolist()
            again = pickle.loads(pickle.dumps(ours))
            assert again.source.read(3) == ours.source.read(3) == encode(theirs.images[3])
    assert "train-000001.tar 0007.png" in streamed.train.source.describe(7)
    fewer = streamed.train.subset(np.array([1, 5, 6]))
    assert fewer.shards.tolist() == [0, 0, 1]


def test_the_fingerprint_of_streamed_shards_is_that_of_content_and_shards(tmp_path, load):
    write_shards(tmp_path / "a")
    write_shards(tmp_path / "b", name="x-{split}-{shard}.tar", format=tarfile.PAX_FORMAT)
    first = load(tmp_path / "a", SIZED, **STREAMED).fingerprint
    assert load(tmp_path / "b", SIZED, **STREAMED).fingerprint == first
    groups = samples(12, 0)
    shutil.rmtree(tmp_path / "b")
    write_shards(tmp_path / "b")
    write_tar(tmp_path / "b" / "train-000000.tar", groups[:5])
    write_tar(tmp_path / "b" / "train-000001.tar", groups[5:])
    assert load(tmp_path / "b", SIZED, **STREAMED).fingerprint != first  # another order of training
    assert load(tmp_path / "b").fingerprint == load(tmp_path / "a").fingerprint


def test_streamed_shards_without_a_cache(tmp_path, load):
    write_shards(tmp_path / "a")
    (tmp_path / "cache").write_text("no folder")
    streamed = load(tmp_path / "a", SIZED, **STREAMED)
    assert streamed.train.shards.tolist() == [0] * 6 + [1] * 6


def test_the_order_through_a_shuffle_buffer():
    shards = np.repeat(np.arange(20), 50)
    orders = [buffered_order(np.random.RandomState(seed), shards, 100) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    for order in orders:
        assert sorted(order.tolist()) == list(range(1000))
        for step in range(0, 900, 50):  # images of a few shards at a time
            assert len({*shards[order[step : step + 50]]}) <= 12
    assert sorted(buffered_order(np.random.RandomState(0), shards).tolist()) == list(range(1000))


def test_epochs_of_streamed_shards_resume_exactly(tmp_path, load):
    write_shards(tmp_path / "a")
    train = load(tmp_path / "a", SIZED, **STREAMED).train
    recipe = Recipe(epochs=3, batch_size=4, crop_padding=2, flip=True)

    def batches(epoch, first=0, workers=0):
        made = TrainingBatches(train, recipe, seed=3, workers=workers)
        return [(b.images, b.indices.tolist()) for b in made.epoch(epoch, first)]

    whole, rest, parallel = batches(1), batches(1, first=1), batches(1, workers=2)
    assert [indices for _, indices in whole[1:]] == [indices for _, indices in rest]
    assert all((a == b).all() for (a, _), (b, _) in zip(whole[1:], rest, strict=True))
    assert all((a == b).all() for (a, _), (b, _) in zip(whole, parallel, strict=True))
    assert [indices for _, indices in whole] != [indices for _, indices in batches(2)]


def test_validation_shards_without_labels(tmp_path, load):
    write_shards(tmp_path / "a")
    for shard in range(2):
        groups = [group[:1] for group in samples(3, 5)]
        write_tar(tmp_path / "a" / f"test-{shard:06d}.tar", groups)
    assert load(tmp_path / "a").origins["test"] == "half of val"


def test_missing_shards_are_a_warning(tmp_path, load):
    write_shards(tmp_path / "a")
    (tmp_path / "a" / "train-000001.tar").rename(tmp_path / "a" / "train-000003.tar")
    warnings = load(tmp_path / "a").provenance.warnings
    assert any("lack the numbers 1, 2" in line for line in warnings)


def rewrite(path, change):
    groups = samples(6, 0)
    change(groups)
    write_tar(path, groups)


def no_label(groups):
    del groups[2][1]


def no_image(groups):
    del groups[2][0]


def two_images(groups):
    groups[2].append(("0002.jpg", b"x"))


def twice(groups):
    groups[4] = groups[2]


def an_empty_label(groups):
    groups[2][1] = ("0002.cls", b" ")


def a_float(groups):
    groups[2][1] = ("0002.json", b'{"label": 1.5}')


def no_field(groups):
    groups[2][1] = ("0002.json", b'{"width": 1}')


def no_json(groups):
    groups[2][1] = ("0002.json", b"{")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_label, r"train-000000.tar 0002.png has no label"),
        (no_image, r"train-000000.tar 0002 has no image \(it has cls\)"),
        (two_images, r"0002 has 2 images, png, jpg: choose one with `columns.image`"),
        (twice, r"members of 0002 are not next to each other, or it repeats"),
        (an_empty_label, r"0002.cls is empty"),
        (a_float, r"0002.json: label is 1.5; labels are integers or text"),
        (no_field, r"0002.json has no field label or labels .* \(it has width\)"),
        (no_json, r"0002.json cannot be read"),
    ],
)
def test_samples_that_are_refused(tmp_path, load, change, message):
    write_shards(tmp_path / "a")
    rewrite(tmp_path / "a" / "train-000000.tar", change)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a")


def test_one_of_two_images_can_be_chosen(tmp_path, load):
    write_shards(tmp_path / "a")

    def add(groups):
        for row, group in enumerate(groups):
            group.append((f"{row:04d}.seg.png", b"no image"))

    rewrite(tmp_path / "a" / "train-000000.tar", add)
    np.testing.assert_array_equal(load(tmp_path / "a").train.images, expected("train")[0])
    dataset = load(tmp_path / "a", columns=Columns(image=".png"))
    np.testing.assert_array_equal(dataset.train.images, expected("train")[0])
    with pytest.raises(UserError, match="did you mean png"):
        load(tmp_path / "a", columns=Columns(image="pmg"))


def cut(path):
    path.write_bytes(path.read_bytes()[:2000])


def emptied(path):
    path.write_bytes(b"")


def damaged(path):
    content = bytearray(path.read_bytes())
    content[1024:1536] = b"\xff" * 512
    path.write_bytes(bytes(content))


def joined(path):
    path.write_bytes(path.read_bytes() * 2)


def gzipped(path):
    import gzip

    path.write_bytes(gzip.compress(path.read_bytes()))


def renamed(path):
    path.rename(path.with_suffix(".tar.gz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "train-000001.tar is not a whole tar file: unexpected end of data"),
        (emptied, "train-000001.tar is not a whole tar file: empty file"),
        (damaged, r"train-000001.tar is damaged at byte \d+"),
        (joined, r"train-000001.tar is damaged at byte \d+, or has a second archive there"),
        (gzipped, r"train-000001.tar is compressed \(gzip\).*decompress it"),
        (renamed, r"train-000001.tar.gz is compressed.*decompress it"),
    ],
)
def test_files_that_are_refused(tmp_path, load, change, message):
    write_shards(tmp_path / "a")
    change(tmp_path / "a" / "train-000001.tar")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a")


def test_links_are_refused(tmp_path, load):
    write_shards(tmp_path / "a")
    with tarfile.open(tmp_path / "a" / "train-000001.tar", "a") as archive:
        info = tarfile.TarInfo("0009.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match=r"0009.jpg is not a plain file"):
        load(tmp_path / "a")


def test_a_shard_that_changes_while_training(tmp_path, load):
    write_shards(tmp_path / "a")
    train = load(tmp_path / "a", SIZED, **STREAMED).train
    cut(tmp_path / "a" / "train-000001.tar")
    with pytest.raises(UserError, match="shorter than when it was indexed"):
        train.evaluation_view(11)
    (tmp_path / "a" / "train-000001.tar").unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        train.evaluation_view(11)
