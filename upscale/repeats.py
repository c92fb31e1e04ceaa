"""Output frames, or their chroma, that are those of an earlier frame."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from upscale.media.convert import filter_graph
from upscale.media.sidedata import has_side_data
from upscale.planes import plane_view

if TYPE_CHECKING:
    import av


class Repeats:
    """Remembers the last frame that was finished; safe to use from several threads at once.

    What swscale makes of a plane depends on that plane alone, so equal planes need no scaling. Side data
    (captions, HDR metadata) belongs to one frame: frames that have any are neither repeated nor remembered.
    """

    def __init__(self) -> None:
        self._last: tuple[av.VideoFrame, av.VideoFrame] | None = None
        self._local = threading.local()

    def find(self, frame: av.VideoFrame) -> tuple[av.VideoFrame | None, bool]:
        """What there is already of the output for `frame`.

        Returns:
            A frame of the output's size with the times of `frame`, and whether its luma is right as well:
            then it shares its memory with the earlier output; else it may be written to. (None, False)
            where chroma must be scaled.
        """
        last = self._last  # replaced as a whole
        if last is None or not _alike(frame, last[0]) or has_side_data(frame):
            return None, False
        if not all(_equal(frame, last[0], index) for index in range(1, len(frame.planes))):
            return None, False
        whole = _equal(frame, last[0], 0)
        out = self._through("null" if whole else "copy", last[1])
        out.pts, out.duration = frame.pts, frame.duration
        if frame.time_base:
            out.time_base = frame.time_base
        return out, whole

    def remember(self, frame: av.VideoFrame, out: av.VideoFrame) -> None:
        """Keep a finished output and the frame that it was made of; neither may be written to afterwards."""
        if not has_side_data(frame):
            # A reference of its own: the encoder's side sets times and tags of the other.
            self._last = frame, self._through("null", out)

    def _through(self, name: str, frame: av.VideoFrame) -> av.VideoFrame:
        """A new frame that shares the memory ("null"), or a copy in memory of a pool ("copy")."""
        graphs = self._local.__dict__
        if name not in graphs:
            graphs[name] = filter_graph(frame, name, "")
        graphs[name].vpush(frame)
        out: av.VideoFrame = graphs[name].vpull()
        return out


def _alike(frame: av.VideoFrame, other: av.VideoFrame) -> bool:
    return (frame.width, frame.height, frame.format.name, frame.interlaced_frame) == (
        other.width,
        other.height,
        other.format.name,
        other.interlaced_frame,
    )


def _equal(frame: av.VideoFrame, other: av.VideoFrame, index: int) -> bool:
    return np.array_equal(plane_view(frame, index), plane_view(other, index))
