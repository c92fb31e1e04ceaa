"""The sizes of a video whose size changes: recorded calls and screens do that, and joined broadcasts.

A decoder follows such a change without a word. Which sizes there are is looked up before the job begins, in
the headers of the key frames, because one size must hold for all of the output.
"""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from upscale.media.input.bitstream import size_header
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
