"""From a file to a `Picture`, whatever is in it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from upscale.errors import MediaError, UpscaleError, UsageError, first_line
from upscale.media.input.open import MAX_PIXELS, TOO_LARGE, check_input
from upscale.pictures.metadata import metadata_of
from upscale.pictures.picture import Picture, Plane

#: What Pillow may open: no format that runs other programs or reads other files.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "DIB")
#: Pillow's mode of a picture → ours, and whether it has transparency.
_MODES = {
    "1": ("L", False),
    "L": ("L", False),
    "LA": ("L", True),
    "La": ("L", True),
    "P": ("RGB", False),
    "PA": ("RGB", True),
    "RGB": ("RGB", False),
    "RGBX": ("RGB", False),
    "RGBA": ("RGB", True),
    "RGBa": ("RGB", True),
    "YCbCr": ("RGB", False),
    "CMYK": ("CMYK", False),
}
#: What a picture of 16 bits per sample is in Pillow, where it can be read so at all: grey alone.
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
#: What other modes of Pillow hold.
_REFUSED = {"F": "floating-point samples", "LAB": "Lab colours", "HSV": "HSV colours"}
#: JPEG quality below which an enlarged picture would show the codec more than the original does.
MIN_QUALITY = 85
#: Quality of the lossy formats whose own cannot be told from the file.
QUALITY = {"WEBP": 90, "AVIF": 85}


def read_picture(path: str) -> Picture:
    """Decode a picture.

    Raises:
        MediaError: missing, damaged, cut off, too large, or of a kind that cannot be kept.
        UsageError: several pictures in one file.
    """
    check_input(path)
    with picture_errors(path):
        with open(path, "rb") as file:
            data = file.read()
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaError(TOO_LARGE, path=path)
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise UsageError(f"a TIFF of {image.n_frames} pages: split it first", path=path)  # type: ignore[attr-defined]
            deep = image.mode in _DEEP or _has_deep_samples(image)
            notes = [*_notes(image, data, deep)]
            encoding = _encoding(image, data)
            image.load()  # a TIFF is turned upright, and loses its orientation
            metadata = metadata_of(image, data)
            kind = {"MPO": "JPEG", "DIB": "BMP"}.get(str(image.format), str(image.format))
            mode, planes, alpha = _pixels(image, deep, path)
    return Picture(
        format=kind, mode=mode, planes=planes, alpha=alpha, encoding=encoding, metadata=metadata,
        notes=tuple(notes),
    )  # fmt: skip


@cache
def readable_formats() -> tuple[str, ...]:
    """Of the formats that may be read, those that this Pillow can: AVIF came with 11.3."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def picture_errors(path: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a file of unknown origin into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused by MAX_PIXELS, odd tags are kept
            yield
    except (UpscaleError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise MediaError(TOO_LARGE, path=path) from None
    except UnidentifiedImageError:
        raise MediaError("not a picture that can be read, or damaged", path=path) from None
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        raise MediaError(f"the picture is damaged: {first_line(error)}", path=path) from None


def _pixels(image: Image.Image, deep: bool, path: str) -> tuple[str, tuple[Plane, ...], Any]:
    """Mode, planes and opacity."""
    if image.mode in _DEEP:
        values = np.asarray(image)
        if image.mode == "I" and (values.min() < 0 or values.max() > 0xFFFF or not deep):
            raise MediaError("32 bits per sample cannot be kept", path=path)
        return "L", (values.astype(np.uint16),), None
    if image.mode not in _MODES:
        raise MediaError(f"{_REFUSED.get(image.mode, image.mode)} cannot be kept", path=path)
    mode, transparent = _MODES[image.mode]
    if not transparent and "transparency" in image.info:  # one colour, or a palette's entries
        transparent = True
        if mode == "RGB":
            image = image.convert("RGBA")
    bands = image.convert(f"{mode}A" if transparent else mode).split()
    planes = [np.asarray(band) for band in bands]
    alpha = planes.pop() if transparent else None
    if mode == "CMYK":  # as light, which is what the network knows
        planes = [255 - plane for plane in planes]
    return mode, tuple(planes), alpha


def _has_deep_samples(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has 16 bits per sample in its file."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _notes(image: Image.Image, data: bytes, deep: bool) -> Iterator[str]:
    """What is lost in reading."""
    if deep and image.mode not in _DEEP:
        yield "16 bits per sample are read as 8"
    if image.mode in _DEEP and "transparency" in image.info:
        yield "the transparent grey of a 16-bit picture is left out"
    if image.mode == "1":
        yield "black and white becomes grey"
    if image.format == "AVIF" and (found := _av1_config(data)) and found[2] & 0x40:
        yield "10 or 12 bits per sample are read as 8"
    if image.format == "MPO":
        yield "further pictures in this file (a preview, a gain map) are left out"


def _encoding(image: Image.Image, data: bytes) -> dict[str, Any]:
    """Arguments of `save` that write a picture of the same format as this one was written."""
    match image.format:
        case "JPEG" | "MPO":
            return _jpeg_encoding(image)
        case "WEBP":
            if b"VP8L" in data[:64] or b"VP8L" in _webp_chunks(data):
                return {"lossless": True, "exact": True}
            return {"quality": QUALITY["WEBP"], "method": 4}
        case "AVIF":
            found = _av1_config(data)
            whole = found is not None and not found[2] & 0x0C
            return {"quality": QUALITY["AVIF"], "subsampling": "4:4:4" if whole else "4:2:0"}
        case "TIFF":
            return {"compression": str(image.info.get("compression", "raw"))}
    return {}


def _jpeg_encoding(image: Any) -> dict[str, Any]:
    """The input's own quantisation where it is fine enough; its subsampling, progressive if it was."""
    quality = jpeg_quality(image.quantization)
    encoding: dict[str, Any] = {"progressive": bool(image.info.get("progressive"))}
    encoding |= {"qtables": image.quantization} if quality >= MIN_QUALITY else {"quality": MIN_QUALITY}
    sampling = JpegImagePlugin.get_sampling(image)
    if sampling >= 0:
        encoding["subsampling"] = sampling
    if image.mode == "RGB" and image.info.get("adobe_transform") == 0:
        encoding["keep_rgb"] = True
    return encoding


#: The luminance table of JPEG's standard (Annex K), which is quality 50; its entries sum to 3688.
_STANDARD_SUM = 3688


def jpeg_quality(tables: dict[int, list[int]]) -> int:
    """libjpeg's quality, 1 … 100, whose luminance table is as coarse as the first of these."""
    percent = 100 * sum(tables[min(tables)]) / _STANDARD_SUM if tables else 100.0
    quality = 100 - percent / 2 if percent <= 100 else 5000 / percent
    return max(1, min(100, round(quality)))


def _webp_chunks(data: bytes) -> list[bytes]:
    """The types of the chunks of a WebP file."""
    kinds, at = [], 12
    while at + 8 <= len(data):
        kinds.append(data[at : at + 4])
        at += 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
    return kinds


def _av1_config(data: bytes) -> bytes | None:
    """AV1's configuration record of an AVIF file: its third byte has the depth and the subsampling."""
    at = data.find(b"av1C")
    return data[at + 4 : at + 8] if at >= 0 and len(data) >= at + 8 else None
