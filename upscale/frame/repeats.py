"""Output frames, or their chroma, that are those of an earlier frame."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from upscale.frame.reuse import history_length
from upscale.media.input.convert import filter_graph
from upscale.media.input.sidedata import has_side_data
from upscale.media.pixels.planes import Plane, plane_view

if TYPE_CHECKING:
    import av


#: Frames that differ in one of these are not compared.
_KIND = attrgetter("width", "height", "format.name", "interlaced_frame")


class Repeats:
    """Remembers the last finished frames; safe to use from several threads at once.

    How swscale scales a plane depends on that plane alone, so equal planes need no scaling. Side data
    (captions, HDR metadata) belongs to one frame: frames that have any are not repeated.
    """

    def __init__(self) -> None:
        # The latest first. Replaced as a whole: where two threads meet an entry is lost, which harms nobody.
        self._past: tuple[_Done, ...] = ()
        self._local = threading.local()

    def find(self, frame: av.VideoFrame) -> tuple[av.VideoFrame | None, bool]:
        """What is known already of the output for `frame`.

        Returns:
            A frame of the output's size with the times of `frame`, and whether its luma is correct too:
            then it shares its memory with the earlier output and need not be remembered; else it may be
            written to. (None, False) where chroma must be scaled.
        """
        past = self._past
        place, whole = _search(past, frame)
        # Checked last: it costs a little each time.
        if place is None or has_side_data(frame) or has_side_data(past[place].frame):
            return None, False
        if whole and place:  # what repeats again and again is not forgotten
            self._past = (past[place], *past[:place], *past[place + 1 :])
        out = self._through("null" if whole else "copy", past[place].out)
        out.pts, out.duration = frame.pts, frame.duration
        if frame.time_base:
            out.time_base = frame.time_base
        return out, whole

    def remember(self, frame: av.VideoFrame, out: av.VideoFrame) -> None:
        """Keep a finished output and the frame that it was made of; neither may be written to afterwards.

        In moving video, where nothing repeats, only the last one is kept.
        """
        # A reference of its own: the encoder's side sets times and tags of the other.
        done = _Done(frame, _planes(frame), self._through("null", out))
        past = self._past
        if past and _has_moved(past[0].planes[0], done.planes[0]):
            past = ()
        self._past = (done, *past)[: history_length(plane_view(out).nbytes)]

    def _through(self, name: str, frame: av.VideoFrame) -> av.VideoFrame:
        """A new frame that shares the memory ("null"), or a copy in memory of a pool ("copy")."""
        graphs = self._local.__dict__
        if name not in graphs:
            graphs[name] = filter_graph(frame, name, "")
        graphs[name].vpush(frame)
        out: av.VideoFrame = graphs[name].vpull()
        return out


@dataclass(frozen=True, slots=True)
class _Done:
    """A frame of the input, its planes (making these views costs as much as comparing them), its output."""

    frame: av.VideoFrame
    planes: list[Plane]
    out: av.VideoFrame


def _search(past: tuple[_Done, ...], frame: av.VideoFrame) -> tuple[int | None, bool]:
    """The first place with `frame` in all planes, and True; else the first with its chroma, and False."""
    chroma = None
    planes = _planes(frame) if past else []
    for place, done in enumerate(past):
        if _KIND(frame) != _KIND(done.frame):
            break
        if all(map(_equal, planes[1:], done.planes[1:])):
            if _equal(planes[0], done.planes[0]):
                return place, True
            chroma = place if chroma is None else chroma
    return chroma, False


def _equal(plane: Plane, other: Plane) -> bool:
    """Whether all samples are equal; some rows are compared first, because different planes differ there."""
    return np.array_equal(plane[::16], other[::16]) and np.array_equal(plane, other)


def _has_moved(before: Plane, now: Plane) -> bool:
    """Whether less than half of the samples are as they were, by some of the rows."""
    a, b = before[::16], now[::16]
    return a.shape != b.shape or bool(np.count_nonzero(a == b) < a.size / 2)


def _planes(frame: av.VideoFrame) -> list[Plane]:
    return [plane_view(frame, index) for index in range(len(frame.planes))]
