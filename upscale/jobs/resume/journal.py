"""The journal of a long job: what it is, and which segments are finished.

One JSON object a line. The first is the job's fingerprint and is written with a rename, so it is whole or
not there; each further one reaches the disk before the next segment's. A line that a crash has torn, and
all behind it, counts as never written::

    {"journal": 1, "segment_frames": 600, "job": {"input size": 123456, …}}
    {"segment": 0, "frames": 600, "begin": 0, "end": 299500, "bytes": …, "crc32": …, "pts": "0 500*599", …}
    {"segment": 600, …}
    {"end": {…}}          all frames are in segments
    {"joined": true}      the output is there, only this folder is left to remove

    no journal ──header──> open ──add, drop──> open ──finish──> complete ──mark_joined──> joined, may go
                             ^                                      │
                             └──── drop: a segment was damaged ─────┘
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from upscale.backends import variants
from upscale.backends.variants import Variant
from upscale.errors import OutputError, UsageError
from upscale.jobs.resume.work_folder import WorkFolder
from upscale.media.output.times import PacketTimes, unpack
from upscale.system.locks import open_plain
from upscale.system.safe_file import sync_folder, write_error, write_whole

_FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One finished segment.

    Attributes:
        first: number of its first frame among all that come out of the input.
        frames: how many there are.
        begin, end: pts of its first and last frame in the input's ticks, as `Source` delivers them.
        bytes, crc32: of the file.
        reorder: `PacketTimes.reorder`.
        pts, durations: of its packets, see `upscale.media.output.times.pack`.
        adjusted: time stamps that the encoder could not have and that were moved.
        decode_errors, corrupt_frames: of the input in this part, if the segment was made by itself.
    """

    first: int
    frames: int
    begin: int
    end: int
    bytes: int
    crc32: int
    reorder: int
    pts: str
    durations: str
    adjusted: int = 0
    decode_errors: int = 0
    corrupt_frames: int = 0

    @property
    def times(self) -> PacketTimes:
        """Exact times of its packets.

        Raises:
            OutputError: the journal is damaged.
        """
        try:
            times = PacketTimes(unpack(self.pts), unpack(self.durations), self.reorder)
        except ValueError:
            times = PacketTimes((), (), 0)
        if not len(times.pts) == len(times.durations) == self.frames:
            raise OutputError(f"the journal's times of segment {self.first} are damaged")
        return times

    def as_json(self) -> dict[str, Any]:
        """A dict of plain JSON values."""
        values = asdict(self)
        return {"segment": values.pop("first"), **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Segment:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError: it did not.
        """
        values = dict(values)
        values["first"] = values.pop("segment")
        segment = cls(**values)
        numbers = (f for f in fields(cls) if f.type in (int, "int"))
        if not all(type(getattr(segment, f.name)) is int for f in numbers):
            raise TypeError
        return segment


class Journal:
    """The journal of one work folder, open for writing; a context manager.

    Attributes:
        segments: the finished ones, in the order of the frames, none overlapping another.
        end: what was known of the input when its last frame was written; None before.
        joined: the output is there.
    """

    def __init__(self, folder: WorkFolder, job: dict[str, Any], segment_frames: int) -> None:
        """Open the journal of a job, or begin it.

        Args:
            job: `upscale.jobs.resume.fingerprint.fingerprint`.
            segment_frames: length of a segment.

        Raises:
            UsageError: the folder belongs to another job; the message names what differs.
            OutputError: it cannot be read or written.
        """
        self._folder = folder
        self.segments: list[Segment] = []
        self.end: dict[str, Any] | None = None
        self.joined = False
        header = {"journal": _FORMAT, "segment_frames": segment_frames, "job": job}
        try:
            if os.path.lexists(folder.journal):
                self._handle = open_plain(folder.journal, os.O_RDWR | os.O_APPEND)
                self._read(header)
            else:
                write_whole(folder.journal, json.dumps(header) + "\n", overwrite=False)
                sync_folder(os.path.dirname(folder.path))
                self._handle = open_plain(folder.journal, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise write_error(error, folder.journal) from error

    def _read(self, wanted: dict[str, Any]) -> None:
        lines = _whole_lines(self._handle)
        header = lines[0][0] if lines else {}
        self._compare(header, wanted)
        found: dict[int, Segment] = {}
        valid = lines[0][1]
        for entry, end in lines[1:]:
            try:
                if "segment" in entry:
                    segment = Segment.from_json(entry)
                    found[segment.first] = segment
                elif "end" in entry:
                    self.end = dict(entry["end"])
                self.joined = self.joined or "joined" in entry
            except (KeyError, TypeError, ValueError):
                break
            valid = end
        os.ftruncate(self._handle, valid)  # a new line must not follow half a line
        for segment in sorted(found.values(), key=lambda s: s.begin):
            if not self.segments or segment.begin > self.segments[-1].end:
                self.segments.append(segment)

    def _compare(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        if found.get("journal") != _FORMAT or not isinstance(found.get("job"), dict):
            self._refuse("its journal cannot be read")
        old, new = found["job"], wanted["job"]
        names = [n for n in dict.fromkeys([*new, *old]) if old.get(n) != new.get(n)]
        if found.get("segment_frames") != wanted["segment_frames"]:
            names.append("length of segments")
        if names:
            shown = ", ".join(_difference(n, old.get(n), new.get(n)) for n in names)
            self._refuse(f"it belongs to another job: {shown}")

    def _refuse(self, why: str) -> None:
        raise UsageError(
            f"cannot continue from {self._folder.path}: {why}; remove that folder to start again, "
            "or use --no-resume",
            path=self._folder.output,
        )

    @property
    def frames(self) -> int:
        """Frames in finished segments."""
        return sum(s.frames for s in self.segments)

    @property
    def bytes(self) -> int:
        """Size of all finished segments."""
        return sum(s.bytes for s in self.segments)

    def add(self, segment: Segment) -> None:
        """Note a finished segment, whose file has its name already.

        Raises:
            OutputError: the disk is full.
        """
        self._append(segment.as_json())
        self.segments.append(segment)
        self.segments.sort(key=lambda s: s.begin)

    def drop(self, segment: Segment) -> None:
        """Forget a segment whose file is gone or damaged, and remove the file."""
        self.segments.remove(segment)
        self.end = None
        try:
            os.unlink(self._folder.segment(segment.first))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise write_error(error, self._folder.path) from error

    def finish(self, end: dict[str, Any]) -> None:
        """Note that every frame is in a segment, and what is known of the input."""
        self._append({"end": end})
        self.end = end

    def mark_joined(self) -> None:
        """Note that the output is there."""
        self._append({"joined": True})
        self.joined = True

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            _write(self._handle, entry)
        except OSError as error:
            raise write_error(error, self._folder.journal) from error

    def close(self) -> None:
        """Close the file; without any segment it is removed."""
        os.close(self._handle)
        if not self.segments and not self.joined:
            with contextlib.suppress(OSError):
                os.unlink(self._folder.journal)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def recorded_job(folder: WorkFolder) -> dict[str, Any]:
    """The fingerprint of the job that the folder belongs to; empty if there is none, or it cannot be read."""
    try:
        with open(open_plain(folder.journal, os.O_RDONLY), encoding="utf-8") as file:
            return dict(json.loads(file.readline())["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def recorded_runtime(folder: WorkFolder) -> Variant | None:
    """The runtime with which the folder's job was begun; None if there is none, or it cannot be read."""
    try:
        return variants.parse(recorded_job(folder)["runtime"])
    except (ValueError, KeyError, AttributeError):
        return None


def _write(handle: int, entry: dict[str, Any]) -> None:
    data = json.dumps(entry).encode() + b"\n"
    start = os.fstat(handle).st_size
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, start)
        raise


def _whole_lines(handle: int) -> list[tuple[dict[str, Any], int]]:
    """Every line that is a whole JSON object, up to the first that is not, and where each ends."""
    found: list[tuple[dict[str, Any], int]] = []
    end = 0
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        for line in file:
            end += len(line)
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                break
            found.append((entry, end))
    return found


def _difference(name: str, old: Any, new: Any) -> str:
    """``crf 19, now 23``; long values are left out."""
    shown = [str(v) if v is not None else "not given" for v in (old, new)]
    if any(len(text) > 30 for text in shown):
        return f"{name} differs"
    return f"{name} was {shown[0]}, is {shown[1]}"
