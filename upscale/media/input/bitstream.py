"""What packets say about themselves before they are decoded: whether they are shown, and their size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av


def is_hidden(codec: str, packet: av.Packet[Any]) -> bool:
    """Whether a packet holds a VP8 or VP9 frame that is decoded but never shown (RFC 6386, 9.1; VP9, 6.2)."""
    first, last = memoryview(packet)[0], memoryview(packet)[-1]
    if codec in ("vp8", "libvpx"):
        return not first & 0x10
    if (
        codec in ("vp9", "libvpx-vp9") and last & 0xE0 != 0xC0
    ):  # else a superframe, which shows its last frame
        # show_existing_frame and show_frame; profile 3 has a reserved bit before them.
        return not first & (0b0101 if first & 0x30 == 0x30 else 0b1010)
    return False


def size_header(context: Any, packet: av.Packet[Any]) -> bytes:
    """The bytes of a key frame in which its size is written; empty where there are none.

    For H.264 and HEVC the sequence parameter sets, for AV1 the sequence header, for MPEG-1 and 2 the size
    itself, for VP8 and VP9 the first bytes (RFC 6386, 9.1; VP9, 6.2). Of other codecs they are not known.
    """
    data = bytes(packet)
    match context.codec.canonical_name:
        case "vp8":
            return data[3:10]
        case "vp9":
            return data[1:9]
        case "mpeg1video" | "mpeg2video":
            at = data.find(b"\0\0\1\xb3")
            return data[at + 4 : at + 7] if at >= 0 else b""
        case "av1":
            return b"".join(unit for kind, unit in _open_units(data) if kind == 1)
        case "h264":
            return b"".join(n for n in _network_units(data, context.extradata, 4) if n[0] & 31 == 7)
        case "hevc":
            return b"".join(n for n in _network_units(data, context.extradata, 21) if n[0] >> 1 & 63 == 33)
        case "vvc":
            return b"".join(
                n for n in _network_units(data, context.extradata, 4) if n[1:] and n[1] >> 3 == 15
            )
        case _:
            return b""


def _network_units(data: bytes, extradata: bytes | None, place: int) -> Iterator[bytes]:
    """NAL units, behind start codes or behind their length as extradata has it at `place`."""
    if data.startswith((b"\0\0\1", b"\0\0\0\1")) or not extradata or len(extradata) <= place:
        yield from (unit for unit in data.split(b"\0\0\1")[1:] if unit)
        return
    width, at = (extradata[place] & 3) + 1, 0
    while at + width < len(data):
        size = int.from_bytes(data[at : at + width])
        if size:
            yield data[at + width : at + width + size]
        at += width + size


def _open_units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of AV1's open bitstream units."""
    at = 0
    while at < len(data):
        kind, begin = data[at] >> 3 & 15, at + 1 + (data[at] >> 2 & 1)
        if not data[at] & 2:  # no size: it reaches to the end
            yield kind, data[begin:]
            return
        size = shift = 0
        while begin < len(data):  # LEB128
            byte = data[begin]
            size |= (byte & 127) << shift
            shift, begin = shift + 7, begin + 1
            if byte < 128:
                break
        yield kind, data[begin : begin + size]
        at = begin + size
