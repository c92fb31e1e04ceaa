"""The sizes of a video whose size changes: recorded calls and screens do that, and joined broadcasts.

A decoder follows such a change without a word. Which sizes there are is looked up before the job begins, in
the headers of the key frames, because one size must hold for all of the output.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from upscale.media.input.open import media_error, open_input

if TYPE_CHECKING:
    from upscale.media.input.reader import Reader
    from upscale.options import Options

Size = tuple[int, int]


def chosen_size(reader: Reader, options: Options) -> Size:
    """(width, height) for all frames: the largest of the file, or what fits the wanted width and height best.

    Where no more can be known (pipes, URLs), or headers stand at the file's start only, it is the first.

    Raises:
        MediaError: the file cannot be read.
    """
    first = reader.first[0].width, reader.first[0].height
    if not (reader.address.protocols == "file" and reader.size_header):
        return first
    sizes = list(dict.fromkeys([first, *_other_sizes(reader, options)]))
    if options.width and options.height:
        wanted = math.log(options.width / options.height)
        return min(sizes, key=lambda s: (abs(math.log(s[0] / s[1]) - wanted), -s[0] * s[1]))
    return max(sizes, key=lambda s: s[0] * s[1])


#: What was found, by file, its time and size, and the end of the part: a job in pieces opens it often.
_found: dict[tuple[str, int, int, float | None], list[Size]] = {}


def _other_sizes(reader: Reader, options: Options) -> list[Size]:
    """Of key frames whose header is another one than the first, up to the end of the part."""
    try:
        status = os.stat(reader.path)
    except OSError as error:
        raise media_error(error, reader.path) from None
    key = reader.path, status.st_size, status.st_mtime_ns, options.stop
    if key not in _found:
        _found[key] = _scan(reader, options)
    return _found[key]


def _scan(reader: Reader, options: Options) -> list[Size]:
    known = {reader.size_header}
    sizes: list[Size] = []
    with open_input(reader.path, options) as container:
        stream = container.streams[reader.video.index]
        context: Any = stream.codec_context
        base = Fraction(stream.time_base or 1)
        end = None
        if options.stop is not None:
            end = Fraction(container.start_time or 0, av.time_base) + Fraction(options.stop) + 1
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and end is not None and packet.pts * base > end:
                    break
                header = size_header(context, packet) if packet.size and packet.is_keyframe else b""
                if header and header not in known:
                    known.add(header)
                    sizes += [(f.width, f.height) for f in map(reader.shown, _decoded(context, packet))]
        except (av.FFmpegError, OSError) as error:
            raise media_error(error, reader.path) from None
    return sizes


def _decoded(context: Any, packet: av.Packet[Any]) -> list[av.VideoFrame]:
    """What one key frame gives by itself; nothing if it is damaged."""
    try:
        return [*context.decode(packet), *context.decode(None)]
    except (av.FFmpegError, ValueError):
        return []
    finally:
        context.flush_buffers()


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
