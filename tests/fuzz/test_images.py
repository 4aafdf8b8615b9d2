"""Single images: Pillow's pixels, or a reason why there are none."""

import contextlib
import io
import warnings

import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageOps

from rkd_core.datasets.preparation.decode_image import (
    BadImageError,
    Scales,
    decode_image,
    open_image,
    traits,
)
from rkd_core.datasets.preparation.decode_image import pillow as pillow_of
from rkd_core.datasets.preprocess import center_crop, is_deep, pixels
from tests.fuzz.cases import check_line, edited, edits, fuzz


def encoded():
    rng = np.random.RandomState(0)
    color = Image.fromarray(rng.randint(0, 256, (12, 9, 3)).astype(np.uint8))
    grey = Image.fromarray(rng.randint(0, 256, (12, 9)).astype(np.uint8))
    deep = Image.fromarray(rng.randint(0, 2**16, (12, 9)).astype(np.uint16))
    floating = Image.fromarray(rng.uniform(-9, 265, (12, 9)).astype(np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "png": (color, {"format": "PNG"}),
        "grey png": (grey, {"format": "PNG"}),
        "deep png": (deep, {"format": "PNG"}),
        "deep png with a key": (deep, {"format": "PNG", "transparency": 7}),
        "palette png": (color.convert("P"), {"format": "PNG", "transparency": b"\x00\x80"}),
        "alpha png": (color.convert("RGBA"), {"format": "PNG"}),
        "bit png": (grey.convert("1"), {"format": "PNG"}),
        "jpeg": (color, {"format": "JPEG"}),
        "exif jpeg": (color, {"format": "JPEG", "exif": exif}),
        "progressive jpeg": (color, {"format": "JPEG", "progressive": True}),
        "cmyk jpeg": (color.convert("CMYK"), {"format": "JPEG"}),
        "bmp": (color, {"format": "BMP"}),
        "ppm": (color, {"format": "PPM"}),
        "pgm": (deep, {"format": "PPM"}),
        "gif": (color.convert("P"), {"format": "GIF"}),
        "tiff": (color, {"format": "TIFF"}),
        "lzw tiff": (color, {"format": "TIFF", "compression": "tiff_lzw"}),
        "float tiff": (floating, {"format": "TIFF"}),
        "webp": (color, {"format": "WEBP"}),
    }
    found = {}
    for name, (image, options) in images.items():
        buffer = io.BytesIO()
        image.save(buffer, **options)
        found[name] = buffer.getvalue()
    return found


SAMPLES = encoded()
SCALES = Scales((0.0, 65535.0), (0.0, 255.0))


def ours(content, channels):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pillow_of.cache_clear()  # so that it is set up within this block
        try:
            image = open_image(content)
            traits(image)
            found = pixels(decode_image(image, channels, SCALES))
        except BadImageError as error:
            found = None
            check_line(str(error), "")
    assert [str(warning.message) for warning in said] == []
    assert found is None or (found.dtype == np.uint8 and found.shape[2] == channels)
    return found


def plain(content, channels):
    """Read an image by Pillow alone; only modes of eight bits without a palette."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(content))
        if image.mode not in ("L", "RGB", "RGBA", "CMYK", "1") or is_deep(image):
            return None
        with contextlib.suppress(Exception):  # damaged metadata
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array.reshape(*array.shape[:2], channels)


@fuzz(
    1500, name=st.sampled_from(sorted(SAMPLES)), changes=edits(), channels=st.sampled_from([1, 3])
)
def test_changed_bytes(name, changes, channels):
    content = edited(SAMPLES[name], changes)
    found = ours(content, channels)
    if found is not None:
        expected = plain(content, channels)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)


@fuzz(
    150,
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    side=st.integers(1, 33),
    mode=st.sampled_from(["L", "RGB"]),
    kind=st.sampled_from(["PNG", "BMP", "PPM", "TIFF"]),
)
def test_any_size_is_cut_to_a_square(width, height, side, mode, kind):
    channels = 3 if mode == "RGB" else 1
    array = np.random.RandomState(width * height).randint(0, 256, (height, width, channels))
    array = array.astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array if channels == 3 else array[..., 0]).save(buffer, kind)
    image = decode_image(open_image(buffer.getvalue()), channels, SCALES)
    np.testing.assert_array_equal(pixels(image), array)
    assert pixels(center_crop(image, side)).shape == (side, side, channels)
