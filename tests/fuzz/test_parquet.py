"""Image Parquet: the pixels and labels that plain pyarrow and Pillow see, or one line instead."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from PIL import Image

from rkd_core.datasets.preparation.prepare import Options, prepare_in_memory
from rkd_core.datasets.readers import locate
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
from tests.rkd_core.datasets.on_disk import NAMES, encode, random_images, write_parquet

IMAGES = [encode(pixels) for pixels in random_images(7, 4)]
PLAIN = Options(None, False, 2**24)
SKIPPING = Options(None, True, 2**24)
FEATURES = {
    "info": {
        "features": {
            "img": {"_type": "Image"},
            "label": {"names": list(NAMES), "_type": "ClassLabel"},
        }
    }
}


@pytest.fixture(name="folder")
def sound_folder(tmp_path):
    for split in ("train", "test"):
        labels = [0, 1, 2, 0, 1, 2, 0]
        write_parquet(tmp_path / f"{split}.parquet", IMAGES, labels, row_group_size=3)
    return tmp_path


def prepared(folder, options=PLAIN):
    return prepare_in_memory(locate.path(str(folder)).read(), options, str(folder))


def check_against_plain(found, path, image="img", label="label"):
    """Check that the training set is the content of the file if nothing was skipped."""
    table = pq.ParquetFile(path).read()
    if pa.types.is_string(table[image].type):  # which is no image; the other is flattened
        image = f"{image}.bytes"
    assert found.splits["train"].labels.tolist() == table[label].to_pylist()
    for ours, value in zip(found.splits["train"].images, table[image].to_pylist(), strict=True):
        content = value["bytes"] if isinstance(value, dict) else value
        mode = "L" if ours.shape[2] == 1 else "RGB"
        plain = np.asarray(Image.open(io.BytesIO(content)).convert(mode))
        np.testing.assert_array_equal(ours.squeeze(), plain.squeeze())


@fuzz(700, changes=edits(), skip=st.booleans())
def test_changed_bytes(folder, changes, skip):
    path = folder / "train.parquet"
    content = path.read_bytes()
    path.write_bytes(edited(content, changes))
    try:
        found = attempt(lambda: prepared(folder, SKIPPING if skip else PLAIN), folder)
        if found is not REFUSED and not found.skipped["train"]:
            check_against_plain(found, path)
    finally:
        path.write_bytes(content)


# ---- Other tables -----------------------------------------------------------------------------

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
dicts = [{"bytes": image, "path": None} for image in IMAGES]
COLUMNS = {
    "struct of images": pa.array(dicts, STRUCT),
    "large struct of images": pa.array(
        dicts, pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    ),
    "bytes alone of images": pa.array(
        [{"bytes": image} for image in IMAGES], pa.struct([("bytes", pa.binary())])
    ),
    "numbered path of images": pa.array(
        [{"bytes": None, "path": 5} for _ in IMAGES],
        pa.struct([("bytes", pa.binary()), ("path", pa.int64())]),
    ),
    "bytes path of images": pa.array(
        [{"bytes": None, "path": b"x"} for _ in IMAGES],
        pa.struct([("bytes", pa.binary()), ("path", pa.binary())]),
    ),
    "nested of images": pa.array(
        [{"bytes": {"bytes": image}} for image in IMAGES],
        pa.struct([("bytes", pa.struct([("bytes", pa.binary())]))]),
    ),
    "binary of images": pa.array(IMAGES, pa.binary()),
    "large binary of images": pa.array(IMAGES, pa.large_binary()),
    "dictionary of images": pa.array(IMAGES, pa.binary()).dictionary_encode(),
    "view of images": pa.array(IMAGES, pa.binary_view()),
    "some null of images": pa.array([None, *IMAGES[1:]], pa.binary()),
    "struct null of images": pa.array([None, *dicts[1:]], STRUCT),
    "all null of images": pa.array([None] * 7, pa.binary()),
    "null type of images": pa.nulls(7),
    "text of images": pa.array(["x"] * 7),
    "number of images": pa.array(range(7)),
    "list of images": pa.array([[1, 2]] * 7),
    "uuid of images": pa.array([b"0" * 16] * 7, pa.uuid()),
}
LABELS = {
    "int64": pa.array([0, 1, 2, 0, 1, 2, 0]),
    "int8": pa.array([0, 1, 2, 0, 1, 2, 0], pa.int8()),
    "uint64": pa.array([0, 1, 2, 0, 1, 2, 0], pa.uint64()),
    "huge": pa.array([0, 1, 2, 0, 1, 2, 2**64 - 1], pa.uint64()),
    "large": pa.array([0, 1, 2, 0, 1, 2, 2**63 - 1]),
    "far": pa.array([0, 1, 2, 0, 1, 2, 10**9]),
    "negative": pa.array([0, 1, 2, 0, 1, 2, -1]),
    "hidden": pa.array([-1] * 7),
    "lowest": pa.array([-(2**63)] * 7),
    "gap": pa.array([0, 1, 3, 0, 1, 3, 0]),
    "null": pa.array([0, 1, 2, 0, 1, None, 0]),
    "all null": pa.nulls(7),
    "float": pa.array([0.0, 1, 2, 0, 1, 2, 0]),
    "nan": pa.array([float("nan")] * 7),
    "bool": pa.array([True, False, True, False, True, False, True]),
    "dictionary": pa.array([0, 1, 2, 0, 1, 2, 0]).dictionary_encode(),
    "text": pa.array(list("0120120")),
    "list": pa.array([[0]] * 7),
    "one": pa.array([0] * 7),
}
image_names = st.one_of(
    st.just("img"), st.sampled_from(["image", "img.bytes", "label"]), nasty_text
)
label_names = st.one_of(
    st.just("label"), st.sampled_from(["labels", "fine_label", "label.x", "img"]), nasty_text
)
SOUND = [("img", "struct of images"), ("label", "int64")]
KINDS = COLUMNS | LABELS


@fuzz(
    700,
    columns=st.lists(
        st.one_of(
            st.tuples(image_names, st.sampled_from(sorted(COLUMNS))),
            st.tuples(label_names, st.sampled_from(sorted(LABELS))),
        ),
        max_size=3,
    ),
    sound=st.booleans(),
    rows=st.sampled_from([7, 7, 7, 3, 1, 0]),
    group=st.sampled_from([None, 1, 2]),
    features=st.booleans(),
    split=st.sampled_from(["train", "test"]),
)
def test_other_tables(folder, columns, sound, rows, group, features, split):
    named = [*columns, *SOUND] if sound else columns
    path = folder / f"{split}.parquet"
    content = path.read_bytes()
    try:
        try:
            names = [name for name, _ in named]
            table = pa.table([KINDS[kind] for _, kind in named], names=names).slice(0, rows)
            if features:
                described = {"huggingface": json.dumps(FEATURES)}
                table = table.replace_schema_metadata(described)
            pq.write_table(table, path, row_group_size=group)
        except (pa.ArrowException, UnicodeEncodeError):  # no such file can be
            return
        found = attempt(lambda: prepared(folder), folder)
        if found is REFUSED or split == "test":
            return
        if names.count("img") == names.count("label") == 1:
            check_against_plain(found, path)
    finally:
        path.write_bytes(content)


@fuzz(200, changes=json_changes, form=json_forms)
def test_other_descriptions(folder, changes, form):
    """Change the descriptions of columns in the metadata of the schema."""
    path = folder / "train.parquet"
    table = pq.read_table(path)
    described = {b"huggingface": changed_json(FEATURES, changes, form)}
    pq.write_table(table.replace_schema_metadata(described), path)
    found = attempt(lambda: prepared(folder), folder)
    if found is not REFUSED:
        check_against_plain(found, path)
        assert len(found.class_names) == 3


@fuzz(300, path=st.one_of(nasty_text, st.sampled_from(["\0", "a\0b", "x" * 300, "train.parquet"])))
def test_paths_of_images(folder, path):
    dictionaries = [{"bytes": None, "path": path}, *dicts[1:]]
    try:
        table = pa.table({"img": pa.array(dictionaries, STRUCT), "label": LABELS["int64"]})
    except UnicodeEncodeError:
        return
    pq.write_table(table, folder / "train.parquet")
    assert attempt(lambda: prepared(folder), folder) is REFUSED


@fuzz(200, names=st.lists(nasty_text, min_size=1, max_size=3))
def test_names_of_files(folder, names):
    for name in names:
        if "\0" in name or "/" in name or name in ("", ".", "..") or len(name) > 200:
            continue
        try:
            (folder / f"{name}.parquet").write_bytes(b"")
            (folder / f"train-{name}-of-00001.parquet").write_bytes(b"")
        except (OSError, UnicodeEncodeError):
            continue
    found = attempt(lambda: prepared(folder), folder)
    assert found is REFUSED or len(found.splits["train"]) == 7
    for path in folder.iterdir():
        if path.name not in ("train.parquet", "test.parquet"):
            path.unlink()
