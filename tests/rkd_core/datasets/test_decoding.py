"""Decoding of data sets: scale of deep gray values, orientation, transparency, constant images."""

import hashlib
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from rkd_core.datasets import preprocess
from rkd_core.datasets.preparation import prepare
from rkd_core.datasets.preparation.decode_image import Values
from rkd_core.datasets.preparation.pixel_scales import decide
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    cycling_labels,
    encode,
    random_images,
    settle,
    write_parquet,
)

STREAMED = {"decode_limit": 0}


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def stating(low, high):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[340] = tags.tagtype[341] = 12  # double
    tags[340], tags[341] = float(low), float(high)
    return {"tiffinfo": tags}


def packed_12_bits(values):
    """Return a TIFF file of 12 bits a sample, which Pillow can read but not write."""
    data = bytearray()
    for a, b in values.reshape(-1, 2).tolist():
        data += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + bytes(data)
    return head + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


def folder(root, train, test=None):
    """Write files of one class each, in the order given, for three classes."""
    for split, contents in (("train", train), ("test", train if test is None else test)):
        for i, content in enumerate(contents):
            path = root / split / "abc"[i % 3] / f"{i}.png"  # the ending says nothing
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    settle(root)
    return root


def grays(highest, dtype, lowest=0, count=6):
    rng = np.random.default_rng(0)
    found = rng.uniform(lowest, highest, (count, 8, 8))
    found[0, 0, :2] = lowest, highest
    return found.astype(dtype)


def in_order(dataset):
    return [dataset.train.images[i] for i in np.argsort(np.arange(6) % 3, kind="stable").argsort()]


DEEP = {  # values, file format, scale, whether version 1 gave the same pixels
    "16 bits": (grays(65535, np.uint16), saved, (0, 65535), True),
    "15 bits in 16": (grays(30000, np.uint16), saved, (0, 65535), True),
    "14 bits in 16": (grays(16000, np.uint16), saved, (0, 16383), False),
    "12 bits in 16": (grays(4000, np.uint16), saved, (0, 4095), False),
    "8 bits in 16": (grays(255, np.uint16), saved, (0, 255), False),
    "dark 8 bits in 16": (grays(9, np.uint16), saved, (0, 255), False),
    "8 bits in 32": (grays(255, np.int32), lambda v: saved(v, "TIFF"), (0, 255), False),
    "20 bits in 32": (grays(10**6, np.int32), lambda v: saved(v, "TIFF"), (0, 2**20 - 1), False),
    "big-endian": (grays(4000, ">u2"), lambda v: saved(v, "TIFF"), (0, 4095), False),
    "PGM": (grays(65535, np.uint16), lambda v: saved(v, "PPM"), (0, 65535), True),
    "12-bit TIFF": (grays(900, np.uint16), packed_12_bits, (0, 4095), False),
    "stated": (
        grays(200, np.uint16),
        lambda v: saved(v, "TIFF", **stating(0, 4095)),
        (0, 4095),
        False,
    ),
    "stated, signed": (
        grays(3000, np.int32, -1000),
        lambda v: saved(v, "TIFF", **stating(-1024, 3071)),
        (-1024, 3071),
        False,
    ),
    "stated too low": (
        grays(60000, np.uint16),
        lambda v: saved(v, "TIFF", **stating(0, 4095)),
        (0, 65535),
        True,
    ),
    "floats to 1": (grays(1, np.float32), lambda v: saved(v, "TIFF"), (0, 1), False),
    "floats to 0.4": (grays(0.4, np.float32), lambda v: saved(v, "TIFF"), (0, 1), False),
    "ringing": (grays(1.02, np.float32, -0.02), lambda v: saved(v, "TIFF"), (0, 1), False),
    "floats to 255": (grays(255, np.float32), lambda v: saved(v, "TIFF"), (0, 255), True),
    "floats to 90": (grays(90, np.float32), lambda v: saved(v, "TIFF"), (0, 255), True),
    "floats to 9": (grays(9, np.float32), lambda v: saved(v, "TIFF"), (0, 15), False),
    "floats to 0.01": (grays(0.01, np.float32), lambda v: saved(v, "TIFF"), (0, 1 / 64), False),
    "floats to 4000": (grays(4000, np.float32), lambda v: saved(v, "TIFF"), (0, 4095), False),
}


