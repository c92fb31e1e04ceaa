"""MPEG transport streams checked for packets that are missing.

FFmpeg bridges what is lost and hardly says so. Every packet of 188 bytes begins with 0x47, and those of one
stream are numbered modulo 16, which is enough to find every hole but one of 16 packets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_SYNC, _NULL = 0x47, 0x1FFF
#: Distance of packets, and where in it the packet begins: plain, with times (M2TS), with check bytes.
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
_CHUNK = 1 << 15
_LOOK = 1 << 16
#: Packets that must follow each other before they are taken for packets.
_IN_A_ROW = 5


@dataclass(slots=True)
class Losses:
    """What is wrong in a transport stream.

    Attributes:
        bytes: outside packets, or in packets that the receiver marked as wrong.
        breaks: places where the numbers of a stream jump. So they do in recordings that were joined, too.
    """

    bytes: int = 0
    breaks: int = 0
    _last: dict[int, int] = field(default_factory=dict)

    def count(self, packets: npt.NDArray[np.uint8]) -> None:
        """Add whole packets, (N, 188)."""
        second, fourth = packets[:, 1], packets[:, 3]
        wrong = (second & 0x80) != 0
        self.bytes += 188 * int(wrong.sum())
        pids = (second.astype(np.int32) & 0x1F) << 8 | packets[:, 2]
        announced = ((fourth & 0x20) != 0) & (packets[:, 4] > 0) & ((packets[:, 5] & 0x80) != 0)
        counted = ((fourth & 0x10) != 0) & ~wrong & (pids != _NULL)
        for pid in np.unique(pids[counted]):
            of_pid = counted & (pids == pid)
            numbers = (fourth[of_pid] & 15).astype(np.int32)
            before = np.concatenate(([self._last.get(int(pid), numbers[0])], numbers[:-1]))
            steps = (numbers - before) & 15
            self.breaks += int(((steps > 1) & ~announced[of_pid]).sum())
            self._last[int(pid)] = int(numbers[-1])


def find_losses(path: str) -> Losses:
    """Read the whole file.

    Raises:
        OSError: it cannot be read.
    """
    found = Losses()
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = _synchronise(file, 0, _LAYOUTS)
        if start is not None and start[0] >= start[1]:  # less is how a recording begins
            found.bytes += start[0]
        while start is not None:
            at, distance, offset = start
            file.seek(at)
            data = np.frombuffer(file.read(_CHUNK * distance), np.uint8)
            rows = len(data) // distance
            packets = data[: rows * distance].reshape(rows, distance)[:, offset : offset + 188]
            bad = np.flatnonzero(packets[:, 0] != _SYNC) if rows else np.empty(0, np.int64)
            good = int(bad[0]) if len(bad) else rows
            if good:
                found.count(packets[:good])
            at += good * distance
            if good == _CHUNK:
                start = at, distance, offset
                continue
            start = _synchronise(file, at, [(distance, offset)]) if len(bad) else None
            found.bytes += (start[0] if start else size) - at
    return found


def _synchronise(file: BinaryIO, at: int, layouts: Sequence[tuple[int, int]]) -> tuple[int, int, int] | None:
    """(place, distance, offset) of the next packets, five in a row or all that are left; None at the end."""
    reach = (_IN_A_ROW - 1) * max(distance for distance, _ in layouts)
    while True:
        file.seek(at)
        data = np.frombuffer(file.read(_LOOK + reach), np.uint8)
        ends = len(data) < _LOOK + reach
        found = [
            (int(places[0]), distance, offset)
            for distance, offset in layouts
            if len(places := _places(data, distance, offset, ends=ends))
        ]
        if found:
            place, distance, offset = min(found)
            return at + place, distance, offset
        if ends:
            return None
        at += _LOOK


def _places(data: npt.NDArray[np.uint8], distance: int, offset: int, *, ends: bool) -> npt.NDArray[np.int64]:
    """Where `_IN_A_ROW` packets begin one after the other, or the last ones of the file."""
    hits = data[offset:] == _SYNC
    row = hits.copy()
    for n in range(1, _IN_A_ROW):
        behind = hits[n * distance :]
        row[: len(behind)] &= behind
    whole = max(0, len(hits) - (_IN_A_ROW - 1) * distance)
    rest = np.arange(whole, len(hits)) if ends else np.empty(0, np.int64)
    # Fewer count only where the file ends with them: any byte of a payload may look like a packet.
    row[rest[(len(data) - rest) % distance != 0]] = False
    return np.flatnonzero(row if ends else row[:whole])
