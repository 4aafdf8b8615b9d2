"""Columns of image Parquet: types that are read, and the choice among several."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rkd_core.datasets.readers.parquet_columns import Columns
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    NAMES,
    check_train,
    cycling_labels,
    encode,
    image_folder,
    random_images,
    settle,
)

ENCODED = [encode(image) for image in random_images(6)]
STRUCTS = [{"bytes": image, "path": "x.png"} for image in ENCODED]
TEXTS = [("cat", "dog", "owl")[label] for label in cycling_labels(6)]


def write_table(root, columns, features=None):
    """Write the same table as training and as test split."""
    table = pa.table(columns)
    if features:
        described = {
            name: {"_type": "Image"} if names is None else {"_type": "ClassLabel", "names": names}
            for name, names in features.items()
        }
        info = json.dumps({"info": {"features": described}})
        table = table.replace_schema_metadata({"huggingface": info})
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        pq.write_table(table, root / f"{split}.parquet")
    settle(root)


def struct_of(kind):
    return pa.array(STRUCTS, pa.struct([("bytes", kind), ("path", pa.string_view())]))


@pytest.mark.parametrize(
    "images",
    [
        pa.array(ENCODED, pa.binary_view()),
        pa.array(ENCODED, pa.large_binary()),
        pa.array(ENCODED).dictionary_encode(),
        struct_of(pa.binary_view()),
        struct_of(pa.large_binary()),
        struct_of(pa.binary()),
    ],
    ids=lambda array: str(array.type),
)
def test_images_of_any_binary_type(tmp_path, load, images):
    write_table(tmp_path / "a", {"image": images, "label": cycling_labels(6)})
    for limit in ({}, {"decode_limit": 0}):
        dataset = load(tmp_path / "a", DataOptions(image_size=8), **limit)
        assert len(dataset.train) == 6
    check_train(load(tmp_path / "a"), random_images(6), cycling_labels(6))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        *((pa.array(cycling_labels(6), kind), "012") for kind in (pa.int8(), pa.uint16())),
        (pa.array(cycling_labels(6)).dictionary_encode(), "012"),
        (pa.array(TEXTS), NAMES),
        (pa.array(TEXTS, pa.large_string()), NAMES),
        (pa.array(TEXTS, pa.string_view()), NAMES),
        (pa.array(TEXTS).dictionary_encode(), NAMES),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_labels_of_any_type_that_counts_or_names(tmp_path, load, labels, names):
    write_table(tmp_path / "a", {"image": ENCODED, "label": labels})
    dataset = load(tmp_path / "a")
    assert dataset.class_names == tuple(names)
    assert dataset.train.labels.tolist() == cycling_labels(6)


def test_labels_that_are_true_or_false(tmp_path, load):
    write_table(tmp_path / "a", {"image": ENCODED, "label": [True, False, True] * 2})
    assert load(tmp_path / "a").train.labels.tolist() == [1, 0, 1] * 2


def test_text_of_a_class_without_training_image(tmp_path, load):
    write_table(tmp_path / "a", {"image": ENCODED, "label": TEXTS})
    table = pa.table({"image": ENCODED, "label": [*TEXTS[:5], "emu"]})
    pq.write_table(table, tmp_path / "a" / "test.parquet")
    with pytest.raises(UserError, match=r"test\.parquet: label 'emu' in 'label' is none of .*cat"):
        load(tmp_path / "a")


@pytest.mark.parametrize("blank", ["", "  "])
def test_empty_text_is_no_label(tmp_path, load, blank):
    write_table(tmp_path / "a", {"image": ENCODED, "label": [*TEXTS[:5], blank]})
    with pytest.raises(UserError, match=r"the class name ' *' is empty: are labels missing"):
        load(tmp_path / "a")


def test_classes_that_differ_in_case_or_spaces_are_a_warning(tmp_path, load, caplog):
    write_table(tmp_path / "a", {"image": ENCODED, "label": ["cat", "Cat ", "dog"] * 2})
    assert load(tmp_path / "a").class_names == ("Cat ", "cat", "dog")
    assert "the classes 'Cat ' and 'cat' differ in case or spaces only" in caplog.text


def test_two_columns_of_labels_are_named_and_one_is_chosen(tmp_path, load):
    columns = {"image": ENCODED, "breed": cycling_labels(6), "species": [0, 1] * 3}
    features = {"image": None, "breed": list(NAMES), "species": ["pet", "wild"]}
    write_table(tmp_path / "a", columns, features)
    with pytest.raises(UserError, match="2 columns of class labels, breed and species: choose one"):
        load(tmp_path / "a")
    for label, names in (("breed", NAMES), ("species", ("pet", "wild"))):
        assert load(tmp_path / "a", columns=Columns(label=label)).class_names == names
    write_table(tmp_path / "b", columns)
    with pytest.raises(UserError, match=r"no label column .*: name one of these with `columns\."):
        load(tmp_path / "b")
    assert load(tmp_path / "b", columns=Columns(label="species")).classes == 2
    with pytest.raises(UserError, match=r"unknown `columns\.label` 'bred': did you mean breed"):
        load(tmp_path / "b", columns=Columns(label="bred"))


def test_two_columns_of_images_are_named_and_one_is_chosen(tmp_path, load):
    other = [encode(image) for image in random_images(6, seed=5)]
    columns = {"front": ENCODED, "back": other, "label": cycling_labels(6)}
    for name, features in (("a", None), ("b", {"front": None, "back": None})):
        write_table(tmp_path / name, columns, features)
        with pytest.raises(UserError, match=r"2 columns of images, front and back: .*`columns\.im"):
            load(tmp_path / name)
        dataset = load(tmp_path / name, columns=Columns(image="back"))
        check_train(dataset, random_images(6, seed=5), cycling_labels(6))
        assert load(tmp_path / name, columns=Columns(image="front")).fingerprint != (
            dataset.fingerprint
        )
    with pytest.raises(UserError, match="column 'label' holds int64, not the bytes of images"):
        load(tmp_path / "a", columns=Columns(image="label"))


def test_a_column_that_might_be_meant_is_mentioned(tmp_path, load):
    columns = {"image": ENCODED, "label": cycling_labels(6), "breed": [0, 1] * 3}
    write_table(tmp_path / "a", columns, {"label": list(NAMES), "breed": ["x", "y"]})
    remark = "labels: column 'label'; there is 'breed', too (`columns.label`)"
    assert load(tmp_path / "a").provenance.remarks == (remark,)
    assert load(tmp_path / "a", columns=Columns(label="label")).provenance.remarks == ()


@pytest.mark.parametrize("given", ["digits", "folder"])
def test_columns_are_for_parquet(tmp_path, load, given):
    image_folder(tmp_path / "a")
    with pytest.raises(UserError, match="`columns` are for Parquet"):
        load("digits" if given == "digits" else tmp_path / "a", columns=Columns(label="x"))
