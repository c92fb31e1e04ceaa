"""From a `Picture` to a file: the format of its name, with everything that the format can hold."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from upscale.errors import OutputError, UsageError, first_line
from upscale.pictures.metadata import tiff_tags, with_directories, xmp_segment
from upscale.pictures.picture import Metadata, Picture
from upscale.pictures.read import QUALITY, picture_errors
from upscale.system.safe_file import write_whole

#: Extension → Pillow's name of the format.
FORMATS = {
    "avif": "AVIF",
    "bmp": "BMP",
    "dib": "BMP",
    "jfif": "JPEG",
    "jpe": "JPEG",
    "jpeg": "JPEG",
    "jpg": "JPEG",
    "png": "PNG",
    "tif": "TIFF",
    "tiff": "TIFF",
    "webp": "WEBP",
}
#: How pictures of other formats are written.
_ENCODING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 92, "subsampling": 0},
    "WEBP": {"quality": QUALITY["WEBP"], "method": 4},
    "AVIF": {"quality": QUALITY["AVIF"], "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
#: What each format holds: modes, transparency, 16 bits, colour profile, EXIF, XMP.
_CMYK, _ALPHA, _DEEP, _ICC, _EXIF, _XMP = "CMYK", "transparency", "16 bits", "colour profile", "EXIF", "XMP"
_HOLDS = {
    "PNG": {_ALPHA, _DEEP, _ICC, _EXIF, _XMP},
    "JPEG": {_CMYK, _ICC, _EXIF, _XMP},
    "WEBP": {_ALPHA, _ICC, _EXIF, _XMP},
    "AVIF": {_ALPHA, _ICC, _EXIF, _XMP},
    "TIFF": {_CMYK, _ALPHA, _DEEP, _ICC, _EXIF, _XMP},
    "BMP": {_ALPHA},
}
#: TIFF's compressions that Pillow writes for all modes; others become deflate.
_TIFF_COMPRESSIONS = frozenset({"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"})


def output_format(path: str) -> str:
    """Pillow's name of the format that a file name asks for.

    Raises:
        UsageError: none of ours, or this Pillow cannot write it.
    """
    ending = os.path.splitext(path)[1][1:].lower()
    if ending not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"a picture can be written as {known}, not as .{ending}")
    found = FORMATS[ending]
    Image.init()
    if found not in Image.SAVE:
        raise UsageError(f"this Pillow cannot write {found}")
    return found


def check_format(picture: Picture, path: str) -> list[str]:
    """What the file at `path` will not hold of a picture, as notes.

    Raises:
        UsageError: the format cannot hold its pixels at all.
    """
    kind = output_format(path)
    lost = [name for name in held_by(picture) if name not in _HOLDS[kind]]
    for name in (_CMYK, _ALPHA, _DEEP):
        if name in lost:
            raise UsageError(f"{kind} holds no {name}: choose another output, such as .tif", path=path)
    return [f"{kind} holds no {' and no '.join(lost)}: left out"] if lost else []


def held_by(picture: Picture) -> list[str]:
    """What a picture has beside 8-bit grey or RGB: some of "transparency", "EXIF" and so on."""
    metadata = picture.metadata
    wanted = {
        _CMYK: picture.mode == "CMYK",
        _ALPHA: picture.alpha is not None,
        _DEEP: picture.bits == 16,
        _ICC: metadata.icc,
        _EXIF: metadata.exif,
        _XMP: metadata.xmp,
    }
    return [name for name, there in wanted.items() if there]


def write_picture(picture: Picture, path: str, *, overwrite: bool) -> int:
    """Write a picture; it appears under its name only when it is whole. Returns its size in bytes.

    Raises:
        UsageError: as `check_format`.
        OutputError: the encoder or the disk refused, or what was written is not what was meant.
    """
    check_format(picture, path)
    data = encode(picture, output_format(path), path)
    write_whole(path, data, overwrite=overwrite)
    return len(data)


def encode(picture: Picture, kind: str, path: str = "") -> bytes:
    """The bytes of a file of Pillow's format `kind`; they are read once more before they are given."""
    metadata = picture.metadata
    settings = picture.encoding if kind == picture.format else _ENCODING.get(kind, {})
    if kind in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF") and metadata.icc:
        settings = settings | {"icc_profile": metadata.icc}
    if metadata.dpi is not None and kind in ("PNG", "JPEG", "TIFF", "BMP"):
        settings = settings | {"dpi": metadata.dpi}
    settings = settings | _FORMAT_SETTINGS[kind](picture) if kind in _FORMAT_SETTINGS else settings
    buffer = io.BytesIO()
    try:
        to_image(picture).save(buffer, kind, **settings)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SystemError) as error:
        raise OutputError(f"cannot be written as {kind}: {first_line(error)}", path=path or None) from error
    data = buffer.getvalue()
    if kind == "TIFF":
        data = with_directories(data, metadata)
    with picture_errors(path), Image.open(io.BytesIO(data), formats=[kind]) as written:
        if written.size != (picture.width, picture.height):
            raise OutputError("what was written has another size", path=path or None)
    return data


def to_image(picture: Picture) -> Image.Image:
    """A picture as Pillow has it."""
    planes = list(picture.planes)
    if picture.bits == 16:
        return Image.fromarray(planes[0].astype("<u2"))
    if picture.mode == "CMYK":
        planes = [255 - plane for plane in planes]
    if picture.alpha is not None:
        planes.append(picture.alpha)
    bands = [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
    mode = picture.mode + ("A" if picture.alpha is not None else "")
    return bands[0] if len(bands) == 1 else Image.merge(mode, bands)


def _png(picture: Picture) -> dict[str, Any]:
    metadata = picture.metadata
    info = PngImagePlugin.PngInfo()
    for kind, body in metadata.chunks:
        info.add(kind, body)
    if metadata.xmp and picture.format != "PNG":
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return {"pnginfo": info} | _exif(metadata)


def _jpeg(picture: Picture) -> dict[str, Any]:
    metadata = picture.metadata
    extra = metadata.segments
    if metadata.xmp and picture.format != "JPEG":
        extra += xmp_segment(metadata.xmp)
    return {"extra": extra, "optimize": True} | _exif(metadata)


def _webp(picture: Picture) -> dict[str, Any]:
    return _exif(picture.metadata) | ({"xmp": picture.metadata.xmp} if picture.metadata.xmp else {})


def _tiff(picture: Picture) -> dict[str, Any]:
    settings: dict[str, Any] = {"tiffinfo": tiff_tags(picture.metadata)}
    if picture.encoding.get("compression", "raw") not in _TIFF_COMPRESSIONS:
        settings["compression"] = "tiff_adobe_deflate"
    return settings


def _exif(metadata: Metadata) -> dict[str, Any]:
    return {"exif": b"Exif\0\0" + metadata.exif} if metadata.exif else {}


_FORMAT_SETTINGS = {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "AVIF": _webp, "TIFF": _tiff}
