"""The same moments of a video and of its original: frames by time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from upscale.errors import MediaError, UsageError
from upscale.media.input.convert import UNSPECIFIED
from upscale.media.pixels.planes import bit_depth
from upscale.options import Options

if TYPE_CHECKING:
    import av

    from upscale.media.input.probe import VideoInfo

#: Seconds that the original is read before a moment: its clock may be rounded another way.
_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Moment:
    """Consecutive frames from one time on.

    Attributes:
        time: of the first frame, in seconds from the video's beginning.
        low_res: at least one frame, 8 bit.
        references: the original's frame for each of them; empty without an original.
    """

    time: float
    low_res: list[av.VideoFrame]
    references: list[av.VideoFrame]


def default_times(duration: float | None, count: int = 3) -> list[float]:
    """`count` times, spread over the video; its beginning where the length is unknown."""
    return [0.0] if not duration else [round(duration * (i + 0.5) / count, 3) for i in range(count)]


def video_info(path: str) -> tuple[VideoInfo, float | None]:
    """The video stream, and the length in seconds if it is known.

    Raises:
        MediaError, UsageError: as `upscale.media.input.source.Source`.
    """
    from upscale.media.input.source import Source

    with Source(path) as source:
        return source.info_video, source.clip_duration


def check_reference(size: tuple[int, int], low: VideoInfo, path: str) -> None:
    """Refuse an original that is not `low` in a larger size.

    Raises:
        UsageError: it is not larger, or of another shape (by more than 2 %).
    """
    width, height = size
    if width <= low.width or height <= low.height:
        raise UsageError(
            f"the reference, {width}x{height}, is not larger than the input, {low.width}x{low.height}",
            path=path,
        )
    if not 0.98 < (width / low.width) / (height / low.height) < 1.02:
        raise UsageError(
            f"the reference, {width}x{height}, is not the input, {low.width}x{low.height}, in a larger size",
            path=path,
        )


def read_moment(path: str, reference: str | None, time: float, frames: int) -> Moment:
    """Up to `frames` consecutive frames from `time` on, with the original's of the same times.

    Raises:
        MediaError: cannot be read, or the original has no frames of these times.
        UsageError: the time is behind the end.
    """
    timed = list(islice(read_frames(path, time), frames))
    if reference is None:
        return Moment(timed[0][0], [f for _, f in timed], [])
    begin = max(0.0, time - _MARGIN)
    span = timed[-1][0] - begin + 2 * _MARGIN
    references = list(read_frames(reference, begin, span))
    pairs = match(timed, references)
    if not pairs:
        raise MediaError(f"has no frame for the input's at {timed[0][0]:.3f} s", path=reference)
    return Moment(pairs[0][0], [low for _, low, _ in pairs], [reference for _, _, reference in pairs])


def match(
    low_res: list[tuple[float, av.VideoFrame]], references: list[tuple[float, av.VideoFrame]]
) -> list[tuple[float, av.VideoFrame, av.VideoFrame]]:
    """(time, frame, original's frame) of the frames that have one less than half a frame away."""
    gaps = [b[0] - a[0] for a, b in pairwise(low_res)]
    near = statistics.median(gaps) / 2 if gaps else 0.02
    pairs = []
    for time, low in low_res:
        at, reference = min(references, key=lambda t: abs(t[0] - time))
        if abs(at - time) < near:
            _share_matrix(low, reference)
            pairs.append((time, low, reference))
    return pairs


def read_frames(
    path: str, start: float, length: float | None = None
) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds from the beginning, 8-bit frame) from `start` on.

    Raises:
        MediaError, UsageError: as `upscale.media.input.source.Source`.
    """
    import av

    from upscale.media.input.source import Source

    stop = None if length is None else round(start + length, 6)
    with Source(path, Options(start=start, stop=stop)) as source:
        source.select(set())
        origin = Fraction(source.container.start_time or 0, av.time_base)
        begin = origin + Fraction(repr(float(start)))
        for item in source:
            if isinstance(item, av.VideoFrame):
                base = Fraction(item.time_base or 1)
                # The source moves its clock by whole ticks, which can be as long as a frame.
                yield float(((item.pts or 0) + round(begin / base)) * base - origin), eight_bit(item)


def read_pairs(
    path: str, reference: str | None, start: float, length: float
) -> Iterator[tuple[float, av.VideoFrame, av.VideoFrame | None]]:
    """(time, frame, the original's nearest frame) of a part, in constant memory, for viewing."""
    references = None if reference is None else read_frames(reference, max(0.0, start - _MARGIN))
    held = next(references, None) if references else None
    coming = next(references, None) if references else None
    for time, low in read_frames(path, start, length):
        while held and coming and references and abs(coming[0] - time) <= abs(held[0] - time):
            held, coming = coming, next(references, None)
        if held:
            _share_matrix(low, held[1])
        yield time, low, held[1] if held else None


def _share_matrix(low: av.VideoFrame, reference: av.VideoFrame) -> None:
    """Where one of them does not name its matrix, it has the other's: no tool changes it without a tag."""
    if int(low.colorspace) == UNSPECIFIED:
        low.colorspace = reference.colorspace
    elif int(reference.colorspace) == UNSPECIFIED:
        reference.colorspace = low.colorspace


def eight_bit(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with eight bits a sample: PNG, H.264 and the measures have that many."""
    if bit_depth(frame.format) == 8:
        return frame
    gray = frame.format.name.startswith("gray")
    shallow = frame.reformat(format="gray" if gray else "yuv420p")
    shallow.color_range, shallow.colorspace = frame.color_range, frame.colorspace
    return shallow
