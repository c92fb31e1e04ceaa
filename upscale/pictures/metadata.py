"""What a picture's file says beside its pixels, as it stands there: nothing is decoded that need not change.

Only what names the old size changes: EXIF's four numbers of pixels are overwritten where they stand, so that
everything else, makers' notes with their offsets too, stays as it was.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from upscale.pictures.picture import Metadata

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
#: EXIF's tags of the width and height, and of the directory in which the second pair stands.
_WIDTHS, _HEIGHTS, _EXIF_DIRECTORY = (0x0100, 0xA002), (0x0101, 0xA003), 0x8769
_ORIENTATION = 0x0112
#: Types of EXIF's and TIFF's values.
_BYTE, _SHORT, _LONG = 1, 3, 4

#: PNG's ancillary chunks that describe the old pixels (or that are written from other knowledge): left out.
_STALE_CHUNKS = frozenset(b"tRNS bKGD hIST sBIT sPLT iCCP pHYs eXIf acTL fcTL fdAT tIME".split())
#: JPEG's segments that are written from other knowledge: JFIF, EXIF, profile, Adobe's colour transform.
_JPEG_MADE = (b"JFIF\0", b"JFXX\0", _EXIF, b"ICC_PROFILE\0", b"Adobe\0")
#: TIFF's tags that say something about the picture, not about how its pixels are stored: texts, and
#: directories of EXIF and GPS.
_TEXTS = (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432)
_DIRECTORIES = (_EXIF_DIRECTORY, 0x8825)
#: XMP, IPTC and Photoshop's in TIFF.
_XMP_TAG, _PACKETS = 700, (700, 33723, 34377)


def metadata_of(image: Image.Image, data: bytes) -> Metadata:
    """Everything that is kept of an opened image, `data` being the whole file."""
    info = image.info
    exif = info.get("exif")
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    tags: dict[int, bytes] = {}
    if image.format == "TIFF":
        exif = _tiff_exif(image)
        tags = {tag: _as_bytes(image.tag_v2[tag]) for tag in _PACKETS if tag in image.tag_v2}  # type: ignore[attr-defined]
        xmp = tags.get(_XMP_TAG)
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif.removeprefix(_EXIF) if isinstance(exif, bytes) and exif else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=_dpi(info.get("dpi")),
        chunks=tuple(_png_chunks(data)) if image.format == "PNG" else (),
        segments=b"".join(_jpeg_segments(data)) if image.format in ("JPEG", "MPO") else b"",
        tags=tags,
    )


def resized(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """`metadata` with the size (width, height) that the picture has now."""
    return replace(metadata, exif=None if metadata.exif is None else resized_exif(metadata.exif, size))


def resized_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """EXIF that begins with TIFF's byte order, with other numbers of pixels; damaged EXIF as it is."""
    data = bytearray(exif)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return exif

    def directory(at: int, depth: int = 0) -> None:
        (count,) = struct.unpack_from(order + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(order + "HHII", data, entry)
            if tag == _EXIF_DIRECTORY and depth == 0:
                directory(value, 1)
            side = size[0] if tag in _WIDTHS else size[1] if tag in _HEIGHTS else None
            if side is not None and number == 1 and kind in (_SHORT, _LONG):
                struct.pack_into(order + ("H" if kind == _SHORT else "I"), data, entry + 8, side)

    try:
        directory(struct.unpack_from(order + "I", data, 4)[0])
    except struct.error:
        return exif
    return bytes(data)


def jpeg_segment(marker: int, data: bytes) -> bytes:
    """One segment; empty if `data` is too long for one."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data if len(data) <= 65533 else b""


def xmp_segment(xmp: bytes) -> bytes:
    return jpeg_segment(0xE1, _XMP + xmp)


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(v) for v in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e5 and 0 < down < 1e5 else None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        is_ancillary = bool(kind[0] & 0x20)
        whole = data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(kind + body))
        if is_ancillary and whole and kind not in _STALE_CHUNKS:
            yield kind, body
        at += 12 + length


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """APPn and COM before the first scan, but for those that are made again and for further pictures."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if marker == 0xDA or length < 2:
            return
        body = data[at + 4 : at + 2 + length]
        is_made = body.startswith(_JPEG_MADE) or (marker == 0xE2 and body.startswith(b"MPF\0"))
        if (0xE0 <= marker <= 0xEF or marker == 0xFE) and not is_made:
            yield data[at : at + 2 + length]
        at += 2 + length


def _tiff_exif(image: Image.Image) -> bytes | None:
    """The texts and directories of a TIFF file as EXIF; Pillow has turned its pixels upright already."""
    found, exif = image.getexif(), Image.Exif()
    for tag in _TEXTS:
        if tag in found:
            exif[tag] = found[tag]
    for tag in _DIRECTORIES:
        if directory := found.get_ifd(tag):
            exif[tag] = directory
    return exif.tobytes().removeprefix(_EXIF) if len(exif) else None


def tiff_tags(metadata: Metadata) -> ImageFileDirectory_v2:
    """What is kept as tags of a TIFF file."""
    tags = ImageFileDirectory_v2()
    if metadata.exif:
        exif = Image.Exif()
        exif.load(_EXIF + metadata.exif)
        for tag in (*_TEXTS, _ORIENTATION):
            if tag in exif:
                tags[tag] = exif[tag]
    packets = metadata.tags or ({_XMP_TAG: metadata.xmp} if metadata.xmp else {})
    for tag, packet in packets.items():
        tags.tagtype[tag] = _BYTE
        tags[tag] = packet
    return tags


def with_directories(tiff: bytes, metadata: Metadata) -> bytes:
    """A TIFF file with the directories of EXIF and GPS, which libtiff's compressors in Pillow cannot write.

    They are appended, and after them the first directory once more, with two entries more.
    """
    if not metadata.exif:
        return tiff
    exif = Image.Exif()
    exif.load(_EXIF + metadata.exif)
    order = "<" if tiff[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, at)
    end = at + 2 + 12 * count
    entries = {struct.unpack_from(order + "H", tiff, n)[0]: tiff[n : n + 12] for n in range(at + 2, end, 12)}
    data = bytearray(tiff)
    for tag in _DIRECTORIES:
        if values := exif.get_ifd(tag):
            data += b"\0" * (len(data) % 2)
            directory = ImageFileDirectory_v2(prefix=tiff[:2], group=tag)
            for name, value in values.items():
                directory[name] = value
            entries[tag] = struct.pack(order + "HHII", tag, _LONG, 1, len(data))
            data += directory.tobytes(len(data))
    data += b"\0" * (len(data) % 2)
    struct.pack_into(order + "I", data, 4, len(data))
    data += struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    return bytes(data + tiff[end : end + 4])


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else bytes(value)
