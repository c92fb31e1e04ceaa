"""How the larger picture must be shown: colour tags, display matrix, sample aspect ratio.

Colour tags go onto the encoder and onto every frame, because encoders differ in which of them they read.
A display matrix is nine 16.16 (last column 2.30) fixed-point numbers, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.video.reformatter import ColorPrimaries, ColorRange

if TYPE_CHECKING:
    import av

    from upscale.media.input.probe import VideoInfo

#: "Unspecified" has this number in the tables of primaries, transfer and matrix alike.
UNSPECIFIED = int(ColorPrimaries.UNSPECIFIED)
_RGB_MATRIX = 0  # AVCOL_SPC_RGB, which PyAV's `Colorspace` leaves out

_ONE = 1 << 16
_LIMIT = (1 << 31) - 1


def tag_context(context: Any, video: VideoInfo, *, limited: bool = False) -> None:
    """Copy range, primaries, transfer, matrix and chroma location of the source to an encoder.

    `limited`: the frames will be compressed into limited range.
    """
    context.color_range = int(ColorRange.MPEG if limited else video.color_range)
    context.color_primaries = int(video.primaries)
    context.color_trc = int(video.trc)
    context.colorspace = int(video.matrix)
    if hasattr(context, "chroma_sample_location"):  # PyAV 19
        context.chroma_sample_location = int(video.chroma_location)


def tag_frame(frame: av.VideoFrame, video: VideoInfo) -> None:
    """Copy the source's tags to a frame. Untagged entries of the source leave the frame's alone."""
    if video.color_range != ColorRange.UNSPECIFIED:
        frame.color_range = int(video.color_range)
    if video.primaries != UNSPECIFIED:
        frame.color_primaries = int(video.primaries)
    if video.trc != UNSPECIFIED:
        frame.color_trc = int(video.trc)
    if video.matrix != UNSPECIFIED:
        frame.colorspace = int(video.matrix)


def to_format(frame: av.VideoFrame, pix_fmt: str, *, limited: bool = False) -> av.VideoFrame:
    """The frame in another pixel format, with the same tags and times.

    The code range stays as well, but `limited` compresses a full-range frame into limited range.

    Within YUV neither matrix nor range may change; without being told, swscale takes BT.601
    and, for deep formats, limited range.
    """
    compress = limited and frame.color_range == ColorRange.JPEG
    if frame.format.name == pix_fmt and not compress:
        return frame
    is_rgb = pix_fmt.startswith(("rgb", "bgr", "gbr", "pal", "0rgb", "0bgr", "argb", "abgr"))
    matrix = None if frame.colorspace in (_RGB_MATRIX, UNSPECIFIED) else int(frame.colorspace)
    source_range = int(frame.color_range) or None
    target_range = int(ColorRange.MPEG) if compress else source_range
    converted = frame.reformat(
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=None if is_rgb else matrix,
        src_color_range=source_range,
        dst_color_range=None if is_rgb else target_range,
    )
    converted.pts, converted.time_base, converted.duration = frame.pts, frame.time_base, frame.duration
    if not is_rgb:
        converted.color_range = ColorRange.MPEG if compress else frame.color_range
        converted.colorspace = frame.colorspace
    converted.color_primaries, converted.color_trc = frame.color_primaries, frame.color_trc
    return converted


def is_identity(matrix: Sequence[int]) -> bool:
    """True if the display matrix shows the picture as it is stored."""
    return tuple(matrix[:8]) == (_ONE, 0, 0, 0, _ONE, 0, 0, 0)


def scaled(matrix: Sequence[int], old: tuple[int, int], new: tuple[int, int]) -> tuple[int, ...]:
    """The same rotation or flip for a picture of another size.

    Only the translation (entries 6 and 7) is in pixels. It is along the *displayed* axes: with
    the axes swapped, x moves by the picture's stored height.

    Args:
        matrix: 9 integers.
        old, new: (width, height) in stored pixels.
    """
    result = list(matrix)
    swapped = abs(matrix[1]) > abs(matrix[0])
    x, y = new[0] / old[0], new[1] / old[1]
    if swapped:
        x, y = y, x
    result[6] = max(-_LIMIT, min(_LIMIT, round(matrix[6] * x)))
    result[7] = max(-_LIMIT, min(_LIMIT, round(matrix[7] * y)))
    return tuple(result)


def target_sar(info: VideoInfo, size: tuple[int, int]) -> Fraction | None:
    """Sample aspect ratio that shows an output of `size` in the input's display aspect, exactly.

    None where the input has none and rounding alone changed the ratio of the sides (by less than 1 %):
    an untagged picture stays untagged.
    """
    change = Fraction(info.width * size[1], info.height * size[0])
    if not info.sar_set and abs(change - 1) < Fraction(1, 100):
        return None
    return info.sar * change
