"""Colour tags: put on the encoder and on every frame, because encoders differ in which they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

    from upscale.media.input.probe import VideoInfo


#: FFmpeg's AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG.
LIMITED, FULL = 1, 2


def tag_context(context: Any, video: VideoInfo, *, limited: bool = False) -> None:
    """Copy range, primaries, transfer, matrix and chroma location of the source to an encoder.

    `limited`: the frames will be compressed into limited range.
    """
    context.color_range = LIMITED if limited else int(video.color_range)
    context.color_primaries = int(video.primaries)
    context.color_trc = int(video.trc)
    context.colorspace = int(video.matrix)
    if hasattr(context, "chroma_sample_location"):  # PyAV 19
        context.chroma_sample_location = int(video.chroma_location)


def tag_frame(frame: av.VideoFrame, video: VideoInfo) -> None:
    """Copy the source's tags to a frame. Untagged entries of the source leave the frame's alone."""
    if video.color_range:
        frame.color_range = int(video.color_range)
    if video.primaries != 2:  # 2 is "unspecified" in all three tables
        frame.color_primaries = int(video.primaries)
    if video.trc != 2:
        frame.color_trc = int(video.trc)
    if video.matrix != 2:
        frame.colorspace = int(video.matrix)


def to_format(frame: av.VideoFrame, pix_fmt: str, *, limited: bool = False) -> av.VideoFrame:
    """The frame in another pixel format, with the same tags and times.

    The code range stays as well, but `limited` compresses a full-range frame into limited range.

    Within YUV neither matrix nor range may change; without being told, swscale takes BT.601
    and, for deep formats, limited range.
    """
    compress = limited and int(frame.color_range) == FULL
    if frame.format.name == pix_fmt and not compress:
        return frame
    is_rgb = pix_fmt.startswith(("rgb", "bgr", "gbr", "pal", "0rgb", "0bgr", "argb", "abgr"))
    matrix = None if frame.colorspace in (0, 2) else int(frame.colorspace)
    source_range = int(frame.color_range) or None
    converted = frame.reformat(
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=None if is_rgb else matrix,
        src_color_range=source_range,
        dst_color_range=None if is_rgb else LIMITED if compress else source_range,
    )
    converted.pts, converted.time_base, converted.duration = frame.pts, frame.time_base, frame.duration
    if not is_rgb:
        converted.color_range = LIMITED if compress else frame.color_range
        converted.colorspace = frame.colorspace
    converted.color_primaries, converted.color_trc = frame.color_primaries, frame.color_trc
    return converted
