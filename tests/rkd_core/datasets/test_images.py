"""Images in Parquet: gray, deep, with palettes, of many sizes, and damaged."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from rkd_core.datasets.preparation import decode_image
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    check_train,
    cycling_labels,
    encode,
    parquet_folder,
    random_images,
    write_parquet,
)


def grey_folder(root, train, test=None):
    for split, images in (("train", train), ("test", train if test is None else test)):
        encoded = [image if isinstance(image, bytes) else encode(image) for image in images]
        write_parquet(root / f"{split}.parquet", encoded, cycling_labels(len(images)))


def test_grey_images_have_one_channel(tmp_path, load):
    images = random_images(6, channels=1)
    grey_folder(tmp_path / "a", images)
    dataset = load(tmp_path / "a")
    np.testing.assert_array_equal(dataset.train.images, images[..., None])
    assert dataset.channels == 1


@pytest.mark.parametrize("where", ["train", "test"])
def test_one_color_image_makes_the_source_color(tmp_path, load, where):
    grey, color = random_images(6, channels=1), random_images(6)
    mixed = [*grey[:5], color[5]]
    if where == "train":
        grey_folder(tmp_path / "a", mixed, list(grey))
        expected = [*np.stack([grey[:5]] * 3, axis=-1), color[5]]
    else:
        grey_folder(tmp_path / "a", list(grey), mixed)
        expected = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(load(tmp_path / "a").train.images, np.stack(expected))


def test_sixteen_bit_grey_is_scaled(tmp_path, load):
    deep = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    grey_folder(tmp_path / "a", [encode(deep)] * 3)
    dataset = load(tmp_path / "a")
    assert dataset.channels == 1
    np.testing.assert_array_equal(dataset.train.images[0, ..., 0], np.rint(deep / 257))


def test_palette_and_alpha_become_rgb(tmp_path, load):
    rgb = Image.fromarray(random_images(1)[0])
    variants = []
    for mode, options in (("P", {"transparency": b"\x00\x80"}), ("RGBA", {}), ("RGB", {})):
        buffer = io.BytesIO()
        rgb.convert(mode).save(buffer, "PNG", **options)
        variants.append(buffer.getvalue())
    grey_folder(tmp_path / "a", variants)
    train = load(tmp_path / "a").train
    assert train.shape == (8, 8, 3)
    np.testing.assert_array_equal(train.images[1], np.asarray(rgb))
    np.testing.assert_array_equal(train.images[2], np.asarray(rgb))


def test_null_bytes_are_read_from_the_path(tmp_path, load):
    images = random_images(6)
    root = tmp_path / "a"
    (root / "files").mkdir(parents=True)
    (root / "files" / "0.png").write_bytes(encode(images[0]))
    encoded = [None, *(encode(image) for image in images[1:])]
    paths = ["files/0.png"] + [None] * 5
    write_parquet(root / "train.parquet", encoded, cycling_labels(6), paths=paths)
    write_parquet(root / "test.parquet", encoded, cycling_labels(6), paths=paths)
    check_train(load(root), images, cycling_labels(6))


def test_a_path_out_of_the_folder_is_refused(tmp_path, load):
    (tmp_path / "secret.png").write_bytes(encode(random_images(1)[0]))
    parquet_folder(tmp_path / "a")
    encoded, paths = [None] * 3, ["../secret.png"] * 3
    write_parquet(tmp_path / "a" / "train.parquet", encoded, cycling_labels(3), paths=paths)
    with pytest.raises(UserError, match="leads out of"):
        load(tmp_path / "a")


def test_images_that_differ_in_size_need_an_image_size(tmp_path, load):
    images = [random_images(1, size)[0] for size in (8, 8, 12)]
    grey_folder(tmp_path / "a", images)
    with pytest.raises(UserError, match=r"row 0 is 8 x 8, .*row 2 is 12 x 12; give `image_size`"):
        load(tmp_path / "a")
    dataset = load(tmp_path / "a", DataOptions(image_size=8))
    np.testing.assert_array_equal(dataset.train.images[:2], np.stack(images[:2]))  # untouched
    shrunk = Image.fromarray(images[2]).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train.images[2], np.asarray(shrunk))


def test_resizing_keeps_the_middle_of_the_longer_side(tmp_path, load):
    stripes = np.zeros((8, 24, 3), np.uint8)
    stripes[:, 8:16] = 200
    tall = stripes.transpose(1, 0, 2).copy()
    grey_folder(tmp_path / "a", [stripes, tall, stripes])
    dataset = load(tmp_path / "a", DataOptions(image_size=8))
    np.testing.assert_array_equal(dataset.train.images, np.full((3, 8, 8, 3), 200))


def test_images_that_cannot_be_decoded(tmp_path, load, caplog):
    images = random_images(9, 32)
    encoded = [encode(image) for image in images]
    encoded[4] = b"not an image"
    encoded[8] = encoded[8][: len(encoded[8]) // 2]
    for split in ("train", "test"):
        write_parquet(tmp_path / "a" / f"{split}.parquet", encoded, cycling_labels(9))
    with pytest.raises(UserError, match=r"train\.parquet row 4 cannot be decoded.*skip_bad"):
        load(tmp_path / "a")
    dataset = load(tmp_path / "a", skip_bad_images=True)
    good = [0, 1, 2, 3, 5, 6, 7]
    check_train(dataset, images[good], [i % 3 for i in good])
    assert dataset.train_indices.tolist() == good
    assert sorted([*dataset.val_indices, *dataset.test_indices]) == good
    assert dataset.skipped_images == 4
    assert "4 undecodable images skipped" in caplog.text
    again = load(tmp_path / "a", skip_bad_images=True)
    assert (again.skipped_images, again.train_indices.tolist()) == (4, good)


def test_skipped_rows_are_part_of_the_fingerprint(tmp_path, load):
    parquet_folder(tmp_path / "a")
    plain = load(tmp_path / "a").fingerprint
    assert load(tmp_path / "a", skip_bad_images=True).fingerprint == plain
    seen = {plain}
    for bad in (0, 3):
        encoded = [encode(image) for image in random_images(12)]
        encoded[bad] = b""
        write_parquet(tmp_path / f"b{bad}" / "train.parquet", encoded, cycling_labels(12))
        write_parquet(tmp_path / f"b{bad}" / "test.parquet", encoded, cycling_labels(12))
        seen.add(load(tmp_path / f"b{bad}", skip_bad_images=True).fingerprint)
    assert len(seen) == 3


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [63, 31])  # where Pillow only warns, and where it refuses
def test_a_decompression_bomb_is_a_bad_image(tmp_path, load, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    parquet_folder(tmp_path / "a")
    with pytest.raises(UserError, match="row 0 cannot be decoded"):
        load(tmp_path / "a")


def test_a_class_that_skipping_leaves_empty(tmp_path, load):
    encoded = [encode(image) for image in random_images(6)]
    bad = [b"" if i % 3 == 1 else image for i, image in enumerate(encoded)]
    write_parquet(tmp_path / "a" / "train.parquet", bad, cycling_labels(6))
    write_parquet(tmp_path / "a" / "test.parquet", encoded, cycling_labels(6))
    with pytest.raises(UserError, match=r"class 1 \(dog\) has no training image"):
        load(tmp_path / "a", skip_bad_images=True)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        b"\xd7\xcd\xc6\x9a" + b"\x01" * 60,
    ],
)
def test_formats_that_run_programs_are_not_opened(tmp_path, load, monkeypatch, content):
    """Pillow hands PostScript to Ghostscript."""
    monkeypatch.setattr("subprocess.Popen", None)
    grey_folder(tmp_path / "a", [content] * 3)
    with pytest.raises(UserError, match="not an image of a known format"):
        load(tmp_path / "a")


def test_damaged_metadata_of_a_sound_image_is_no_matter(tmp_path, load):
    buffer = io.BytesIO()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # five entries, and then the end
    Image.fromarray(random_images(1)[0]).save(buffer, "JPEG", exif=exif)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        decode_image.pillow.cache_clear()
        grey_folder(tmp_path / "a", [buffer.getvalue()] * 3)
        assert len(load(tmp_path / "a").train) == 3
    assert [str(warning.message) for warning in said] == []


def test_pixels_that_are_not_numbers(tmp_path, load):
    grey_folder(tmp_path / "a", [encode(np.full((8, 8), np.nan, np.float32), "TIFF")] * 3)
    with pytest.raises(UserError, match="row 0 cannot be decoded: some of its pixels are not num"):
        load(tmp_path / "a")
