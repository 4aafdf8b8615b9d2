"""Arrays, tensors, map-style datasets and datasets of Hugging Face as data."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions

LABELS = np.repeat([0, 1, 2], 6)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (18, 5, 4, 3), dtype=np.uint8)


class MapStyle:
    """A dataset of torch.utils.data, without its base class."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], self.labels[row]


def load(data, **options):
    return datasets.from_data(data, DataOptions(**options), name="mine")


def same(one, other):
    for split in ("train", "val", "test"):
        a, b = getattr(one, split), getattr(other, split)
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert one.fingerprint == other.fingerprint


def test_two_sets_as_arrays(pixels):
    found = load((pixels, LABELS, pixels[::-1], LABELS[::-1]))
    np.testing.assert_array_equal(found.train.images, pixels)
    assert found.name == "mine"
    assert found.class_names == ("0", "1", "2")
    assert len(found.val) == len(found.test) == 9
    assert found.origins == {"train": "train", "val": "half of test", "test": "half of test"}


def test_three_sets_stay_as_they_are(pixels):
    found = load((pixels, LABELS, pixels[:12], LABELS[:12], pixels[6:], LABELS[6:]))
    np.testing.assert_array_equal(found.val.images, pixels[:12])
    np.testing.assert_array_equal(found.test.images, pixels[6:])
    assert found.origins == {"train": "train", "val": "val", "test": "test"}


def test_every_form_gives_the_same_data(pixels):
    expected = load((pixels, LABELS, pixels, LABELS))
    tensors = torch.from_numpy(pixels), torch.from_numpy(LABELS)
    same(load((*tensors, *tensors)), expected)
    same(load({"train": (pixels, LABELS.tolist()), "test": tensors}), expected)
    floats = pixels / np.float32(255)
    same(load((floats, LABELS, floats.astype(np.float64), LABELS)), expected)
    as_images = MapStyle([Image.fromarray(one) for one in pixels], LABELS)
    same(load({"training": as_images, "test": as_images}), expected)
    as_tensors = MapStyle(torch.from_numpy(floats).permute(0, 3, 1, 2), tensors[1])
    same(load((as_tensors, MapStyle(pixels, LABELS))), expected)


def test_training_and_validation_alone_halve_validation(pixels):
    found = load({"train": (pixels, LABELS), "valid": (pixels, LABELS)})
    assert found.origins["test"] == "half of val"
    assert len(found.val) == len(found.test) == 9


def test_a_training_set_alone_is_split_by_class(pixels):
    found = load((pixels, LABELS), val_fraction=0.34, test_fraction=0.17)
    for split, counts in {"train": 3, "val": 2, "test": 1}.items():
        assert found.class_counts(split).tolist() == [counts] * 3
    rows = np.concatenate([found.train_indices, found.val_indices, found.test_indices])
    assert sorted(rows.tolist()) == list(range(18))
    np.testing.assert_array_equal(found.test.images, pixels[found.test_indices])
    assert "34% are set aside for validation" in found.provenance.remarks[-1]
    assert load((pixels, LABELS), split_seed=1).val_indices.tolist() != found.val_indices.tolist()


def test_the_long_tail_is_cut_after_the_split(pixels):
    found = load((pixels, LABELS), imbalance=4)
    assert found.class_counts("train").tolist() == [4, 2, 1]
    assert found.class_counts("val").tolist() == [1, 1, 1]


def test_text_labels_and_names(pixels):
    words = np.array(["cat", "dog", "ant"])[LABELS]
    found = load((pixels, words, pixels, words))
    assert found.class_names == ("ant", "cat", "dog")
    assert found.train.labels[0] == 1
    named = datasets.from_data((pixels, LABELS, pixels, LABELS), class_names=["x", "y", "z"])
    assert named.class_names == ("x", "y", "z")
    torchvision_style = MapStyle(pixels, LABELS)
    torchvision_style.classes = ["u", "v", "w"]
    assert load((torchvision_style, torchvision_style)).class_names == ("u", "v", "w")


