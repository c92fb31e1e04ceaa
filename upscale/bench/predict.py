"""How long one file will take here, from a few seconds of the real job."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from upscale.errors import UsageError
from upscale.events import Event, Progress, Result, Start
from upscale.jobs.resume.local import upscale_here
from upscale.media.input.stills import picture_format
from upscale.options import Options

#: Seconds of wall-clock time that are not counted, and that are.
_WARM_UP, _COUNTED = 1.0, 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An estimate for one file.

    Attributes:
        frames: frames of the whole job, 0 when the container does not say.
        measured_frames: frames that the estimate rests on.
        fps: frames per second of wall-clock time.
        seconds: of wall-clock time for the whole job, or None when `frames` is 0.
        speed: seconds of video per second, or None when the length is unknown.
        model, backend, encoder: what was used.
    """

    input: str
    frames: int
    measured_frames: int
    fps: float
    seconds: float | None
    speed: float | None
    model: str
    backend: str
    encoder: str


class _Enough(Exception):
    """The measurement is long enough."""


def predict(input: str, options: Options, extension: str = "mkv") -> Prediction:
    """Run the real job into a temporary file for a few seconds and extrapolate.

    Args:
        extension: of the temporary output, which decides its container and encoder.

    Raises:
        UpscaleError: whatever the job itself would raise.
    """
    if picture_format(input) is not None:
        raise UsageError("a still picture, not a video", path=input)
    watch = _Watch()
    with TemporaryDirectory(prefix="upscale-bench-") as folder:
        output = str(Path(folder) / f"part.{extension}")
        with suppress(_Enough):
            upscale_here(input, output, replace(options, overwrite=True), watch)
    return watch.prediction(input)


class _Watch:
    """Listens to a job and stops it after `_COUNTED` seconds."""

    def __init__(self) -> None:
        self._created = time.perf_counter()
        self._start: Start | None = None
        self._start_up = 0.0
        self._first: Progress | None = None
        self._last: Progress | None = None
        self._result: Result | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Start():
                self._start = event
                self._start_up = time.perf_counter() - self._created
            case Progress():
                if self._first is None and event.seconds >= _WARM_UP:
                    self._first = event
                self._last = event
                if self._first is not None and event.seconds - self._first.seconds >= _COUNTED:
                    raise _Enough
            case Result():
                self._result = event

    def prediction(self, input: str) -> Prediction:
        """The estimate from what was heard."""
        start, result, first, last = self._start, self._result, self._first, self._last
        assert start is not None
        if result is not None:  # so short that the whole of it was done
            fps, measured, total = result.fps, result.frames, result.frames
        else:
            assert first is not None and last is not None
            measured = last.frames - first.frames
            fps, total = measured / (last.seconds - first.seconds), start.frames
        seconds = self._start_up + total / fps if total else None
        return Prediction(
            input=input,
            frames=total,
            measured_frames=measured,
            fps=fps,
            seconds=result.seconds if result is not None else seconds,
            speed=start.duration / seconds if seconds and start.duration else None,
            model=start.model,
            backend=start.backend,
            encoder=start.encoder,
        )
