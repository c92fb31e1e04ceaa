"""Output streams, made from input streams: copied or attached. `conversion` has those that are converted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import av
from av.format import Flags
from av.stream import Disposition

from upscale.errors import OutputError
from upscale.media.input.open import open_input
from upscale.media.output.metadata import in_utf8, stream_tags
from upscale.media.output.verify import Written
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.media.output.plan import Plan, StreamPlan

#: Far below 32 bit, so that readers with signed arithmetic stay safe.
_MAX_TIMESCALE = 50_000_000

#: Bytes of a frame of AMR speech with its first byte, by frame type (3GPP TS 26.101 and 26.201).
_AMR = {
    "amr_nb": (13, 14, 16, 18, 20, 21, 27, 32, 6, 7, 6, 6, 1, 1, 1, 1),
    "amr_wb": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}
_AMR_FRAME = Fraction(1, 50)  # seconds

#: Layouts for a number of channels whose places are not named (AVI), FFmpeg's own default first.
LAYOUTS = {
    1: ("mono",),
    2: ("stereo",),
    3: ("2.1", "3.0"),
    4: ("4.0",),
    5: ("5.0",),
    6: ("5.1",),
    7: ("6.1", "6.1(back)"),
    8: ("7.1", "7.1(wide)"),
}


class OutputStream:
    """One output stream that is fed with packets of one input stream; this one copies them.

    Attributes:
        written: counts for the comparison afterwards.
        adjusted: time stamps that had to be moved.
    """

    def __init__(self, stream: Any, kind: str, exact: Literal["packets", "size"] | None = None) -> None:
        self.stream = stream
        self._strict = not stream.container.format.flags & Flags.ts_nonstrict.value
        self.written = Written(kind, exact=exact)
        self.adjusted = 0
        self._last: int | None = None

    def accept(self, packet: av.Packet) -> Iterable[av.Packet]:
        """Packets for the muxer, ready in order. A copy passes the packet itself."""
        if packet.pts is None and packet.dts is None:
            if self.written.packets:  # no place in time is known, and none can be guessed
                return ()
            packet.pts = packet.dts = 0  # covers and one-packet streams often come without
        packet.stream = self.stream
        return (self._counted(packet),)

    def flush(self) -> Iterable[av.Packet]:
        """What is left after the last packet."""
        return ()

    def _counted(self, packet: av.Packet) -> av.Packet:
        self._keep_order(packet)
        self.written.add(packet)
        return packet

    def _keep_order(self, packet: av.Packet) -> None:
        """Decoding times must rise in the muxer's ticks, or at least not fall in the lenient muxers."""
        if packet.dts is None:
            packet.dts = packet.pts
        target = self.stream.time_base
        if not target or packet.dts is None:
            return
        factor = Fraction(packet.time_base) / Fraction(target)
        dts = round(packet.dts * factor)
        if self._last is not None and dts < self._last + self._strict:
            dts = self._last + self._strict
            pts = round(packet.pts * factor) if packet.pts is not None else dts
            duration = round((packet.duration or 0) * factor)
            packet.time_base = Fraction(target)
            packet.pts, packet.dts, packet.duration = max(pts, dts), dts, duration
            self.adjusted += 1
        self._last = dts


class _VideoCopy(OutputStream):
    """A second video stream.

    Matroska stores no decoding times, and FFmpeg cannot work out those of the first packets of
    a stream with B-frames: they wait for the first known one.
    """

    _LIMIT = 32

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, "video")
        self._waiting: list[av.Packet] = []
        self._known = False

    def accept(self, packet: av.Packet) -> Iterable[av.Packet]:
        if self._known or packet.pts is None:
            return super().accept(packet)
        self._waiting.append(packet)
        if packet.dts is None and len(self._waiting) < self._LIMIT:
            return ()
        return self.flush()

    def flush(self) -> Iterable[av.Packet]:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        self._known = True
        last = waiting[-1]
        step = max(1, next((p.duration for p in waiting if p.duration), 1))
        dts = last.dts if last.dts is not None else min(p.pts or 0 for p in waiting)
        for packet in reversed(waiting):
            packet.dts = dts
            dts -= step
        return [ready for packet in waiting for ready in super(_VideoCopy, self).accept(packet)]


