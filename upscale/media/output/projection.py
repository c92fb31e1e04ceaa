"""360° projections in the output's header.

PyAV has no call that gives a stream such side data, but a stream that is made from another takes over what
that one has. So a Matroska header with the wanted elements is written here, opened, and used as the model.
(To be removed once PyAV can set side data of streams, as `set_display_matrix` does for rotations.)

Sources: RFC 9559 (Matroska), section 5.1.4.1.28.41; `AVSphericalMapping` of FFmpeg.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import Any

import av

#: Encoders whose streams can be made from a model, and the codec's name in Matroska.
_CODECS = {"libx264": b"V_MPEG4/ISO/AVC", "libx265": b"V_MPEGH/ISO/HEVC", "libvpx-vp9": b"V_VP9"}
_EQUIRECTANGULAR, _CUBEMAP, _TILE = 0, 1, 2  # AVSphericalProjection
_ALL = frozenset({_EQUIRECTANGULAR, _CUBEMAP, _TILE})
#: Projections that muxers write; the mov family only with FFmpeg's option `strict` set to "unofficial".
_MUXERS = {"matroska": _ALL, "webm": _ALL, "mp4": _ALL, "mov": frozenset({_EQUIRECTANGULAR})}


def model_header(encoder: str, muxer: str, size: tuple[int, int], spherical: bytes) -> bytes | None:
    """A Matroska file without frames whose stream has this projection; None if it cannot be written so.

    Args:
        encoder, muxer: of the output, as FFmpeg calls them.
        size: (width, height) of the output.
        spherical: an `AVSphericalMapping`, as frames carry it.
    """
    projection = _projection(spherical, muxer)
    if encoder not in _CODECS or projection is None:
        return None
    video = _number("B0", size[0]) + _number("BA", size[1]) + projection
    entry = _number("D7", 1) + _number("73C5", 1) + _number("83", 1) + _element("86", _CODECS[encoder])
    info = _number("2AD7B1", 1_000_000) + _element("4D80", b"upscale") + _element("5741", b"upscale")
    cluster = _number("E7", 0) + _element("A3", b"\x81\0\0\x80\0")  # the demuxer wants one block
    segment = _element("1549A966", info) + _element("1654AE6B", _element("AE", entry + _element("E0", video)))
    return _element("1A45DFA3", _element("4282", b"matroska")) + _element(
        "18538067", segment + _element("1F43B675", cluster)
    )


@contextlib.contextmanager
def model_stream(header: bytes) -> Iterator[Any]:
    """The video stream of a `model_header`, for ``add_stream_from_template``."""
    with av.open(io.BytesIO(header), format="matroska") as container:
        yield container.streams.video[0]


def _projection(spherical: bytes, muxer: str) -> bytes | None:
    """Matroska's element `Projection`; None for projections that the muxer does not write."""
    kind, yaw, pitch, roll, left, top, right, bottom, padding = struct.unpack_from("<i3i5I", spherical)
    if kind not in _MUXERS.get(muxer, ()):
        return None
    if kind == _CUBEMAP:
        number, private = 2, struct.pack(">3I", 0, 0, padding)
    else:
        number, private = 1, struct.pack(">5I", 0, top, bottom, left, right)
    pose = [
        _element(name, struct.pack(">f", angle / (1 << 16)))
        for name, angle in zip(("7673", "7674", "7675"), (yaw, pitch, roll), strict=True)
    ]
    return _element("7670", _number("7671", number) + _element("7672", private) + b"".join(pose))


def _element(name: str, data: bytes) -> bytes:
    """An EBML element with a size of four bytes."""
    return bytes.fromhex(name) + (0x10000000 | len(data)).to_bytes(4, "big") + data


def _number(name: str, value: int) -> bytes:
    return _element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
