"""Folders of image files, and sets that are streamed rather than decoded."""

import io
import pickle
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from rkd_core.datasets.streamed_set import (
    CROP_AREA,
    StreamedImageSet,
    random_resized_crop_box,
)
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    NAMES,
    encode,
    image_folder,
    make_unreadable,
    parquet_folder,
    settle,
    tiny_imagenet,
)


@pytest.mark.parametrize("second", ["val", "valid", "validation", "test"])
def test_image_folder_is_read_in_torchvisions_order(tmp_path, load, second):
    torchvision = pytest.importorskip("torchvision")
    root = tmp_path / "a"
    image_folder(root, second=second)
    (root / "train" / "dog" / "deeper").mkdir()
    (root / "train" / "dog" / "deeper" / "0.PNG").write_bytes(encode(np.zeros((8, 8, 3), np.uint8)))
    (root / "train" / "dog" / "notes.txt").write_text("not an image")
    dataset = load(root)
    theirs = torchvision.datasets.ImageFolder(str(root / "train"))
    assert dataset.class_names == tuple(theirs.classes) == NAMES
    assert dataset.train.labels.tolist() == theirs.targets
    expected = np.stack([np.asarray(image) for image, _ in theirs])
    np.testing.assert_array_equal(dataset.train.images, expected)


def test_image_folder_fingerprint_is_of_the_content(tmp_path, load):
    image_folder(tmp_path / "a")
    image_folder(tmp_path / "b", second="test")
    first = load(tmp_path / "a").fingerprint
    assert load(tmp_path / "b").fingerprint == first
    path = tmp_path / "b" / "train" / "cat" / "000.png"
    path.write_bytes(encode(np.zeros((8, 8, 3), np.uint8)))
    assert load(tmp_path / "b").fingerprint != first


def test_mixed_sizes_need_an_image_size(tmp_path, load):
    image_folder(tmp_path / "a", sizes=((8, 8), (12, 9)))
    with pytest.raises(UserError, match=r"000\.png is 8 x 8, .*001\.png is 12 x 9; give `image_"):
        load(tmp_path / "a")
    assert load(tmp_path / "a", DataOptions(image_size=6)).train.shape == (6, 6, 3)