def fingerprint_of_before(contents):
    """Return the fingerprint by version 1 of the rules: class names, labels, bytes."""
    digest = hashlib.sha256(json.dumps(["content", *"abc"]).encode())
    for _ in range(2):
        ordered = [contents[i] for i in np.argsort(np.arange(len(contents)) % 3, kind="stable")]
        labels = np.sort(np.arange(len(contents)) % 3).astype("<i8")
        digest.update(len(labels).to_bytes(8, "little"))
        digest.update(labels.tobytes())
        for content in ordered:
            digest.update(np.asarray([len(content)], dtype="<i8").tobytes())
            digest.update(content)
    return digest.hexdigest()


@pytest.mark.parametrize("name", DEEP)
def test_one_scale_for_all_deep_gray_images(tmp_path, load, name):
    values, save, (low, high), as_before = DEEP[name]
    contents = [save(v) for v in values]
    dataset = load(folder(tmp_path / "a", contents))
    assert dataset.channels == 1
    expected = np.rint(np.clip((values.astype(float) - low) * 255 / (high - low), 0, 255))
    np.testing.assert_array_equal(in_order(dataset), expected[..., None])
    assert (dataset.fingerprint == fingerprint_of_before(contents)) == as_before
    again = load(tmp_path / "a")
    assert again.decoding == dataset.decoding
    (line,) = dataset.decoding.statements()
    ends = f"{low:.4g} to {high:.4g}" if high < 1 else f"{low} to {high}"
    assert line.startswith("pixel values: ")
    assert f" gray, {ends} -> 0 to 255" in line
    streamed = load(tmp_path / "a", **STREAMED)
    assert streamed.decoding.scales == streamed.train.scales == dataset.decoding.scales
    view = Image.fromarray(expected[0].astype(np.uint8)).resize((256, 256), 2)
    np.testing.assert_array_equal(
        streamed.train.evaluation_view(0)[..., 0], np.asarray(view)[16:240, 16:240]
    )


def test_sixteen_bits_are_scaled_as_before():
    values = np.arange(65536)
    np.testing.assert_array_equal(
        preprocess._to_8_bits(values, (0, 65535), False), np.rint(values / 257)
    )


def test_unsigned_samples_of_32_bits_are_not_negative():
    image = Image.fromarray(np.array([[2**31 - 1, -2]], np.int32))  # as if Pillow read 2**32 - 2
    image.tag_v2 = {339: (1,)}
    assert preprocess.sample_values(image).tolist() == [[2**31 - 1, 2**32 - 2]]


def test_the_scale_is_that_of_the_training_images(tmp_path, load):
    train = [saved(v) for v in grays(4000, np.uint16)]
    bright = grays(4000, np.uint16)[::-1] // 2
    dataset = load(folder(tmp_path / "a", train, [saved(v) for v in bright]))
    tested = np.concatenate([dataset.val.images, dataset.test.images])
    assert tested.max() == np.rint(float(bright.max()) * 255 / 4095)


SIGNALING = np.full((8, 8), 0x7F800001, np.uint32)  # NaNs that NumPy warns of
BAD = {
    "16 bits among 12": (saved(grays(65535, np.uint16)[0]), "values are 0 to 65535, outside"),
    "255 among 1": (saved(grays(255, np.float32)[0], "TIFF"), "values are 0 to 255, outside"),
    "negative": (saved(grays(4000, np.int32, -5)[0], "TIFF"), "values are -5 to 4000, outside"),
    "negative float": (saved(grays(1, np.float32, -0.5)[0], "TIFF"), "values are -0.5 to 1, out"),
    "not a number": (saved(np.full((8, 8), np.nan, np.float32), "TIFF"), "are not numbers"),
    "signaling": (saved(SIGNALING.view(np.float32), "TIFF"), "are not numbers"),
    "infinite": (saved(np.full((8, 8), np.inf, np.float32), "TIFF"), "pixels are infinite"),
}


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["decoded", "streamed"])
@pytest.mark.parametrize(
    ("split", "name"),
    [("test", name) for name in BAD] + [("train", name) for name in BAD if "among" not in name],
)
def test_values_that_fit_no_scale_are_refused_by_name(tmp_path, load, name, split, options):
    content, words = BAD[name]
    floating = not {"16 bits among 12", "negative"} & {name}
    good = grays(1, np.float32) if floating else grays(4000, np.uint16)
    kind = "TIFF" if floating else "PNG"
    contents = [saved(v, kind) for v in good]
    bad = [*contents[:4], content, contents[5]]
    root = folder(tmp_path / "a", *((bad, contents) if split == "train" else (contents, bad)))
    with pytest.raises(UserError, match=rf"{split}/b/4\.png cannot be decoded: .*{words}") as said:
        load(root, **options)
    assert "\n" not in str(said.value)
    dataset = load(root, skip_bad_images=True, **options)
    assert dataset.skipped_images == 1
    assert dataset.decoding.scales[floating] == ((0, 1) if floating else (0, 4095))


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["decoded", "streamed"])
def test_a_deep_image_among_others_has_no_scale(tmp_path, load, options):
    plain = [encode(image) for image in random_images(6, channels=1)]
    root = folder(tmp_path / "a", plain, [*plain[:5], saved(grays(65535, np.uint16)[0])])
    with pytest.raises(UserError, match=r"test/c/5\.png .*unlike any training image"):
        load(root, **options)


