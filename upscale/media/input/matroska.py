"""Matroska and WebM files checked for bytes that no demuxer can read.

FFmpeg skips what it does not understand, and says nothing: frames are gone, and the file only seems
shorter. Here the elements are walked from header to header, so that a cut, a hole or an overwritten block
shows as bytes outside every element. Contents are not read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

_EBML, _SEGMENT, _CLUSTER, _GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
_VOID, _CHECKSUM = 0xEC, 0xBF
_BLOCKS = frozenset({0xA3, 0xA1})

#: Element that is entered → elements that it may hold. All others are passed over by their size.
_CHILDREN = {
    _SEGMENT: frozenset(
        # SeekHead, Info, Tracks, Cues, Tags, Chapters, Attachments
        {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469}
        | {_CLUSTER, _VOID, _CHECKSUM}
    ),
    # Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, EncryptedBlock
    _CLUSTER: frozenset({0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xAF, _GROUP, _VOID, _CHECKSUM}),
    # Block and what may lie beside it: virtual, additions, duration, references, codec state, padding, slices
    _GROUP: frozenset(
        {0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8, _VOID, _CHECKSUM}
    ),
}
_TOP = frozenset({_EBML, _SEGMENT, _VOID, _CHECKSUM})
_SEARCH = 1 << 20


@dataclass(frozen=True, slots=True)
class Structure:
    """What a walk found.

    Attributes:
        lost: bytes that are missing at the end of the file, or in it but outside its structure.
        blocks: of all tracks; each holds at least one packet.
    """

    lost: int
    blocks: int


def structure(path: str) -> Structure:
    """Walk through the whole file.

    Raises:
        OSError: the file cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        return _Walk(file, size).run()


class _Walk:
    """One pass over the elements of a file.

    Open elements lie on a stack of (id, end); an end of None is unknown, as live recorders write it, and
    such an element ends where one begins that it cannot hold.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._open: list[tuple[int, int | None]] = []

    def run(self) -> Structure:
        at = lost = blocks = 0
        while at < self._size:
            if self._leave(at):  # behind the segment: padding, or anything
                break
            header = self._header(at)
            place = self._place(header, at)
            if header is None or place is None:
                found = self._next_cluster(at + 1)
                lost += found - at
                at = found
                continue
            element, begin, end = header
            if element in _CHILDREN:
                self._open.append((element, end))
                at = begin
            else:
                blocks += element in _BLOCKS
                at = end if end is not None else self._size
        end = self._open[0][1] if self._open else None
        return Structure(lost + max(0, (end or 0) - self._size), blocks)

    def _leave(self, at: int) -> bool:
        """Close what ends here; True if that was the segment."""
        closed = False
        while self._open and (end := self._open[-1][1]) is not None and at >= end:
            self._open.pop()
            closed = not self._open
        return closed

    def _place(self, header: tuple[int, int, int | None] | None, at: int) -> int | None:
        """The element's level on the stack, which is cut down to it; None if it cannot lie here."""
        if header is None:
            return None
        element, _, end = header
        for level in range(len(self._open), -1, -1):
            parent, limit = self._open[level - 1] if level else (0, None)
            if element in (_CHILDREN[parent] if level else _TOP):
                # Only a segment may promise more than there is: it is what was cut.
                room = self._size if limit is None else min(limit, self._size)
                if end is not None and end > room and element != _SEGMENT:
                    return None
                del self._open[level:]
                return level
            if limit is not None:  # it ends at its end, not before
                return None
        return None

    def _next_cluster(self, at: int) -> int:
        """Where the next cluster seems to begin, or the end of the file; closes all but the segment."""
        del self._open[1:]
        mark = _CLUSTER.to_bytes(4)
        while at < self._size:
            self._file.seek(at)
            found = self._file.read(_SEARCH).find(mark)
            if found >= 0:
                return at + found
            at += _SEARCH - len(mark) + 1
        return self._size

    def _header(self, at: int) -> tuple[int, int, int | None] | None:
        """(id, begin of the content, its end) of the element at a place; None if there is none."""
        self._file.seek(at)
        found = element(self._file.read(12), 0)
        if found is None:
            return None
        name, begin, end = found
        return name, at + begin, None if end is None else at + end


def element(data: bytes, at: int) -> tuple[int, int, int | None] | None:
    """(id, begin of the content, its end) of the element that begins at `at`.

    Returns:
        None if there is none (or not all of its header); an end of None is unknown.
    """
    if at >= len(data) or not data[at]:
        return None
    size_at = at + 9 - data[at].bit_length()
    if size_at - at > 4 or size_at >= len(data) or not data[size_at]:
        return None
    begin = size_at + 9 - data[size_at].bit_length()
    if begin > len(data):
        return None
    largest = (1 << 7 * (begin - size_at)) - 1
    size = int.from_bytes(data[size_at:begin]) & largest
    return int.from_bytes(data[at:size_at]), begin, None if size == largest else begin + size
