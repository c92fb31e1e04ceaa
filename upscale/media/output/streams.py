"""Output streams, made from input streams: encoded, copied, converted or attached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from upscale.errors import OutputError
from upscale.media.output import amr, color, geometry
from upscale.media.output.audio import AudioConverter
from upscale.media.output.encoder_check import configure, quiet_encoders
from upscale.media.output.metadata import stream_tags
from upscale.media.output.subtitles import SubtitleConverter
from upscale.media.output.verify import Written

if TYPE_CHECKING:
    import av

    from upscale.media.input.probe import VideoInfo
    from upscale.media.output.plan import Plan, StreamPlan


#: FFmpeg's AVFMT_TS_NONSTRICT: equal decoding times are allowed.
_TS_NONSTRICT = 0x20000

#: Far below 32 bit, so that readers with signed arithmetic stay safe.
_MAX_TIMESCALE = 50_000_000


class OutputStream:
    """One output stream that is fed with packets of one input stream.

    Attributes:
        written: counts for the comparison afterwards.
        adjusted: time stamps that had to be moved.
    """

    def __init__(self, stream: Any, kind: str, *, exact: bool = False) -> None:
        self.stream = stream
        self._strict = not stream.container.format.flags & _TS_NONSTRICT
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
        self.written.add(packet.pts, packet.duration, float(packet.time_base))
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


class _VideoLane(OutputStream):
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
        return [ready for packet in waiting for ready in super(_VideoLane, self).accept(packet)]


class _AmrLane(OutputStream):
    """AMR speech, one frame a packet."""

    def __init__(self, stream: Any, codec: str) -> None:
        super().__init__(stream, "audio")
        self._codec = codec

    def accept(self, packet: av.Packet) -> Iterator[av.Packet]:
        import av

        start = packet.pts if packet.pts is not None else packet.dts
        if start is None:
            return
        step = Fraction(1, amr.FRAMES_PER_SECOND) / Fraction(packet.time_base)
        for n, data in enumerate(amr.split(bytes(packet), self._codec)):
            single = av.Packet(data)
            single.time_base, single.is_keyframe = packet.time_base, True
            single.pts = single.dts = start + round(n * step)
            single.duration = round(step)
            yield from super().accept(single)


class _SubtitleLane(OutputStream):
    """Converts text subtitles."""

    def __init__(self, stream: Any, converter: SubtitleConverter) -> None:
        super().__init__(stream, "subtitle")
        self._converter = converter

    def accept(self, packet: av.Packet) -> Iterable[av.Packet]:
        ready = self._converter.convert(packet)
        return () if ready is None else (self._counted(ready),)


class _AudioLane(OutputStream):
    """Converts audio."""

    def __init__(self, converter: AudioConverter) -> None:
        super().__init__(converter.stream, "audio")
        self._converter = converter

    def accept(self, packet: av.Packet) -> Iterator[av.Packet]:
        for ready in self._converter.convert(packet):
            yield self._counted(ready)

    def flush(self) -> Iterator[av.Packet]:
        for ready in self._converter.flush():
            yield self._counted(ready)


def add_encoder(container: Any, plan: Plan, video: VideoInfo, source: Any) -> Any:
    """The upscaled video's stream, with every tag of the source (if it is given)."""
    quiet_encoders()
    choice = plan.encoder
    stream = container.add_stream(choice.codec, rate=choice.rate)
    configure(stream.codec_context, choice, plan.size, stream.codec_context.flags)
    color.tag_context(stream.codec_context, video, limited=choice.limited)
    _describe(stream, plan, video, source)
    return stream