def test_8_bit_images_among_deep_ones_are_as_they_are(tmp_path, load):
    plain, deep = random_images(6, channels=1), grays(4000, np.uint16)
    mixed = [saved(deep[i] if i % 2 else plain[i]) for i in range(6)]
    found = in_order(load(folder(tmp_path / "a", mixed)))
    np.testing.assert_array_equal(found[2][..., 0], plain[2])
    np.testing.assert_array_equal(found[1][..., 0], np.rint(deep[1].astype(float) * 255 / 4095))


def test_scales_of_integers_and_floats_are_apart():
    decoding = decide(
        [Values(False, 16, 3, 4000, None), Values(True, 32, 0.1, 0.9, None)],
    )
    assert decoding.scales == ((0, 4095), (0, 1))
    assert len(decoding.statements()) == 2


def color_of_16_bits(highest):
    """Return a PNG file of a kind that Pillow cannot write."""
    import zlib

    values = np.random.default_rng(0).integers(0, highest + 1, (8, 8, 3)).astype(">u2")
    values[0, 0] = highest
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body, (values >> 8).astype(np.uint8)


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["decoded", "streamed"])
def test_color_of_16_bits(tmp_path, load, options):
    content, upper = color_of_16_bits(65535)
    dataset = load(folder(tmp_path / "a", [content] * 3), **options)
    assert dataset.decoding.statements() == [
        "pixel values: 6 color images of 16 bits per channel, the upper 8 are used"
    ]
    if not options:
        np.testing.assert_array_equal(dataset.train.images[0], upper)
        assert dataset.fingerprint == fingerprint_of_before([content] * 3)
    dark, _ = color_of_16_bits(4095)
    with pytest.raises(UserError, match="have values of at most 4,095 of 65,535 in training"):
        load(folder(tmp_path / "b", [dark] * 3), **options)


def test_a_streamed_set_has_color_if_any_image_has(tmp_path, load, monkeypatch):
    monkeypatch.setattr(prepare, "SAMPLE", 2)  # the first and the last image
    image = Image.fromarray(random_images(1)[0])
    gray, color = saved(image.convert("L")), saved(image)
    dataset = load(folder(tmp_path / "some", [gray, color, gray]), **STREAMED)
    assert dataset.channels == 3
    assert dataset.decoding.statements() == [
        "color: 2 color images among gray ones, so all images have three channels"
    ]
    assert dataset.decoding.changes() == {"channels": 3}
    assert load(folder(tmp_path / "none", [gray] * 3), **STREAMED).channels == 1