def test_images_of_different_sizes_are_resized(pixels):
    mixed = MapStyle([pixels[0], *(p[:4] for p in pixels[1:])], LABELS)
    with pytest.raises(UserError, match="images differ in size"):
        load((mixed, mixed))
    assert load((mixed, mixed), image_size=4).image_size == (4, 4)


def test_images_with_alpha_are_composed_over_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    data = MapStyle([clear, Image.new("RGB", (4, 4), (9, 9, 9))] * 4, [0, 1] * 4)
    assert load((data, data)).train.images[0].min() == 255


class Random(MapStyle):
    def __getitem__(self, row):
        return np.random.default_rng().integers(0, 256, (4, 4, 3), dtype=np.uint8), row % 2


BAD = {
    "one label less": (lambda x, y: (x, y[1:], x, y), "18 images and labels of shape"),
    "one-hot labels": (lambda x, y: (x, np.eye(3)[y], x, y), "argmax"),
    "floats up to 255": (lambda x, y: (x.astype(float), y, x, y), "floats in"),
    "normalized floats": (lambda x, y: (x / 255 - 0.5, y, x, y), "not normalized"),
    "NaN": (lambda x, y: (np.where(x > 0, x / 255, np.nan), y, x, y), "not finite"),
    "16 bits": (lambda x, y: (x.astype(np.int32) * 200, y, x, y), "uint8 from 0 to 255"),
    "channels first": (lambda x, y: (np.moveaxis(x, -1, 1), y, x, y), "moveaxis"),
    "four channels": (lambda x, y: (x[..., [0, 0, 0, 0]], y, x, y), "1 or 3 channels"),
    "a generator": (lambda x, y: {"train": iter(x), "test": (x, y)}, "cannot be read twice"),
    "changing items": (lambda x, y: {"train": Random(x, y), "test": (x, y)}, "read again"),
    "no training set": (lambda x, y: {"test": (x, y)}, "no training split"),
    "another split": (lambda x, y: {"train": (x, y), "extra": (x, y)}, "'extra' is not a split"),
    "a split twice": (lambda x, y: {"train": (x, y), "val": (x, y), "dev": (x, y)}, "second val"),
    "three parts": (lambda x, y: (x, y, x), "has 3 parts"),
    "float labels": (lambda x, y: (x, y / 2, x, y), "labels are float64"),
    "a gap": (lambda x, y: (x, y * 2, x, y), "no training image"),
    "an unknown class": (
        lambda x, y: (x, y.astype(str), x, (y + 1).astype(str)),
        "'3' is not one of the training classes",
    ),
    "no images": (lambda x, y: (x[:0], y[:0], x, y), "the training split is empty"),
    "one class": (lambda x, y: (x, y * 0, x, y * 0), "there is one class"),
    "objects": (lambda x, y: {"train": MapStyle([None] * 18, y)}, "is a NoneType"),
    "three per item": (lambda x, y: {"train": [(1, 2, 3)] * 4}, "items are \\(image, label\\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_are_refused_by_name(pixels, kind):
    make, message = BAD[kind]
    with pytest.raises(UserError, match=message) as refused:
        load(make(pixels, LABELS))
    assert "\n" not in str(refused.value)


def test_fractions_are_for_a_training_set_alone(pixels):
    with pytest.raises(UserError, match="`val_fraction` is for data with a training set only"):
        load((pixels, LABELS, pixels, LABELS), val_fraction=0.3)
    with pytest.raises(UserError, match="leave no training images"):
        load((pixels, LABELS), val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(UserError, match="split by class"):
        load((pixels, LABELS), stratified=True)
    with pytest.raises(UserError, match="no class has 3 images"):
        load((pixels[::6][[0, 0, 1, 1]], [0, 0, 1, 1]))


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def hub_dataset(pixels):
    library = pytest.importorskip("datasets", reason="the datasets library is not installed")
    features = library.Features(
        {
            "picture": library.Image(),
            "kind": library.ClassLabel(names=["ant", "cat", "dog"]),
            "id": library.Value("int64"),
        }
    )
    rows = {"picture": [{"bytes": png(p), "path": None} for p in pixels], "kind": LABELS.tolist()}
    one = library.Dataset.from_dict(rows | {"id": list(range(18))}, features=features)
    return library.DatasetDict({"train": one, "test": one})


def test_a_dataset_of_hugging_face(hub_dataset, pixels, tmp_path):
    found = load(hub_dataset)
    assert found.class_names == ("ant", "cat", "dog")
    np.testing.assert_array_equal(found.train.images, pixels)
    hub_dataset.save_to_disk(tmp_path / "saved")
    again = datasets.load(str(tmp_path / "saved"), DataOptions(), cache_dir=tmp_path / "cache")
    same(again, found)
    for split, table in hub_dataset.items():  # the same content and order as Parquet
        (tmp_path / "parquet").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "parquet" / f"{split}.parquet")
    columns = datasets.Columns(label="kind", image="picture")
    parquet = datasets.load(
        str(tmp_path / "parquet"), DataOptions(), columns=columns, cache_dir=tmp_path / "cache"
    )
    same(parquet, found)
    folder = tmp_path / "folder"
    for split in ("train", "test"):
        for row, (image, label) in enumerate(zip(pixels, LABELS, strict=True)):
            place = folder / split / ("ant", "cat", "dog")[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row:02}.png").write_bytes(png(image))
    same(datasets.load(str(folder), DataOptions(), cache_dir=tmp_path / "cache"), found)


def test_columns_of_a_dataset_of_hugging_face(hub_dataset):
    train = hub_dataset["train"]
    two = train.add_column("second", train["id"]).cast_column("second", train.features["kind"])
    with pytest.raises(UserError, match="split has 2 columns of class labels, kind and second"):
        load({"train": two, "test": two})
    columns = datasets.Columns(label="kind")
    found = datasets.from_data({"train": two, "test": two}, columns=columns)
    assert found.classes == 3
    with pytest.raises(UserError, match="no image column"):
        load({"train": train.remove_columns("picture"), "test": train})
    with pytest.raises(UserError, match="'id' holds int64, not the bytes of images"):
        datasets.from_data(hub_dataset, columns=datasets.Columns(image="id"))


def test_an_unknown_name_of_the_hub(monkeypatch, tmp_path):
    pytest.importorskip("datasets", reason="the datasets library is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="hf:nobody/nothing cannot be loaded"):
        datasets.load("hf:nobody/nothing", DataOptions(), cache_dir=tmp_path)
    with pytest.raises(UserError, match="give hf:NAME"):
        datasets.load("hf:", DataOptions(), cache_dir=tmp_path)


def test_a_function_in_a_file(tmp_path, monkeypatch, pixels):
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (18, 5, 4, 3), dtype=np.uint8)\n"
        "labels = np.repeat([0, 1, 2], 6)\n"
        "def make():\n    return pixels, labels, pixels, labels\n"
        "def fail():\n    return open('/nowhere')\n"
        "nothing = 3\n"
    )
    found = datasets.load(f"{tmp_path}/mine.py:make", DataOptions(), cache_dir=tmp_path / "cache")
    assert found.name == "make"
    same(found, load((pixels, LABELS, pixels, LABELS)))
    with pytest.raises(UserError, match=r"mine.py line 7: FileNotFoundError"):
        datasets.load(f"{tmp_path}/mine.py:fail", DataOptions(), cache_dir=tmp_path / "cache")
    with pytest.raises(UserError, match="data of type int cannot be read twice"):
        datasets.load(f"{tmp_path}/mine.py:nothing", DataOptions(), cache_dir=tmp_path / "cache")