def add_encoded(container: Any, plan: Plan, video: VideoInfo, source: Any, encoded: Any) -> Any:
    """The upscaled video's stream, for packets that the planned encoder has made elsewhere.

    Args:
        encoded: a stream with such packets, whose codec header is taken over.
    """
    choice = plan.encoder
    try:
        stream = container.add_stream_from_template(encoded, opaque=True)
    except ValueError as error:
        raise OutputError(f"the encoded video cannot be copied: {error}") from error
    context = stream.codec_context
    context.framerate = choice.rate
    if choice.codec_tag is not None:
        context.codec_tag = choice.codec_tag
    if choice.codec_id == "prores":
        # Matroska keeps the four characters of the kind of ProRes in the place of a header.
        context.extradata, context.codec_tag = None, encoded.codec_context.codec_tag
    color.tag_context(context, video, limited=choice.limited)
    _describe(stream, plan, video, source)
    return stream


def _describe(stream: Any, plan: Plan, video: VideoInfo, source: Any) -> None:
    """Everything about the upscaled video's stream that is not the encoder's."""
    stream.time_base = plan.encoder.time_base
    if plan.sar is not None:
        stream.sample_aspect_ratio = plan.sar
    if plan.display_matrix is not None:
        old = (video.width, video.height)
        stream.set_display_matrix(geometry.scaled(plan.display_matrix, old, plan.size))
    if source is not None:
        stream.metadata.update(stream_tags(source.metadata, plan.container, encoded=True))
        stream.disposition = source.disposition


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


def add_copy(container: Any, plan: Plan, entry: StreamPlan, source: Any) -> OutputStream:
    """A stream whose packets pass unchanged."""
    from av.stream import Disposition

    try:
        stream = container.add_stream_from_template(source, opaque=True)
    except ValueError as error:
        raise OutputError(f"{entry.kind} #{entry.index} ({entry.codec}) cannot be copied: {error}") from error
    stream.metadata.update(stream_tags(source.metadata, plan.container, encoded=False))
    stream.disposition = source.disposition
    is_cover = entry.kind == "video" and bool(source.disposition & Disposition.attached_pic)
    exact = entry.kind == "audio" and plan.container in ("matroska", "webm", "mp4", "mov")
    if entry.codec in amr.CODECS:
        return _AmrLane(stream, entry.codec)
    if entry.kind == "video" and not is_cover:
        return _VideoLane(stream)
    return OutputStream(stream, "cover" if is_cover else entry.kind, exact=exact)


def make_converter(container: Any, plan: Plan, entry: StreamPlan, source: Any) -> OutputStream:
    """A stream that is decoded and encoded in another codec."""
    assert entry.to_codec is not None
    lane: OutputStream
    if entry.kind == "audio":
        lane = _AudioLane(AudioConverter(source, entry.to_codec, container))
    else:
        stream = container.add_stream(entry.to_codec)
        lane = _SubtitleLane(stream, SubtitleConverter(source, stream))
    lane.stream.metadata.update(stream_tags(source.metadata, plan.container, encoded=True))
    lane.stream.disposition = source.disposition
    return lane


def add_attachment(container: Any, path: str, source: Any) -> None:
    """A font or other file that travels in the header."""
    metadata = dict(source.metadata)
    stream = container.add_stream_from_template(source)
    stream.metadata.update(metadata)


def add_cover(container: Any, path: str, source: Any) -> None:
    """A cover picture as an attachment, read from a second opening of the input.

    Attachments are written with the header, before the first packet of the input is read.
    """
    from upscale.media.input.open import open_input

    metadata = dict(source.metadata)
    data = b""
    with open_input(path) as again:
        stream = again.streams[source.index]
        for packet in again.demux(stream):
            data = bytes(packet)
            break
    if not data:
        raise OutputError("the cover picture cannot be read")
    extension, mime = _PICTURES.get(source.codec_context.name, ("jpg", "image/jpeg"))
    name = metadata.get("filename") or f"cover.{extension}"
    # Matroska readers show an attachment as a cover if its type is a picture's
    container.add_attachment(name, metadata.get("mimetype") or mime, data)


_PICTURES = {
    "mjpeg": ("jpg", "image/jpeg"),
    "png": ("png", "image/png"),
    "webp": ("webp", "image/webp"),
    "bmp": ("bmp", "image/bmp"),
    "gif": ("gif", "image/gif"),
    "tiff": ("tiff", "image/tiff"),
}
