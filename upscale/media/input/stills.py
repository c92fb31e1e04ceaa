"""Which files are pictures: by their names, and by their first bytes."""

from __future__ import annotations

import os
import re

#: Extensions of files that may be pictures.
PICTURE_EXTENSIONS = frozenset("avif bmp dib jfif jpe jpeg jpg png tif tiff webp".split())

#: What a file of each format begins with.
_BEGINNINGS = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "AVIF": re.compile(rb"....ftyp(?:avif|mif1....(?:....)*?avif)", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    "BMP": re.compile(rb"BM"),
}
#: Bytes in which an animation shows: PNG's acTL chunk may come after a colour profile.
_HEAD = 1 << 16
#: The flags of a WebP file's VP8X chunk: where they are, and the one of an animation.
_WEBP_FLAGS, _WEBP_ANIMATED = 20, 2


def picture_format(path: str) -> str | None:
    """Pillow's name for a still picture's format, or None for everything else, animations too.

    Only regular files with one of `PICTURE_EXTENSIONS` are looked into; a file that cannot be read is none.
    """
    if os.path.splitext(path)[1][1:].lower() not in PICTURE_EXTENSIONS or not os.path.isfile(path):
        return None
    head = _head(path)
    found = next((name for name, begin in _BEGINNINGS.items() if begin.match(head)), None)
    return None if found is None or is_animated(head) else found


def is_animated_webp(path: str) -> bool:
    """Whether a file is an animated WebP, which FFmpeg does not decode."""
    if os.path.splitext(path)[1].lower() != ".webp" or not os.path.isfile(path):
        return False
    head = _head(path)
    return _BEGINNINGS["WEBP"].match(head) is not None and is_animated(head)


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def is_animated(head: bytes) -> bool:
    """Whether a PNG or WebP file that begins so is an animation."""
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head.partition(b"IDAT")[0]
    is_extended = head[8:16] == b"WEBPVP8X" and len(head) > _WEBP_FLAGS
    return is_extended and bool(head[_WEBP_FLAGS] & _WEBP_ANIMATED)
