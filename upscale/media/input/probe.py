"""What is in a media file: plain data, read once, that outlives the open file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from upscale.media.input import convert, sidedata, siting
from upscale.media.input.hdr import HdrMetadata
from upscale.system import memory

if TYPE_CHECKING:
    from av.stream import Stream

    from upscale.media.input.reader import Reader

#: `codec_context.field_order` of interlaced streams: TT, BB, TB, BT.
INTERLACED_ORDERS = (2, 3, 4, 5)

#: Decoders of intra-only codecs that leave it to the container to say that frames are interlaced.
_CONTAINER_DECIDES = frozenset(
    ("mjpeg", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "qtrle", "png", "dnxhd")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """One stream of a file.

    Attributes:
        index: in the file.
        kind: "video", "audio", "subtitle", "data" or "attachment".
        codec: FFmpeg's name of the codec, not of a decoder ("subrip", "av1"); None if it is unknown.
        language, title: from the metadata.
        disposition: FFmpeg's bits.
        time_base: of the packets' timestamps.
        start, duration: seconds; None if unknown.
        is_cover: an attached picture.
        bit_rate: bits per second; None if unknown.
        sample_rate, channels, layout: of audio.
        width, height: of video, in stored pixels.
    """

    index: int
    kind: str
    codec: str | None
    metadata: dict[str, str]
    language: str | None = None
    title: str | None = None
    disposition: int = 0
    time_base: Fraction | None = None
    start: float | None = None
    duration: float | None = None
    is_cover: bool = False
    bit_rate: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    layout: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """The video stream that is enlarged.

    Attributes:
        width, height: stored pixels of the first decoded frame, of what is shown of it; in a job, the size
            that holds for all frames (`upscale.media.input.sizes`).
        pix_fmt: as decoded.
        bit_depth: bits per sample, 8 … 16.
        chroma_shift: log2 of the chroma subsampling, horizontal and vertical; (0, 0) for RGB and gray.
        rate: frames per second as FFmpeg guesses; meaningless where the rate varies; None if unknown.
        frames: the container's count; 0 if it has none.
        sar: sample aspect ratio, 1 if unset; `sar_set` says whether it was set.
        display_matrix: the nine numbers of the rotation tag; None if there is none.
        rotation: degrees clockwise to turn the picture for display: 0, 90, 180 or 270.
        color_range, primaries, trc, matrix, chroma_location: FFmpeg's enum values for the frames that
            `Source` delivers.
        hdr: HDR10 metadata of the first frame.
        interlaced: whether the first frames (or the container) say so.
        duration: of this stream in seconds; None if unknown.
        side_data: what else the first frames carry, see `sidedata.kinds`.
        dolby_vision, stereo_mode: see `sidedata`.
        spherical: the raw `AVSphericalMapping` of FFmpeg of a 360° picture, None for an ordinary one.
        hdr10_plus: the raw `AVDynamicHDRPlus` of FFmpeg of the first frame, None without.
    """

    index: int
    codec: str
    width: int
    height: int
    pix_fmt: str
    bit_depth: int
    has_alpha: bool
    chroma_shift: tuple[int, int]
    rate: Fraction | None
    time_base: Fraction
    frames: int
    sar: Fraction
    sar_set: bool
    display_matrix: tuple[int, ...] | None
    rotation: int
    color_range: int
    primaries: int
    trc: int
    matrix: int
    chroma_location: int
    hdr: HdrMetadata | None
    interlaced: bool
    duration: float | None
    side_data: frozenset[str] = frozenset()
    dolby_vision: int | None = None
    stereo_mode: str | None = None
    spherical: bytes | None = None
    hdr10_plus: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """A media file.

    Attributes:
        format: FFmpeg's demuxer name.
        size: bytes; None for what is no file.
        start: first timestamp in seconds.
        duration: seconds; None if unknown.
        chapters: dicts with id, start, end, time_base and metadata.
        reopens: opening it a second time gives the same data.
    """

    path: str
    format: str
    size: int | None
    start: float
    duration: float | None
    metadata: dict[str, str]
    chapters: list[dict[str, Any]]
    streams: tuple[StreamInfo, ...]
    video: VideoInfo | None
    reopens: bool = True


def probe(path: str) -> MediaInfo:
    """Open a file (or "-"), decode its first frames, and describe it.

    Raises:
        UsageError: not a regular file, or a still picture.
        MediaError: cannot be read, has no video, or none of it decodes.
    """
    from upscale.media.input.reader import Reader

    reader = Reader(path)
    try:
        return describe(reader)
    finally:
        reader.close()
        memory.trim_heap()


def describe(reader: Reader, size: tuple[int, int] | None = None) -> MediaInfo:
    """Description of an open input.

    Args:
        size: (width, height) of the video, where it is not that of the first frame.
    """
    container = reader.container
    start = container.start_time
    return MediaInfo(
        path=reader.path,
        format=container.format.name,
        size=os.stat(reader.path).st_size if reader.address.protocols == "file" else None,
        reopens=reader.address.reopens,
        start=start / 1e6 if start is not None else 0.0,
        duration=container.duration / 1e6 if container.duration and container.duration > 0 else None,
        metadata=dict(container.metadata),
        chapters=[dict(c) for c in container.chapters()],
        streams=tuple(_describe_stream(s) for s in container.streams),
        video=_describe_video(reader, size),
    )


def _describe_stream(stream: Stream) -> StreamInfo:
    from upscale.media.input.reader import is_cover

    context: Any = stream.codec_context
    base = Fraction(stream.time_base) if stream.time_base else None
    metadata = dict(stream.metadata)
    extra: dict[str, Any] = {}
    if stream.type == "audio" and context is not None:
        extra = {
            "sample_rate": context.sample_rate or None,
            "channels": context.layout.nb_channels or None,
            "layout": context.layout.name or None,
        }
    elif stream.type == "video" and context is not None:
        extra = {"width": context.width or None, "height": context.height or None}
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec=context.codec.canonical_name if context is not None else None,
        metadata=metadata,
        language=metadata.get("language"),
        title=metadata.get("title") or metadata.get("name"),
        disposition=int(stream.disposition),
        time_base=base,
        start=_seconds(stream.start_time, base),
        duration=_seconds(stream.duration, base) or _tagged_duration(metadata),
        is_cover=is_cover(stream),
        bit_rate=getattr(context, "bit_rate", None) or None,
        **extra,
    )


def _describe_video(reader: Reader, size: tuple[int, int] | None) -> VideoInfo:
    stream, frame = reader.video, reader.first[0]
    context = stream.codec_context
    tags = convert.color_tags(frame, context)
    side = sidedata.read(frame)
    matrix = sidedata.display_matrix(side)
    sar = stream.sample_aspect_ratio
    rate = stream.guessed_rate or stream.average_rate
    base = reader.time_base
    chroma = convert.chroma_shift(frame.format)
    return VideoInfo(
        index=stream.index,
        codec=context.codec.canonical_name,
        width=size[0] if size else frame.width,
        height=size[1] if size else frame.height,
        pix_fmt=frame.format.name,
        bit_depth=max((c.bits for c in frame.format.components), default=8),
        has_alpha=convert.has_alpha(frame.format),
        chroma_shift=chroma,
        rate=Fraction(rate) if rate else None,
        time_base=base,
        frames=stream.frames or 0,
        sar=Fraction(sar) if sar else Fraction(1),
        sar_set=bool(sar),
        display_matrix=matrix,
        rotation=-frame.rotation % 360 if matrix is not None else 0,
        color_range=tags.color_range,
        primaries=tags.primaries,
        trc=tags.trc,
        matrix=tags.matrix,
        chroma_location=chroma_siting(reader).location if chroma == (1, 1) else 0,
        hdr=HdrMetadata.from_side_data(side),
        interlaced=is_interlaced(reader),
        duration=_seconds(stream.duration, base) or _tagged_duration(dict(stream.metadata)),
        side_data=frozenset().union(*map(sidedata.kinds, reader.first)),
        dolby_vision=sidedata.dolby_vision_profile(side),
        stereo_mode=sidedata.stereo_mode(side),
        spherical=side.get("SPHERICAL"),
        hdr10_plus=side.get("DYNAMIC_HDR_PLUS"),
    )


def chroma_siting(reader: Reader) -> siting.ChromaSiting:
    """Where the chroma samples of the decoded frames lie."""
    codec = reader.video.codec_context.codec.canonical_name
    return siting.chroma_siting(reader.first[0], codec, reader.siting_named)


def is_interlaced(reader: Reader) -> bool:
    """Whether the first frames are marked interlaced, or the container says so where it must."""
    return any(f.interlaced_frame for f in reader.first) or container_says_interlaced(reader)


def container_says_interlaced(reader: Reader) -> bool:
    """Interlaced by the container's word alone: the decoder does not mark the frames."""
    context = reader.video.codec_context
    if any(f.interlaced_frame for f in reader.first) or context.name not in _CONTAINER_DECIDES:
        return False
    return int(getattr(context, "field_order", 0) or 0) in INTERLACED_ORDERS


def _seconds(ticks: int | None, base: Fraction | None) -> float | None:
    return float(ticks * base) if ticks is not None and base else None


def _tagged_duration(metadata: dict[str, str]) -> float | None:
    """Matroska's DURATION tag, "00:00:10.034000000", in seconds."""
    text = next((v for k, v in metadata.items() if k.upper().startswith("DURATION")), "")
    parts = text.split(":")
    try:
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2]) if len(parts) == 3 else None
    except ValueError:
        return None