class _AmrCopy(OutputStream):
    """AMR speech, one frame a packet: phones put many into one, and the mov muxer refuses that."""

    def __init__(self, stream: Any, codec: str) -> None:
        super().__init__(stream, "audio")
        self._codec = codec

    def accept(self, packet: av.Packet) -> Iterator[av.Packet]:
        start = packet.pts if packet.pts is not None else packet.dts
        if start is None:
            return
        step = _AMR_FRAME / Fraction(packet.time_base)
        for n, data in enumerate(amr_frames(bytes(packet), self._codec)):
            single = av.Packet(data)
            single.time_base, single.is_keyframe = packet.time_base, True
            single.pts = single.dts = start + round(n * step)
            single.duration = round(step)
            yield from super().accept(single)


def amr_frames(data: bytes, codec: str) -> Iterator[bytes]:
    """The frames in a packet of AMR speech, each with its length in its first byte; a broken rest as one."""
    start = 0
    while start < len(data):
        end = start + _AMR[codec][(data[start] >> 3) & 15]
        yield data[start:end]
        start = end


def add_copy(container: Any, plan: Plan, entry: StreamPlan, source: Any) -> OutputStream:
    """A stream whose packets pass unchanged."""
    try:
        stream = container.add_stream_from_template(source, opaque=True)
    except ValueError as error:
        raise OutputError(f"{entry.kind} #{entry.index} ({entry.codec}) cannot be copied: {error}") from error
    stream.metadata.update(stream_tags(source.metadata, plan.container, encoded=False))
    stream.disposition = source.disposition
    if entry.codec in _AMR:
        return _AmrCopy(stream, entry.codec)
    if entry.kind == "video":
        is_cover = source.disposition & Disposition.attached_pic
        return OutputStream(stream, "cover") if is_cover else _VideoCopy(stream)
    if entry.kind != "audio":
        return OutputStream(stream, entry.kind)
    layout = source.codec_context.layout
    if layout.name == f"{layout.nb_channels} channels" and layout.nb_channels in LAYOUTS:
        stream.codec_context.layout = LAYOUTS[layout.nb_channels][0]  # MP4 refuses PCM without, at its end
    is_pcm = (entry.codec or "").startswith("pcm_")
    exact: Literal["packets", "size"] | None = None
    if plan.container in ("matroska", "webm", "mp4", "mov"):
        exact = "size" if is_pcm else "packets"
    return OutputStream(stream, "audio", exact)


def attach(container: Any, path: str, options: Options, entry: StreamPlan, source: Any) -> Written:
    """A font, another file or a cover picture that travels in the header."""
    metadata = in_utf8(source.metadata)
    if entry.kind == "attachment":
        container.add_stream_from_template(source).metadata.update(metadata)
        return Written("attachment", packets=1)
    extension, mime = _PICTURES.get(source.codec_context.name, ("jpg", "image/jpeg"))
    name = metadata.get("filename") or f"cover.{extension}"
    # Matroska readers show an attachment as a cover if its type is a picture's
    container.add_attachment(name, metadata.get("mimetype") or mime, _cover(path, options, source.index))
    return Written("cover", packets=1)


def _cover(path: str, options: Options, index: int) -> bytes:
    """A cover picture, from a second opening: attachments are written before the input's first packet."""
    with open_input(path, options) as again:
        data = next((bytes(p) for p in again.demux(again.streams[index])), b"")
    if not data:
        raise OutputError("the cover picture cannot be read")
    return data


_PICTURES = {
    "mjpeg": ("jpg", "image/jpeg"),
    "png": ("png", "image/png"),
    "webp": ("webp", "image/webp"),
    "bmp": ("bmp", "image/bmp"),
    "gif": ("gif", "image/gif"),
    "tiff": ("tiff", "image/tiff"),
}


def movie_timescale(plan: Plan, inputs: Iterable[Any]) -> int:
    """Ticks per second for start offsets in the mov family: they are stored in this unit.

    With the muxer's 1000 a stream that starts at 2002/30000 s would start at 66/1000.
    """
    chosen = {s.index for s in plan.by_action("copy", "convert")}
    scale = plan.encoder.time_base.denominator
    for stream in inputs:
        if stream.index in chosen and stream.type == "audio" and stream.codec_context is not None:
            both = math.lcm(scale, stream.codec_context.sample_rate or 1)
            scale = both if both <= _MAX_TIMESCALE else scale
    while scale < 1000:
        scale *= 10
    return min(scale, _MAX_TIMESCALE)
