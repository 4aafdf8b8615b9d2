"""Decoding rules of a dataset, such as the scales of deep gray values, and image counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rkd_core.datasets.preparation.decode_image import (
    NO_SCALES,
    Scale,
    Scales,
    Traits,
    Values,
    pillow,
)
from rkd_core.errors import UserError
from rkd_core.text.nouns import counted

__all__ = ["AS_THEY_ARE", "Decoding", "Tally", "decide"]

FEW = 64
"""Number of levels, of 256, below which images have lost too much information."""

CONSTANT_SHARE = 0.01
"""Share of constant images above which a warning is issued."""

_AS_BEFORE = Scales((0.0, 65535.0), (0.0, 255.0))


@dataclass(frozen=True)
class Decoding:
    """Rules by which the images of a dataset are decoded to uint8 pixels, and counts of images.

    Attributes:
        scales: Scales of deep gray images, determined from the training images.
        bits: Bits per sample of these images.
        extents: Lowest and highest value of the training images, for integers and for floats.
        turned: Number of images turned by their EXIF orientation.
        transparent: Number of images shown over white.
        deep_color: Number of color images of 16 bits per channel; Pillow reads the upper 8.
        late_color: Number of color images in a streamed set whose sampled images are all gray.
        looked_at: Number of images that were checked for being constant.
        constant: Number of checked images whose pixels are all equal.
        first_constant: Location of the first constant image.
    """

    scales: Scales = NO_SCALES
    bits: int = 16
    extents: Scales = NO_SCALES
    turned: int = 0
    transparent: int = 0
    deep_color: int = 0
    late_color: int = 0
    looked_at: int = 0
    constant: int = 0
    first_constant: str = ""

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Decoding:
        """Return the decoding that ``as_json`` describes."""
        pairs = {
            name: Scales(*(None if pair is None else tuple(pair) for pair in content[name]))
            for name in ("scales", "extents")
        }
        return cls(**(content | pairs))

    def as_json(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)

    def parameters(self) -> dict[str, Any]:
        """Return the arguments of ``preprocess.decode`` other than image and channels."""
        integers, floats = self.scales
        return {"integers": integers, "floats": floats, "upright": True, "over_white": True}

    def changes(self) -> dict[str, Any]:
        """Return the rules that make pixels differ from version 1 of the rules, for fingerprints.

        Version 1 ignored EXIF orientation and alpha, read all integers as 16 bits and floats as 0
        to 255, and streamed images in gray if a sample of them was gray. The result is empty if
        both versions decode the data identically.
        """
        found: dict[str, Any] = {}
        for name, scale, before in zip(Scales._fields, self.scales, _AS_BEFORE, strict=True):
            if scale is not None and scale != before:
                found[name] = list(scale)
        if self.turned:
            found["orientation"] = "exif"
        if self.transparent:
            found["background"] = "white"
        if self.late_color:
            found["channels"] = 3
        return found

    def statements(self) -> list[str]:
        """Return a line for each decoding operation other than reading 8-bit pixels."""
        lines = []
        for scale, extent, kind in zip(
            self.scales,
            self.extents,
            (f"{self.bits}-bit gray", "floating-point gray"),
            strict=True,
        ):
            if scale is not None:
                lines.append(f"pixel values: {kind}, {_ends(scale)} -> 0 to 255")
                if extent is not None and extent != scale:
                    lines[-1] += f" (training images have {_ends(extent)})"
        if self.turned:
            lines.append(f"orientation: {counted(self.turned, 'image')} turned according to EXIF")
        if self.transparent:
            lines.append(f"transparency: {counted(self.transparent, 'image')} shown over white")
        if self.late_color:
            found = counted(self.late_color, "color image")
            lines.append(f"color: {found} among gray ones, so all images have three channels")
        if self.deep_color:
            found = counted(self.deep_color, "color image")
            lines.append(f"pixel values: {found} of 16 bits per channel, the upper 8 are used")
        return lines

    def constant_images(self) -> str | None:
        """Return a warning if more than 1 % of the images are constant."""
        if self.constant <= CONSTANT_SHARE * self.looked_at:
            return None
        verb = "is" if self.constant == 1 else "are"
        return (
            f"{self.constant:,} of {counted(self.looked_at, 'checked image')} {verb} constant "
            f"(all pixels equal), the first {self.first_constant}: nothing can be learned from them"
        )


AS_THEY_ARE = Decoding()
"""Decoding of 8-bit images, without special rules."""


def decide(found: Sequence[Values]) -> Decoding:
    """Determine scales from the deep gray images of a training set.

    A scale that the files state (TIFF's SMinSampleValue and SMaxSampleValue, or BitsPerSample of 9
    to 15) is used if all files state one and all values lie within it. Otherwise the scale follows
    from the range of the values: integers have 8, 10, 12, ... bits, and floats reach up to 1, 255
    or the full scale of another number of bits.

    Returns:
        The scales, and the extents that they were determined from; all counts are zero.
    """
    scales: list[Scale | None] = []
    extents: list[Scale | None] = []
    for floating in (False, True):
        mine = [values for values in found if values.floating == floating]
        sound = [values for values in mine if _is_sound(values)] or mine
        if not sound:
            scales.append(None)
            extents.append(None)
            continue
        extent = min(v.low for v in sound), max(v.high for v in sound)
        extents.append(extent)
        scales.append(_declared(sound, extent) or (0.0, _full_scale(extent[1], floating)))
    bits = max((values.bits for values in found if not values.floating), default=16)
    return Decoding(Scales(*scales), bits, Scales(*extents))


def _is_sound(values: Values) -> bool:
    """Return whether values are non-negative, or the file states a scale."""
    slack = pillow().TOLERANCE * abs(values.high) if values.floating else 0.0
    return values.low >= -slack or values.declared is not None


def _declared(found: Sequence[Values], extent: Scale) -> Scale | None:
    stated = [values.declared for values in found if values.declared is not None]
    if len(stated) < len(found):
        return None
    low, high = min(ends[0] for ends in stated), max(ends[1] for ends in stated)
    return (low, high) if low <= extent[0] and extent[1] <= high and low < high else None


def _full_scale(highest: float, floating: bool) -> float:
    """Return the value of white: the smallest common one that is at least ``highest``."""
    if not floating:
        return _of_bits(int(highest))
    highest /= 1 + pillow().TOLERANCE
    if highest <= 0 or 1 / 16 <= highest <= 1:
        return 1.0
    if highest < 1:
        return 2.0 ** math.ceil(math.log2(highest))
    if (whole := math.ceil(highest)) < FEW:
        return 2.0 ** whole.bit_length() - 1
    return _of_bits(whole)


def _of_bits(highest: int) -> float:
    """Return the smallest full scale of 8, 10, 12, ... bits that is at least ``highest``."""
    bits = max(8, highest.bit_length())
    return 2.0 ** (bits + bits % 2) - 1


def _ends(scale: Scale) -> str:
    low, high = (f"{end:.0f}" if end == round(end) else f"{end:.4g}" for end in scale)
    return f"{low} to {high}"


@dataclass
class Tally:
    """Counts over the images of a source."""

    turned: int = 0
    transparent: int = 0
    deep_color: int = 0
    late_color: int = 0
    looked_at: int = 0
    constant: int = 0
    first_constant: str = ""
    brightest: int = 0

    def add(self, traits: Traits) -> None:
        """Count the traits of an image."""
        self.turned += traits.turned
        self.transparent += traits.transparent
        if traits.deep_color is not None:
            self.deep_color += 1
            self.brightest = max(self.brightest, traits.deep_color)

    def add_checked(self, constant: bool, where: str) -> None:
        """Count an image that was checked for being constant."""
        self.looked_at += 1
        self.constant += constant
        if constant and not self.first_constant:
            self.first_constant = where

    def check_color(self, where: str) -> None:
        """Refuse color images of 16 bits per channel whose upper 8 bits are nearly empty.

        Raises:
            UserError: None of the counted images reaches a quarter of the full scale.
        """
        if self.deep_color and self.brightest < FEW:
            raise UserError(
                f"{where}: color images of 16 bits per channel have values of at most "
                f"{256 * self.brightest + 255:,} of 65,535 in training, and only their upper 8 "
                "bits can be read; scale the values to 0 to 65,535, or save 8 bits per channel"
            )

    def counted(self, decided: Decoding) -> Decoding:
        """Return a decoding with these counts."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "brightest"}
        return replace(decided, **counts)