def test_bad_folders(tmp_path, load):
    with pytest.raises(UserError, match=r"unknown dataset .*cifar10"):
        load("cifr10")
    with pytest.raises(UserError, match="or a folder"):
        load(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is empty"):
        load(tmp_path / "empty")
    image_folder(tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "train")
    with pytest.raises(UserError, match="no training split"):
        load(tmp_path / "b")


def test_a_training_folder_alone_is_split_by_class(tmp_path, load):
    image_folder(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "val")
    (tmp_path / "a" / "tset" / "dog").mkdir(parents=True)
    shutil.copy(next((tmp_path / "a" / "train" / "dog").iterdir()), tmp_path / "a" / "tset" / "dog")
    data = load(tmp_path / "a")
    assert data.origins == dict.fromkeys(("train", "val", "test"), "part of train")
    assert data.provenance.remarks[0] == "not used: tset"
    assert all((data.class_counts(split) > 0).all() for split in ("train", "val", "test"))


def test_bad_classes(tmp_path, load, caplog):
    image_folder(tmp_path / "a")
    (tmp_path / "a" / "val" / "dog").rename(tmp_path / "a" / "val" / "wolf")
    with pytest.raises(UserError, match=r"wolf is a class that .*train does not have"):
        load(tmp_path / "a")
    image_folder(tmp_path / "b")
    for path in (tmp_path / "b" / "train" / "dog").iterdir():
        path.unlink()
    with pytest.raises(
        UserError, match=r"train/dog holds no file with the extension of an image: \.jpg"
    ):
        load(tmp_path / "b")
    image_folder(tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "val" / "dog")
    load(tmp_path / "c")
    assert "dog) has no image in" in caplog.text


def test_names_in_other_spellings(tmp_path, load):
    for name, meant in (("CIFAR10", "cifar10"), ("CIFAR-10", "cifar10"), ("Digits", "digits")):
        with pytest.raises(UserError, match=f"unknown dataset '{name}': did you mean {meant}"):
            load(name)
    with pytest.raises(UserError, match="unknown dataset ''"):
        load("")


def test_files_splits_and_overlong_paths_are_no_folders(tmp_path, load):
    image_folder(tmp_path / "a")
    with pytest.raises(UserError, match=r"000\.png is a file: give the folder of a dataset"):
        load(tmp_path / "a" / "val" / "cat" / "000.png")
    for split in ("train", "val"):
        with pytest.raises(UserError, match=rf"{split} is one split .* folder above, .*a$"):
            load(tmp_path / "a" / split)
    for path in ("x" * 300, tmp_path / ("x" * 300), tmp_path / "/".join(["x" * 100] * 50)):
        with pytest.raises(UserError, match=r"cannot be read: File name too long$"):
            load(path)


@pytest.mark.parametrize("part", ["", "train", "train/dog", "val/owl"])
def test_an_unreadable_folder_is_named(tmp_path, load, monkeypatch, part):
    image_folder(tmp_path / "a")
    make_unreadable(monkeypatch, tmp_path / "a" / part)
    where = str(tmp_path / "a" / part).rstrip("/")
    with pytest.raises(UserError, match=f"^{where} cannot be read: Permission denied$"):
        load(tmp_path / "a")


def test_splits_and_classes_may_be_links_to_one_another(tmp_path, load):
    image_folder(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "val")
    (tmp_path / "a" / "val").symlink_to("train")
    (tmp_path / "a" / "train" / "wolf").symlink_to("dog")
    dataset = load(tmp_path / "a")
    assert dataset.class_counts("train").tolist() == [4, 4, 4, 4]
    assert len(dataset.val) + len(dataset.test) == 16


def test_a_link_to_a_folder_above_ends_there(tmp_path, load):
    image_folder(tmp_path / "a")
    expected = load(tmp_path / "a").fingerprint
    (tmp_path / "a" / "train" / "cat" / "loop").symlink_to(tmp_path / "a" / "train")
    (tmp_path / "a" / "train" / "dog" / "self").symlink_to(".")
    assert load(tmp_path / "a").fingerprint == expected


def test_a_link_to_nowhere_is_named_or_skipped(tmp_path, load):
    image_folder(tmp_path / "a")
    (tmp_path / "a" / "train" / "dog" / "notes.txt").symlink_to("nowhere")
    path = tmp_path / "a" / "train" / "dog" / "link.png"
    path.symlink_to("nowhere")
    for options in ({}, {"decode_limit": 0}):
        dataset = load(tmp_path / "a", skip_bad_images=True, **options)
        assert (dataset.skipped_images, len(dataset.train)) == (1, 12)
    with pytest.raises(UserError, match=r"dog/link\.png cannot be decoded: it is empty or missing"):
        load(tmp_path / "a")
    path.unlink()
    (tmp_path / "a" / "train" / "wolf").symlink_to("nowhere")
    with pytest.raises(UserError, match="train/wolf is a broken link"):
        load(tmp_path / "a")


def test_an_empty_file_is_said_to_be_empty(tmp_path, load):
    image_folder(tmp_path / "a")
    (tmp_path / "a" / "val" / "dog" / "000.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"dog/000\.png cannot be decoded: it is empty"):
        load(tmp_path / "a")


def test_a_test_folder_without_labels_gives_way_to_validation(tmp_path, load, caplog):
    caplog.set_level("INFO")
    image_folder(tmp_path / "a")
    unlabelled = tmp_path / "a" / "test" / "images"
    unlabelled.mkdir(parents=True)
    shutil.copy(tmp_path / "a" / "val" / "cat" / "000.png", unlabelled)
    dataset = load(tmp_path / "a")
    assert len(dataset.val) + len(dataset.test) == 9
    assert "the original test set is its split val" in caplog.text
    shutil.rmtree(tmp_path / "a" / "val")
    with pytest.raises(UserError, match="test/images is a class that"):
        load(tmp_path / "a")
    unlabelled.rename(tmp_path / "a" / "test" / "cat")
    (tmp_path / "a" / "test" / "cat" / "000.png").rename(tmp_path / "a" / "test" / "000.png")
    with pytest.raises(UserError, match="test/<class> holds no file with the extension"):
        load(tmp_path / "a")


def test_one_skipped_image_is_singular(tmp_path, load, caplog):
    image_folder(tmp_path / "a")
    (tmp_path / "a" / "train" / "dog" / "002.png").write_bytes(b"no")
    load(tmp_path / "a", skip_bad_images=True)
    assert "a: 1 undecodable image skipped" in caplog.text


def test_an_undecodable_file_is_named_or_skipped(tmp_path, load):
    image_folder(tmp_path / "a")
    (tmp_path / "a" / "train" / "dog" / "002.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"dog/002\.png cannot be decoded"):
        load(tmp_path / "a")
    dataset = load(tmp_path / "a", skip_bad_images=True)
    assert dataset.class_counts("train").tolist() == [4, 3, 4]
    assert 6 not in dataset.train_indices
    assert dataset.train_indices.max() == 11


@pytest.mark.parametrize("folder", ["tiny-imagenet-200", "tiny-imagenet", "tiny_imagenet"])
def test_tiny_imagenets_own_layout(tmp_path, load, folder):
    wnids = tiny_imagenet(tmp_path / folder)
    dataset = load("tiny-imagenet", data_dir=tmp_path)
    assert dataset.class_names == wnids
    assert dataset.class_counts("train").tolist() == [4, 4, 4]
    total = dataset.class_counts("val") + dataset.class_counts("test")
    assert total.tolist() == [2, 2, 2]
    assert dataset.image_size == (64, 64)
    first = Image.open(tmp_path / folder / "train" / wnids[0] / "images" / f"{wnids[0]}_0.JPEG")
    np.testing.assert_array_equal(dataset.train.images[0], np.asarray(first))


def test_tiny_imagenets_annotations_must_match(tmp_path, load):
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    path = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text("val_0.JPEG\tn00000000\t0\t0\t1\t1\n")
    with pytest.raises(UserError, match=r"val_annotations\.txt line 1"):
        load("tiny-imagenet", data_dir=tmp_path)


def test_imagenet_by_name_and_its_long_tail(tmp_path, load):
    image_folder(tmp_path / "imagenet", train=20)
    dataset = load("imagenet-lt", DataOptions(imbalance=4), data_dir=tmp_path)
    assert dataset.name == "imagenet-lt"
    assert dataset.class_counts("train").tolist() == [20, 10, 5]


STREAMED = {"decode_limit": 0}


@pytest.mark.parametrize("layout", [image_folder, parquet_folder])
def test_too_large_sets_are_streamed(tmp_path, load, layout):
    layout(tmp_path / "a")
    whole = load(tmp_path / "a")
    for _ in range(2):  # built, then found
        streamed = load(tmp_path / "a", DataOptions(image_size=8), **STREAMED)
        assert isinstance(streamed.train, StreamedImageSet)
        assert streamed.nbytes == 0
        assert streamed.train.shape == (8, 8, 3)
        for split in ("train", "val", "test"):
            ours, theirs = getattr(streamed, split), getattr(whole, split)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
            for i, pixels in enumerate(theirs.images):
                resized = Image.fromarray(pixels).resize((9, 9), Image.Resampling.BILINEAR)
                expected = np.asarray(resized.crop((0, 0, 8, 8)))  # round(0.5) is 0
                np.testing.assert_array_equal(ours.evaluation_view(i), expected)
    assert load(tmp_path / "a", **STREAMED).image_size == (224, 224)


def test_a_subset_of_the_classes_of_a_streamed_set(tmp_path, load):
    image_folder(tmp_path / "a")
    options = DataOptions(image_size=8, classes=2)
    whole, some = load(tmp_path / "a", options), load(tmp_path / "a", options, **STREAMED)
    assert whole.classes == some.classes == 2
    assert set(some.class_names) < set(NAMES)
    for split in ("train", "val", "test"):
        ours, theirs = getattr(some, split), getattr(whole, split)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        for row, label in zip(ours.rows, ours.labels, strict=True):
            assert f"/{some.class_names[label]}/" in ours.source.describe(row)


def test_a_streamed_parquet_set_has_the_fingerprint_of_the_decoded_one(tmp_path, load):
    parquet_folder(tmp_path / "a")
    assert load(tmp_path / "a").fingerprint == load(tmp_path / "a", **STREAMED).fingerprint


def test_a_streamed_folder_is_known_by_names_and_sizes(tmp_path, load):
    image_folder(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = load(tmp_path / "a", **STREAMED).fingerprint
    assert load(tmp_path / "b", **STREAMED).fingerprint == first
    with (tmp_path / "b" / "train" / "cat" / "000.png").open("ab") as file:
        file.write(b"more")
    assert load(tmp_path / "b", **STREAMED).fingerprint != first


@pytest.mark.parametrize("layout", [image_folder, parquet_folder])
def test_streamed_sets_skip_undecodable_images(tmp_path, load, layout):
    if layout is image_folder:
        image_folder(tmp_path / "a", sizes=((32, 32),))
        path = tmp_path / "a" / "train" / "cat" / "001.png"
        path.write_bytes(path.read_bytes()[:500])
    else:
        import pyarrow.parquet as pq

        from tests.rkd_core.datasets.on_disk import cycling_labels, write_parquet

        parquet_folder(tmp_path / "a", size=32)
        rows = pq.read_table(tmp_path / "a" / "train.parquet").to_pylist()
        encoded = [row["img"]["bytes"] for row in rows]
        encoded[1] = encoded[1][:500]
        write_parquet(tmp_path / "a" / "train.parquet", encoded, cycling_labels(12))
    settle(tmp_path / "a")
    for _ in range(2):
        dataset = load(tmp_path / "a", skip_bad_images=True, **STREAMED)
        assert dataset.skipped_images == 1
        assert dataset.train_indices.tolist() == [0, *range(2, 12)]
        for i in range(11):
            dataset.train.evaluation_view(i)
    with pytest.raises(UserError, match=r"(001\.png|row 1) cannot be decoded"):
        load(tmp_path / "a", **STREAMED)  # PNG files are decoded to tell transparency


def test_grey_streams_have_one_channel(tmp_path, load):
    image_folder(tmp_path / "a")
    for path in (tmp_path / "a").rglob("*.png"):
        path.write_bytes(encode(np.array(Image.open(path).convert("L"))))
    assert load(tmp_path / "a", **STREAMED).channels == 1


def test_streamed_sets_can_be_pickled_and_subset(tmp_path, load):
    parquet_folder(tmp_path / "a")
    train = load(tmp_path / "a", DataOptions(image_size=8), **STREAMED).train
    copy = pickle.loads(pickle.dumps(train)).subset(np.array([3, 1]))
    assert copy.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(copy.evaluation_view(0), train.evaluation_view(3))


def test_training_views_depend_on_seed_epoch_and_index_alone(tmp_path, load):
    image_folder(tmp_path / "a", sizes=((40, 30),))
    train = load(tmp_path / "a", DataOptions(image_size=16), **STREAMED).train

    def view(seed=0, epoch=0, index=0, crop=CROP_AREA, flip=True):
        return train.training_view(index, seed, epoch, crop=crop, flip=flip).tobytes()

    first = view()
    np.random.seed(5)
    assert view() == first
    assert len({first, view(seed=1), view(epoch=1), view(index=1)}) == 4
    plain = train.evaluation_view(0)
    seen = {view(epoch=e, crop=None) for e in range(20)}
    assert seen == {plain.tobytes(), plain[:, ::-1].tobytes()}
    assert view(crop=None, flip=False) == plain.tobytes()


def test_evaluation_view_is_torchvisions_resize_and_center_crop(tmp_path, load):
    transforms = pytest.importorskip("torchvision.transforms")
    image_folder(tmp_path / "a", sizes=((41, 30), (30, 53)))
    train = load(tmp_path / "a", DataOptions(image_size=14), **STREAMED).train
    theirs = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(14)])
    for i in range(4):
        image = Image.open(io.BytesIO(train.source.read(i)))
        np.testing.assert_array_equal(train.evaluation_view(i), np.asarray(theirs(image)))


def test_random_resized_crops_are_distributed_like_torchvisions():
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    rng, size = np.random.RandomState(0), (60, 40)
    ours = np.array([random_resized_crop_box(*size, rng, CROP_AREA) for _ in range(3000)])
    assert (ours >= 0).all()
    assert (ours[:, 2] <= 60).all()
    assert (ours[:, 3] <= 40).all()
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(0)
        blank = torch.zeros(3, 40, 60)
        draw = transforms.RandomResizedCrop.get_params
        theirs = np.array(
            [draw(blank, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)) for _ in range(3000)]
        )
    top, left, height, width = theirs.T
    theirs = np.stack([left, top, left + width, top + height], axis=1)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=1.0)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), atol=1.0)


def test_an_extreme_shape_falls_back_to_the_middle():
    box = random_resized_crop_box(400, 2, np.random.RandomState(0), CROP_AREA)
    assert box == (198, 0, 201, 2)
