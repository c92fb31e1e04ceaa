"""Whether the disk is large enough, before and while a long job writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upscale.errors import OutputError
from upscale.jobs.resume.work_folder import free_bytes

if TYPE_CHECKING:
    from upscale.media.output.plan import Plan

#: Bits per pixel that an encoder hardly ever stays below; unlisted ones are lossy and count as `_LOSSY`,
#: a thirtieth of what libx264's default takes for ordinary film.
_BITS = {
    "ffv1": 0.5,
    "huffyuv": 2.0,
    "utvideo": 2.0,
    "prores": 1.0,
    "dnxhd": 1.0,
    "mjpeg": 0.1,
    "rawvideo": 8.0,
}
_LOSSY = 0.003
#: Bytes that are never taken: for the end of a segment, and for whoever else uses the disk.
_RESERVE = 16 << 20
#: Frames between two looks.
_EVERY = 25
_LITTLE = "{what}: at least {need} needed in {where}, {free} free"


def least_bytes(plan: Plan, frames: int) -> int:
    """How large that many frames become at least, by a careful guess."""
    width, height = plan.size
    return int(frames * width * height * _BITS.get(plan.encoder.codec_id, _LOSSY) / 8)


def check_before(plan: Plan, folder: str, frames: int, done: int) -> None:
    """Refuse a job for which the disk is clearly too small.

    Args:
        folder: on the disk in question.
        frames: that are still to be encoded; 0 if unknown.
        done: bytes of the segments that are finished.

    Raises:
        OutputError: with both numbers.
    """
    # At the join segments and output exist at the same time.
    rest = least_bytes(plan, frames)
    _require(2 * rest + done + _RESERVE, folder, "the disk is too small")


def check_join(folder: str, segments: int) -> None:
    """Refuse to join what would not fit beside its segments.

    Args:
        folder: on the disk in question.
        segments: bytes of all segments.

    Raises:
        OutputError: with both numbers.
    """
    _require(segments + segments // 100, folder, "no space to join the segments")


def _require(need: int, folder: str, what: str) -> None:
    free = free_bytes(folder)
    if free < need:
        raise OutputError(_LITTLE.format(what=what, need=_text(need), where=folder, free=_text(free)))


class SpaceWatch:
    """Looks at the disk now and then."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._calls = 0
        self._reserve = _RESERVE

    def segment(self, size: int) -> None:
        """A segment of this many bytes was finished: the next one may be as large."""
        self._reserve = max(self._reserve, 2 * size)

    def low(self) -> OutputError | None:
        """What to stop with, if little space is left for the end of a segment; call it for each frame."""
        self._calls += 1
        if self._calls % _EVERY:
            return None
        free = free_bytes(self._folder)
        if free >= self._reserve:
            return None
        return OutputError(f"the disk is nearly full: {_text(free)} free in {self._folder}")


def _text(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
