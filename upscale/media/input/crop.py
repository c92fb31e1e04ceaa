"""Cropping that the container asks for: Matroska's PixelCrop elements, and MP4's clean aperture (clap).

What is cut off is never shown: it is left out before the network. FFmpeg reads both; PyAV hands them on only
since version 19, and before that they are read here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from upscale.media.input.convert import filter_graph, through
from upscale.media.input.matroska import element

if TYPE_CHECKING:
    import av
    from av.filter import Graph

#: Largest header that is read into memory for this.
_MOST = 1 << 26


@dataclass(frozen=True, slots=True)
class Crop:
    """Rows and columns of the decoded picture that are not shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


class Cropper:
    """Cuts frames as a container asks for, keeping their times and all they carry."""

    def __init__(self, crop: Crop) -> None:
        self._crop = crop
        self._graphs: dict[tuple[int, int, str], Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The part that is shown; the frame itself where nothing of it would be left."""
        crop = self._crop
        width, height = frame.width - crop.left - crop.right, frame.height - crop.top - crop.bottom
        if width < 1 or height < 1:
            return frame
        key = (frame.width, frame.height, frame.format.name)
        if key not in self._graphs:
            # As FFmpeg's program: at whole samples of the chroma planes.
            arguments = f"w={width}:h={height}:x={crop.left}:y={crop.top}"
            self._graphs[key] = filter_graph(frame, "crop", arguments)
        return through(self._graphs[key], frame)


def container_crop(path: str | None, format: str, number: int, context: Any) -> Crop | None:
    """What the container says of one video stream; None where that is nothing, or no more than nonsense.

    Args:
        path: of the file; None where it cannot be read a second time.
        format: FFmpeg's name of the demuxer.
        number: of the stream among the file's video streams.
        context: its codec context.

    Raises:
        OSError: the file cannot be read any more.
    """
    side_data = getattr(context, "coded_side_data", None)
    if side_data is not None:  # PyAV 19
        data = side_data.get("frame_cropping")
        found = [] if data is None else [Crop(*struct.unpack_from("<4I", bytes(data)))] * (number + 1)
    elif path is None:
        return None
    else:
        read = {"matroska,webm": matroska_crops, "mov,mp4,m4a,3gp,3g2,mj2": mp4_crops}.get(format)
        if read is None:
            return None
        with open(path, "rb") as file:
            found = read(file)
    crop = found[number] if number < len(found) else Crop()
    return None if crop == Crop() else crop


def matroska_crops(file: BinaryIO) -> list[Crop]:
    """Of each video track, in the order of the file."""
    tracks = _find_tracks(file)
    found = []
    for name, entry in _elements(tracks):
        if name != _TRACK_ENTRY:
            continue
        fields = dict(_elements(entry))
        if int.from_bytes(fields.get(_TRACK_TYPE, b"")) == 1:
            video = dict(_elements(fields.get(_VIDEO, b"")))
            found.append(Crop(*(int.from_bytes(video.get(i, b"")) for i in _PIXEL_CROP)))
    return found


_SEGMENT, _TRACKS, _CLUSTER = 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK_ENTRY, _TRACK_TYPE, _VIDEO = 0xAE, 0x83, 0xE0
#: PixelCropTop, Bottom, Left, Right.
_PIXEL_CROP = (0x54BB, 0x54AA, 0x54CC, 0x54DD)


def _find_tracks(file: BinaryIO) -> bytes:
    """The content of the Tracks element; empty if there is none before the first cluster."""
    at = 0
    while True:
        file.seek(at)
        found = element(file.read(12), 0)
        if found is None:
            return b""
        name, begin, end = found
        if name == _SEGMENT:
            at += begin
        elif end is None or name == _CLUSTER:
            return b""
        elif name == _TRACKS:
            file.seek(at + begin)
            return file.read(min(end - begin, _MOST))
        else:
            at += end


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(id, content) of the elements that follow each other in `data`."""
    at: int | None = 0
    while at is not None and (found := element(data, at)) is not None:
        name, begin, at = found
        yield name, data[begin:at]


def mp4_crops(file: BinaryIO) -> list[Crop]:
    """Of each video track, in the order of the file."""
    found = []
    for track in (t for kind, t in _boxes(_movie(file)) if kind == b"trak"):
        media = dict(_boxes(dict(_boxes(track)).get(b"mdia", b"")))
        if media.get(b"hdlr", b"")[8:12] == b"vide":
            table = dict(_boxes(dict(_boxes(media.get(b"minf", b""))).get(b"stbl", b"")))
            entry = next((e for _, e in _boxes(table.get(b"stsd", b"")[8:])), b"")
            aperture = dict(_boxes(entry[78:])).get(b"clap", b"")
            found.append(_clean_aperture(entry, aperture) if len(aperture) >= 32 else Crop())
    return found


def _movie(file: BinaryIO) -> bytes:
    """The content of the moov box; empty if there is none."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return b""
        size, kind = struct.unpack_from(">I4s", head)
        header = 8
        if size == 1 and len(head) == 16:
            header, size = 16, struct.unpack_from(">Q", head, 8)[0]
        if kind == b"moov":
            file.seek(at + header)
            return file.read(min(size - header, _MOST) if size else _MOST)
        if size < header:
            return b""
        at += size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes that follow each other in `data`."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _clean_aperture(entry: bytes, aperture: bytes) -> Crop:
    """ISO 14496-12, 12.1.4: size and offset of its centre; rounded as FFmpeg does."""
    width, height = struct.unpack_from(">2H", entry, 24)
    numbers = struct.unpack_from(">4IiIiI", aperture)
    if 0 in numbers[1::2]:
        return Crop()
    across, down, x, y = (Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True))
    left, right = (math.trunc((width - 1) / Fraction(2) + x + side * (across - 1) / 2) for side in (-1, 1))
    top, bottom = (math.trunc((height - 1) / Fraction(2) + y + side * (down - 1) / 2) for side in (-1, 1))
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        return Crop()
    return Crop(top, height - 1 - bottom, left, width - 1 - right)
