"""Timestamps: one strictly increasing clock for frames, one common origin for all streams."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from upscale.errors import UsageError

if TYPE_CHECKING:
    import av

#: Demuxers whose clock starts anywhere: all timestamps are moved so that the first one is zero.
ARBITRARY_ORIGIN = frozenset({"mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "asf", "rm", "wtv"})

#: Demuxers whose timestamps may restart in the middle.
DISCONTINUOUS = frozenset({"mpegts", "mpeg"})

#: Demuxers of formats that store no presentation times.
NO_PTS = frozenset({"avi"})

#: Demuxers that give no times: of a live stream only the moment at which a frame comes tells its time.
CLOCKLESS = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "m4v", "mpegvideo"})

#: Tick of such times in seconds.
ARRIVAL_TICK = Fraction(1, 1000)


class FrameClock:
    """Gives every frame a timestamp that is later than the last one's, and a duration.

    Attributes:
        adjusted: number of frames whose timestamp was a duplicate or ran backwards.
        last: time of the last frame; None before the first.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        """
        Args:
            time_base: of the stream; all times are counted in it.
            rate: frames per second, for what the stream does not say; None or 0 counts as 25.
        """
        self.adjusted = 0
        self._step = 1 / (rate or Fraction(25)) / time_base
        self._anchor = Fraction(0)  # time from which frames without a timestamp are counted
        self._since_anchor = 0
        self.last: int | None = None
        self._seen: list[int | None] = [None, None]  # last pts and dts
        self._faults = [0, 0]  # how often each ran backwards

    def assign(self, pts: int | None, duration: int | None) -> tuple[int, int]:
        """(pts, duration) in ticks for the next frame in display order.

        Args:
            pts, duration: as decoded; None or 0 where the stream does not say.
        """
        if pts is None:
            pts = round(self._anchor + self._since_anchor * self._step)
            self._since_anchor += 1
        else:
            self._anchor, self._since_anchor = Fraction(pts), 1
        if self.last is not None and pts <= self.last:
            self.adjusted += 1
            pts = self.last + 1
        self.last = pts
        return pts, duration if duration and duration > 0 else max(1, round(self._step))

    def learn(self, times: Iterable[tuple[int | None, int | None]]) -> None:
        """(pts, dts) of the first frames, before the first is assigned: which of both can be relied on."""
        for pts, dts in times:
            self.best_effort(pts, dts)
        self._seen = [None, None]

    def best_effort(self, pts: int | None, dts: int | None) -> int | None:
        """The one of both that has run backwards less often, as in FFmpeg's `guess_correct_pts`.

        The last frames are completed by no packet and have no dts. FFmpeg takes their pts then, even where
        they run backwards; here they are None, which `assign` continues at the rate.

        Args:
            pts: as decoded.
            dts: of the packet that completed the frame.
        """
        for index, value in enumerate((pts, dts)):
            if value is not None:
                before = self._seen[index]
                self._faults[index] += before is not None and value <= before
                self._seen[index] = value
        return pts if pts is not None and self._faults[0] <= self._faults[1] else dts


class ClockJumps:
    """Joins the parts of a stream whose timestamps restart (concatenated or edited broadcasts).

    As FFmpeg's own program does: a packet of audio or video whose dts lies 0.1 s before, or 10 s
    behind, the one that is expected moves the clock of all streams from there on.

    Attributes:
        count: number of jumps found.
    """

    BACKWARD, FORWARD = Fraction(-1, 10), Fraction(10)

    def __init__(self) -> None:
        self.count = 0
        self._shift = Fraction(0)
        self._expected: dict[int, Fraction] = {}

    def fix(self, packet: av.Packet[Any]) -> None:
        """Move a packet's timestamps; call for every packet in file order."""
        at = packet.dts if packet.dts is not None else packet.pts
        if at is None or not packet.time_base:
            return
        base = Fraction(packet.time_base)
        time = at * base + self._shift
        if packet.stream.type in ("audio", "video"):
            expected = self._expected.get(packet.stream_index)
            if expected is not None and not self.BACKWARD <= time - expected <= self.FORWARD:
                self._shift -= time - expected
                self.count += 1
                time = expected
            self._expected[packet.stream_index] = time + (packet.duration or 0) * base
        ticks = round(self._shift / base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks


@dataclass(frozen=True, slots=True)
class Timeline:
    """The part of the input that is kept, and the one offset that all its timestamps are moved by.

    Attributes:
        offset: seconds subtracted from every timestamp of every stream and chapter.
        begin: first second that is kept, on the input's clock; None keeps all.
        end: second at which to stop, on the input's clock; None goes to the end.
    """

    offset: Fraction
    begin: Fraction | None
    end: Fraction | None

    @classmethod
    def make(
        cls,
        format_name: str,
        origin: Fraction,
        start: float | None,
        stop: float | None,
        *,
        joined: bool = False,
    ) -> Timeline:
        """
        Args:
            format_name: demuxer, which tells whether its clock's origin means anything.
            joined: reading began in the middle of a running stream, so the origin means nothing.
            origin: the container's first timestamp in seconds.
            start, stop: seconds from the input's beginning, as the user gave them.

        Raises:
            UsageError: negative, or stop is not after start.
        """
        for name, value in (("start", start), ("stop", stop)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} must be a time in seconds, not {value:g}")
        if stop is not None and stop <= (start or 0.0):
            raise UsageError(f"stop ({stop:g} s) must be later than start ({start or 0.0:g} s)")
        begin = None if start is None else origin + _exact(start)
        end = None if stop is None else origin + _exact(stop)
        if begin is not None:
            return cls(begin, begin, end)
        moved = joined or format_name in ARBITRARY_ORIGIN
        return cls(origin if moved else Fraction(0), None, end)

    def shift(self, ticks: int, time_base: Fraction) -> int:
        """A timestamp on the output's clock, in the same time base."""
        return ticks - round(self.offset / time_base)

    def before(self, ticks: int, time_base: Fraction) -> bool:
        """Whether a timestamp of the input lies before the kept part."""
        return self.begin is not None and ticks * time_base < self.begin

    def after(self, ticks: int, time_base: Fraction) -> bool:
        """Whether a timestamp of the input lies behind the kept part."""
        return self.end is not None and ticks * time_base >= self.end

    def chapters(self, chapters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Chapters moved to the output's clock; cut, or left out, where they leave the kept part."""
        kept = []
        for chapter in chapters:
            base = Fraction(chapter["time_base"])
            start, end = chapter["start"], chapter["end"]
            if self.begin is not None:
                if end * base <= self.begin:
                    continue
                start = max(start, math.ceil(self.begin / base))
            if self.end is not None:
                if start * base >= self.end:
                    continue
                end = min(end, math.floor(self.end / base))
            start, end = self.shift(start, base), self.shift(end, base)
            kept.append({**chapter, "start": max(start, 0), "end": max(end, 0)})
        return kept


def _exact(seconds: float) -> Fraction:
    """Seconds as typed: 0.1 is a tenth, not its binary neighbour."""
    return Fraction(repr(float(seconds)))
