"""What a running job reports to its caller, and what it returns.

Events are small frozen dataclasses; `as_json` gives the object that ``--json`` prints, one per line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

#: Of the objects that `Event.as_json` gives. It grows when a key is renamed or removed.
JSON_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of everything that a job reports.

    Attributes:
        input: the input's path as it was given, "-" for stdin.
    """

    name: ClassVar[str] = "event"
    input: str

    def as_json(self) -> dict[str, Any]:
        """A dict of plain JSON values, ``event`` first."""
        return {"event": self.name} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Event):
    """All checks are passed and the first frame is about to be read.

    Attributes:
        output: where the result will be, "-" for stdout.
        source_size, size: (width, height) in stored pixels of input and output.
        frames: how many frames are expected, 0 when the container does not say.
        duration: seconds of video expected, or None.
        model: name of the network or resampler.
        strength: `Options.strength`.
        backend: the runtime, human-readable.
        encoder: FFmpeg name of the encoder.
        pix_fmt: output pixel format.
        segment_frames: frames of one segment of a long job, 0 if the file is written in one go.
    """

    name: ClassVar[str] = "start"
    output: str
    source_size: tuple[int, int]
    size: tuple[int, int]
    frames: int
    duration: float | None
    model: str
    strength: float | None = None
    backend: str
    encoder: str
    pix_fmt: str
    segment_frames: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """A long job continues where an earlier run of it stopped.

    Attributes:
        frames: finished by earlier runs.
        total: frames expected, 0 when unknown.
    """

    name: ClassVar[str] = "resumed"
    frames: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """A few times a second while frames are encoded.

    Attributes:
        frames: frames encoded so far, those of earlier runs included.
        total: frames expected, 0 when unknown.
        seconds: wall-clock seconds since the first frame was asked for.
        fps: frames per second of wall-clock time, over the last few seconds.
        speed: seconds of video per second of wall-clock time, over this run.
        eta: seconds left, or None when the end is unknown.
        passed: finished frames of earlier runs that were read again so far, while that lasts; else 0.
        dropped: frames dropped so far, in real time.
    """

    name: ClassVar[str] = "progress"
    frames: int
    total: int
    seconds: float
    fps: float
    speed: float
    eta: float | None
    passed: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something that the user should know: a stream that cannot be kept, damage in the input, …"""

    name: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Event):
    """A finished file.

    Attributes:
        output: where it is.
        frames: frames written.
        size: (width, height) in stored pixels.
        bytes: size of the output file, None for a pipe.
        duration: seconds of video written.
        seconds: wall-clock seconds in total.
        fps, speed: frames, and seconds of video, per second of wall-clock time, in this run.
        cpu_seconds: processor time of this process from the first frame asked for to the end.
        busy: seconds that decoding, the network and encoding were at work, each summed over its
            threads; they overlap.
        reused: share of the network's pixels, 0 … 1, that were repeated from earlier frames.
        expected_frames: frames that the container promised, 0 when it did not.
        decode_errors, corrupt_frames: packets that did not decode, frames the decoder had to patch.
        adjusted_timestamps: frames whose timestamp was missing or went backwards and was replaced.
        damage: what was wrong with the input, a phrase each; empty if nothing was.
        model, strength, backend: what upscaled it.
        warnings: all messages of the `Warned` events.
        segments: of which the file was joined; 0 if it was written in one go.
        resumed_frames: how many of `frames` earlier runs made.
        dropped_frames: frames dropped because the machine could not keep up, in real time.
        stopped: a live input was ended by the user, not by its sender.
    """

    name: ClassVar[str] = "result"
    output: str
    frames: int
    size: tuple[int, int]
    bytes: int | None
    duration: float
    seconds: float
    fps: float
    speed: float
    cpu_seconds: float
    busy: dict[str, float]
    reused: float = 0.0
    expected_frames: int
    decode_errors: int
    corrupt_frames: int
    adjusted_timestamps: int
    damage: tuple[str, ...] = ()
    model: str
    strength: float | None = None
    backend: str
    warnings: tuple[str, ...] = ()
    segments: int = 0
    resumed_frames: int = 0
    dropped_frames: int = 0
    stopped: bool = False

    @property
    def damaged(self) -> bool:
        """The job finished, but frames of the input are missing or patched."""
        return bool(self.damage)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStart(Event):
    """A directory was read: `files` inputs will be processed, up to `jobs` at once."""

    name: ClassVar[str] = "batch"
    output: str
    files: int
    jobs: int = 1  # 0: as many as the workers of a cluster have room for


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Event):
    """An input was skipped, with the reason."""

    name: ClassVar[str] = "skipped"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """One file failed; in a directory, the others continue."""

    name: ClassVar[str] = "failed"
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult(Event):
    """A finished directory, or several files.

    Attributes:
        output: the directory written to.
        results, skipped, failed: what became of each file, in the order of their names.
        seconds: wall-clock seconds in total.
    """

    name: ClassVar[str] = "summary"
    output: str
    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Failed, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """1 if any file failed, else 3 if any input was damaged, else 0."""
        if self.failed:
            return 1
        return 3 if any(r.damaged for r in self.results) else 0

    def as_json(self) -> dict[str, Any]:
        """Counts only: every file has had its own event."""
        counts = {name: len(getattr(self, name)) for name in ("results", "skipped", "failed")}
        return {"event": self.name, "input": self.input, "output": self.output, **counts,
                "seconds": _plain(self.seconds)}  # fmt: skip


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The default listener: does nothing."""


def _plain(value: Any) -> Any:
    if isinstance(value, Event):
        return value.as_json()
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value
