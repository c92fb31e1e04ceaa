"""Times of encoded packets: how they are written down, and decoding times for many parts in one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """Times of the packets of one segment, in decoding order and in ticks of the encoder's time base.

    Attributes:
        pts: presentation times.
        durations: one for each of them.
    """

    pts: tuple[int, ...]
    durations: tuple[int, ...]

    @property
    def reorder(self) -> int:
        """By how many places, at most, a packet comes before its place in display order."""
        rank = {pts: place for place, pts in enumerate(sorted(self.pts))}
        return max((rank[pts] - place for place, pts in enumerate(self.pts)), default=0)


def pack(values: Iterable[int]) -> str:
    """Differences, run by run: 0, 40, 80, 120 become ``0 40*3``; the first number stands as it is."""
    runs: list[list[int]] = []
    before = 0
    for value in values:
        step, before = value - before, value
        if len(runs) > 1 and runs[-1][0] == step:
            runs[-1][1] += 1
        else:
            runs.append([step, 1])
    return " ".join(f"{step}*{count}" if count > 1 else str(step) for step, count in runs)


def unpack(text: str) -> tuple[int, ...]:
    """The values that `pack` wrote.

    Raises:
        ValueError: it did not write this.
    """
    values: list[int] = []
    at = 0
    for run in text.split():
        step, _, count = run.partition("*")
        for _ in range(int(count or 1)):
            at += int(step)
            values.append(at)
    return tuple(values)


def restamp(parts: Iterable[PacketTimes], reorder: int) -> Iterator[tuple[int, int, int]]:
    """(pts, dts, duration) for every packet of the parts in turn, as one encoder would have set them.

    A decoding time is the presentation time `reorder` places before in display order, so it never
    falls, is never later than its packet's presentation, and reaches across the parts' borders.

    Args:
        parts: in display order, none overlapping the next.
        reorder: the largest `PacketTimes.reorder` of all parts.
    """
    shown: deque[int] = deque()  # display order, from the next decoding time on
    ordered = _in_parts(parts)
    ahead = list(islice(ordered, 1))
    while sum(len(part[1]) for part in ahead) <= reorder and (more := next(ordered, None)) is not None:
        ahead.append(more)
    first = list(chain.from_iterable(display for _, display, _ in ahead))
    if not first:
        return
    # The first decoding times lie before the first presentation, in the rhythm of what follows. There are
    # more than `reorder` frames: one part alone has to have them to be reordered so far.
    early = deque(pts - (first[reorder] - first[0]) for pts in first[:reorder])
    for decode, display, durations in chain(ahead, ordered):
        shown.extend(display)
        for pts, duration in zip(decode, durations, strict=True):
            yield pts, early.popleft() if early else shown.popleft(), duration


def _in_parts(
    parts: Iterable[PacketTimes],
) -> Iterator[tuple[list[int], list[int], tuple[int, ...]]]:
    """(pts in decoding order, pts in display order, durations), strictly increasing over all parts."""
    last: int | None = None
    for part in parts:
        moved: dict[int, int] = {}
        for pts in sorted(part.pts):
            last = pts if last is None or pts > last else last + 1
            moved[pts] = last
        yield [moved[pts] for pts in part.pts], list(moved.values()), part.durations