def turned_jpeg(orientation, image=None):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = image or Image.fromarray(random_images(1)[0])
    return saved(image, "JPEG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_images_are_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(random_images(1)[0, :6], kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    found = preprocess.decode(preprocess.open_file(io.BytesIO(content)), 3)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    if kind != "TIFF":  # Pillow turns TIFF when it reads it
        as_it_lies = preprocess.decode(preprocess.open_file(io.BytesIO(content)), 3, upright=False)
        turned = not np.array_equal(np.asarray(found), np.asarray(as_it_lies))
        assert turned == (orientation > 1)


def see_through(mode):
    """Return a black image with a bar in its alpha channel, and the bar over white."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:5] = 255
    bar = Image.new("L", (8, 8)), Image.fromarray(alpha)
    if mode == "palette":
        image = Image.fromarray((alpha > 0).astype(np.uint8), "L").convert("P")
        image.putpalette([0] * 768)
        return saved(image, transparency=b"\0"), 255 - alpha
    if mode == "RGB with a key":
        return saved(
            Image.merge("RGB", [Image.fromarray(255 - alpha)] * 3).point(lambda v: v // 255),
            transparency=(1, 1, 1),
        ), 255 - alpha
    if mode == "deep":
        deep = np.where(alpha > 0, 0, 40000).astype(np.uint16)
        return saved(deep, transparency=40000), 255 - alpha
    merged = Image.merge("LA", bar)
    return saved(merged.convert(mode)), 255 - alpha


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["decoded", "streamed"])
@pytest.mark.parametrize("mode", ["LA", "RGBA", "palette", "RGB with a key", "deep"])
def test_transparency_is_shown_over_white(tmp_path, load, mode, options):
    content, expected = see_through(mode)
    dataset = load(folder(tmp_path / "a", [content] * 3), **options)
    assert "transparency: 6 images shown over white" in dataset.decoding.statements()
    assert dataset.decoding.constant_images() is None
    if not options:
        found = dataset.train.images[0]
        np.testing.assert_array_equal(found, np.stack([expected] * found.shape[2], axis=-1))
        assert dataset.fingerprint != fingerprint_of_before([content] * 3)


OPAQUE = {
    "RGBA": lambda image: saved(image.convert("RGBA")),
    "LA": lambda image: saved(image.convert("LA")),
    "palette": lambda image: saved(image.convert("P"), transparency=b"\xff\xff"),
    "CMYK": lambda image: saved(image.convert("CMYK"), "JPEG"),
    "1 bit": lambda image: saved(image.convert("1")),
    "upright": lambda image: turned_jpeg(1, image),
    "RGB": saved,
    "gray": lambda image: saved(image.convert("L")),
}


@pytest.mark.parametrize("layout", ["folder", "parquet"])
@pytest.mark.parametrize("name", OPAQUE)
def test_unchanged_decoding_keeps_the_fingerprint(tmp_path, load, name, layout):
    contents = [OPAQUE[name](Image.fromarray(image)) for image in random_images(6)]
    if layout == "folder":
        dataset = load(folder(tmp_path / "a", contents))
        assert dataset.fingerprint == fingerprint_of_before(contents)
    else:
        ordered = [contents[i] for i in np.argsort(np.arange(6) % 3, kind="stable")]
        for split in ("train", "test"):
            labels = sorted(cycling_labels(6))
            write_parquet(tmp_path / "a" / f"{split}.parquet", ordered, labels, names="abc")
        dataset = load(tmp_path / "a")
        assert dataset.fingerprint == fingerprint_of_before(contents)
    assert dataset.decoding.statements() == []
    assert dataset.decoding.changes() == {}


def test_a_turned_image_changes_the_fingerprint_of_its_data_alone(tmp_path, load):
    contents = [turned_jpeg(1), turned_jpeg(6), turned_jpeg(1)]
    dataset = load(folder(tmp_path / "a", contents))
    assert dataset.decoding.statements() == ["orientation: 2 images turned according to EXIF"]
    assert dataset.fingerprint != fingerprint_of_before(contents)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(contents[1])))
    np.testing.assert_array_equal(dataset.train.images[1], np.asarray(upright))
    streamed = [load(tmp_path / "a", **STREAMED) for _ in range(2)]
    assert [found.decoding.turned for found in streamed] == [2, 2]
    resized = upright.resize((256, 256), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        streamed[0].train.evaluation_view(1), np.asarray(resized)[16:240, 16:240]
    )


def test_the_cache_of_older_rules_is_not_read(tmp_path, load, monkeypatch):
    from rkd_core.datasets.preparation import prepare

    root = folder(tmp_path / "a", [turned_jpeg(6)] * 3)
    monkeypatch.setattr(prepare, "FORMAT", 1)
    load(root)
    keys = {path.name for path in (tmp_path / "cache" / "sources").iterdir()}
    monkeypatch.undo()
    assert prepare.FORMAT > 1
    load(root)
    assert len({path.name for path in (tmp_path / "cache" / "sources").iterdir()} - keys) == 1


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["decoded", "streamed"])
def test_constant_images_are_counted(tmp_path, load, caplog, options):
    images = [encode(image) for image in random_images(99, channels=1)]
    flat = encode(np.full((8, 8), 7, np.uint8))
    load(folder(tmp_path / "a", [*images, flat], images), **options)
    assert "constant" not in caplog.text
    root = folder(tmp_path / "b", [*images, *[flat] * 3], images)
    load(root, DataOptions(image_size=4), **options)
    looked_at = 102 if options else 201
    words = f"3 of {looked_at} checked images are constant (all pixels equal), the first "
    assert words in caplog.text
    assert f"{root}/train/a/99.png" in caplog.text


def test_signed_samples_of_8_bits_do_not_wrap_around():
    image = Image.fromarray(np.array([[127, 255]], np.uint8))  # Pillow's reading of 127 and -1
    image.tag_v2 = {339: (2,)}
    assert preprocess.sample_values(image).tolist() == [[127, -1]]
    with pytest.raises(ValueError, match="values are -1 to 127, outside"):
        preprocess.decode(image, 1, integers=(0, 255))
