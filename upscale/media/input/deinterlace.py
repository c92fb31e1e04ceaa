"""Deinterlacing with bwdif: one frame out for each frame in, with its own timestamp."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from upscale.media.input.convert import filter_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

#: bwdif refuses smaller pictures.
MIN_WIDTH, MIN_HEIGHT = 3, 4


class Deinterlacer:
    """Streaming bwdif filter for frames of one size and format.

    The filter looks one frame ahead, so frames come out one call late; `flush` gives the last. It halves
    the time base: times are therefore kept here and put back in order, exact to the tick.
    """

    def __init__(self, frame: av.VideoFrame, *, every_frame: bool = False) -> None:
        """
        Args:
            frame: decides size and format; it is not pushed.
            every_frame: True treats all frames as interlaced, False only those marked so.
        """
        which = "all" if every_frame else "interlaced"
        self._graph = filter_graph(frame, "bwdif", f"mode=send_frame:parity=auto:deint={which}")
        self._times: deque[tuple[int | None, Fraction | None, int | None]] = deque()
        self._count = 0

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Frames that are ready after this one went in (none for the first)."""
        self._times.append((frame.pts, frame.time_base, frame.duration))
        frame.pts, frame.time_base = self._count, Fraction(1, 1000)
        self._count += 1
        self._graph.vpush(frame)
        yield from self._ready()

    def flush(self) -> Iterator[av.VideoFrame]:
        """The frames that are left; the deinterlacer cannot be used afterwards."""
        self._graph.vpush(None)
        yield from self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            if not self._times:  # never seen: more frames out than in
                return
            pts, time_base, duration = self._times.popleft()
            frame.pts = pts
            if time_base is not None:
                frame.time_base = time_base
            if duration is not None:
                frame.duration = duration
            yield frame
