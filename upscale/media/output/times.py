"""Times of encoded packets: how they are written down, and decoding times for many parts in one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """Times of the packets of one segment, in decoding order and in ticks of the encoder's time base.

    Attributes:
        pts: presentation times.
        durations: one for each of them.
        reorder: by how many places decoding runs ahead of display order.
    """

    pts: tuple[int, ...]
    durations: tuple[int, ...]
    reorder: int

    @classmethod
    def measured(cls, pts: Sequence[int], dts: Sequence[int | None], durations: Sequence[int]) -> PacketTimes:
        """From what an encoder gave: its lead, or a larger one if its packets need that."""
        shown = sorted(pts)
        rank = {time: place for place, time in enumerate(shown)}
        needed = max((place - rank[time] for place, time in enumerate(pts)), default=0)
        lead = sum(time is not None and time < shown[0] for time in dts)
        return cls(tuple(pts), tuple(durations), max(needed, lead))


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
        reorder: the largest of all parts.
    """
    shown: deque[int] = deque()  # display order, from the next decoding time on
    ordered = _in_parts(parts)
    ahead = list(islice(ordered, 1))
    while sum(len(part[1]) for part in ahead) <= reorder and (more := next(ordered, None)) is not None:
        ahead.append(more)
    first = list(chain.from_iterable(display for _, display, _ in ahead))
    if not first:
        return
    while len(first) <= reorder:  # a stream that is shorter than the encoder's lead
        first.append(2 * first[-1] - first[-2] if len(first) > 1 else first[-1] + max(1, ahead[0][2][0]))
    # The first decoding times lie before the first presentation, in the rhythm of what follows.
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
