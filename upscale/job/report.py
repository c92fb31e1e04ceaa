"""The events of one job, and its result."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upscale.events import OnEvent, Progress, Result, Start, Warned

if TYPE_CHECKING:
    from upscale.job.live import LiveJob
    from upscale.job.loop import Loop
    from upscale.job.prepare import Network, Prepared
    from upscale.media.input.damage import SourceStats
    from upscale.media.output.sink import OutputReport

#: Seconds between two `Progress` events.
_PROGRESS_EVERY = 0.2
#: Seconds that the reported frame rate looks back.
_PROGRESS_WINDOW = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """What one run of a job did, and with what.

    Attributes:
        model, backend: for people.
        frames: encoded in this run.
        media_seconds: of video, in this run.
        seconds, cpu_seconds, busy, reused: see `Result`.
    """

    model: str
    backend: str
    frames: int
    media_seconds: float
    seconds: float
    cpu_seconds: float
    busy: dict[str, float]
    reused: float = 0.0

    @classmethod
    def of(cls, loop: Loop, network: Network) -> RunStats:
        """That of a loop that has finished."""
        return cls(
            model=network.model,
            backend=network.backend,
            frames=loop.frames,
            media_seconds=loop.media_seconds,
            seconds=loop.seconds,
            cpu_seconds=loop.cpu_seconds,
            busy=loop.busy,
            reused=network.upscaler.reused,
        )


class Reporter:
    """Sends a job's events.

    Attributes:
        warnings: the messages so far.
        started: `time.perf_counter` when it was made.
    """

    def __init__(self, input: str, on_event: OnEvent) -> None:
        self.warnings: list[str] = []
        self.started = time.perf_counter()
        self.send = on_event
        self._input = input

    def warn(self, message: str) -> None:
        """Send a `Warned` event."""
        self.warnings.append(message)
        self.send(Warned(input=self._input, message=message))

    def announce(self, job: Prepared, model: str, backend: str, segment_frames: int = 0) -> None:
        """Send the `Start` event; `model` and `backend` are for people."""
        source, video, encoder = job.source, job.video, job.plan.encoder
        self.send(
            Start(
                input=job.input,
                output=job.output,
                source_size=(video.width, video.height),
                size=job.plan.size,
                frames=source.estimated_frames,
                duration=source.clip_duration,
                model=model,
                strength=job.options.strength,
                backend=backend,
                encoder=encoder.codec,
                pix_fmt=encoder.pix_fmt,
                segment_frames=segment_frames,
            )
        )

    def result(
        self,
        job: Prepared,
        effort: RunStats,
        stats: SourceStats,
        report: OutputReport,
        *,
        live: LiveJob | None = None,
        segments: int = 0,
        resumed_frames: int = 0,
    ) -> Result:
        """Send the `Result` event, and return it; damage of the input is warned of first.

        Args:
            effort: of this run.
            stats: of the input, read to its end.
            report: of the output.
            live: what was dropped or stopped.
            segments, resumed_frames: see `Result`.
        """
        damage = tuple(stats.damage())
        if damage:
            self.warn(f"the input is damaged: {', '.join(damage)}")
        dropped = live.dropped if live is not None else 0
        if dropped:
            came = report.frames + dropped
            self.warn(f"{dropped} of {came} frames were dropped: the machine cannot keep up")
        result = Result(
            input=job.input,
            output=job.output,
            frames=report.frames,
            size=report.size,
            bytes=report.file_size,
            duration=report.duration if segments and report.duration is not None else effort.media_seconds,
            seconds=time.perf_counter() - self.started,
            fps=effort.frames / effort.seconds if effort.seconds else 0.0,
            speed=effort.media_seconds / effort.seconds if effort.seconds else 0.0,
            cpu_seconds=effort.cpu_seconds,
            busy=effort.busy,
            reused=effort.reused,
            expected_frames=stats.expected_frames,
            decode_errors=stats.decode_errors,
            corrupt_frames=stats.corrupt_frames,
            adjusted_timestamps=stats.adjusted_timestamps + report.adjusted_timestamps,
            damage=damage,
            model=effort.model,
            strength=job.options.strength,
            backend=effort.backend,
            warnings=tuple(self.warnings),
            dropped_frames=dropped,
            stopped=live is not None and live.stopped,
            segments=segments,
            resumed_frames=resumed_frames,
        )
        self.send(result)
        return result


class ProgressMeter:
    """Sends `Progress` now and then; called with (frames, seconds of video) of this run."""

    def __init__(
        self, input: str, total: int, send: OnEvent, done: int = 0, live: LiveJob | None = None
    ) -> None:
        """
        Args:
            total: frames of the whole job, 0 if unknown.
            done: frames of earlier runs.
            live: counts what is dropped.
        """
        self._input = input
        self._total = total
        self._send = send
        self._done = done
        self._live = live
        self._begun = self._sent = time.perf_counter()
        self._history: deque[tuple[float, int]] = deque([(self._begun, 0)])

    def __call__(self, frames: int, media_seconds: float) -> None:
        now = time.perf_counter()
        if now - self._sent < _PROGRESS_EVERY:
            return
        self._sent = now
        self._history.append((now, frames))
        while now - self._history[0][0] > _PROGRESS_WINDOW and len(self._history) > 2:
            self._history.popleft()
        (since, before), elapsed = self._history[0], now - self._begun
        fps = (frames - before) / (now - since)
        rest = self._total - self._done - frames
        self._event(
            frames=self._done + frames,
            seconds=elapsed,
            fps=fps,
            speed=media_seconds / elapsed,
            eta=rest / fps if rest >= 0 and fps > 0 and self._total else None,
        )

    def passing(self, passed: int) -> None:
        """Finished frames are being read again, `passed` of them so far."""
        now = time.perf_counter()
        self._history = deque([(now, 0)])  # the rate is that of new frames
        if now - self._sent >= _PROGRESS_EVERY:
            self._sent = now
            self._event(
                frames=self._done, seconds=now - self._begun, fps=0.0, speed=0.0, eta=None, passed=passed
            )

    def _event(
        self, *, frames: int, seconds: float, fps: float, speed: float, eta: float | None, passed: int = 0
    ) -> None:
        self._send(
            Progress(
                input=self._input,
                frames=frames,
                total=self._total,
                seconds=seconds,
                fps=fps,
                speed=speed,
                eta=eta,
                passed=passed,
                dropped=self._live.dropped if self._live is not None else 0,
            )
        )
