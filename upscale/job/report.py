"""The events of one job, and its result."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from upscale.events import OnEvent, Progress, Result, Start, Warned

if TYPE_CHECKING:
    from upscale.job.live import LiveJob
    from upscale.job.loop import RunStats
    from upscale.job.prepare import Prepared
    from upscale.media.input.damage import SourceStats
    from upscale.media.output.sink import OutputReport

#: Seconds between two `Progress` events.
_PROGRESS_EVERY = 0.2
#: Seconds that the reported frame rate looks back.
_PROGRESS_WINDOW = 5.0


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
        self._backend = ""

    def warn(self, message: str) -> None:
        """Send a `Warned` event."""
        self.warnings.append(message)
        self.send(Warned(input=self._input, message=message))

    def announce(self, job: Prepared, backend: str, segment_frames: int = 0) -> None:
        """Send the `Start` event; `backend` is human-readable."""
        source, video, encoder = job.source, job.video, job.plan.encoder
        self._backend = backend
        self.send(
            Start(
                input=job.input,
                output=job.output,
                source_size=(video.width, video.height),
                size=job.plan.size,
                frames=source.estimated_frames,
                duration=source.clip_duration,
                model=job.model_name,
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
        run: RunStats,
        stats: SourceStats,
        report: OutputReport,
        *,
        live: LiveJob | None = None,
        segments: int = 0,
        resumed_frames: int = 0,
    ) -> Result:
        """Send the `Result` event, and return it; what showed only while reading is warned of first.

        Args:
            run: what this run did.
            stats: of the input, read to its end.
            report: of the output.
            live: what was dropped or stopped.
            segments, resumed_frames: see `Result`.
        """
        dropped = live.dropped if live is not None else 0
        damage = tuple(stats.damage())
        self._warn_at_end(job, stats, report.frames, dropped)
        result = Result(
            input=job.input,
            output=job.output,
            frames=report.frames,
            size=report.size,
            bytes=report.file_size,
            duration=report.duration if segments and report.duration is not None else run.media_seconds,
            seconds=time.perf_counter() - self.started,
            fps=run.frames / run.seconds if run.seconds else 0.0,
            speed=run.media_seconds / run.seconds if run.seconds else 0.0,
            cpu_seconds=run.cpu_seconds,
            busy=run.busy,
            reused=run.reused,
            expected_frames=stats.expected_frames,
            decode_errors=stats.decode_errors,
            corrupt_frames=stats.corrupt_frames,
            adjusted_timestamps=stats.adjusted_timestamps + report.adjusted_timestamps,
            damage=damage,
            model=job.model_name,
            strength=job.options.strength,
            backend=self._backend,
            warnings=tuple(self.warnings),
            dropped_frames=dropped,
            stopped=live is not None and live.stopped,
            segments=segments,
            resumed_frames=resumed_frames,
        )
        self.send(result)
        return result

    def _warn_at_end(self, job: Prepared, stats: SourceStats, frames: int, dropped: int) -> None:
        from upscale.media.output.losses import lost_extras

        # What the first frames carried was named by the plan.
        late = lost_extras(stats.side_data.keys() - job.video.side_data, job.plan.encoder)
        if late:
            self.warn(f"not in the output: {', '.join(late)}")
        if damage := stats.damage():
            self.warn(f"the input is damaged: {', '.join(damage)}")
        if dropped:
            total = frames + dropped
            self.warn(f"{dropped} of {total} frames were dropped: the machine cannot keep up")


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
        eta = rest / fps if rest >= 0 and fps > 0 and self._total else None
        self._progress(self._done + frames, elapsed, fps=fps, speed=media_seconds / elapsed, eta=eta)

    def passing(self, passed: int) -> None:
        """Finished frames are being read again, `passed` of them so far."""
        now = time.perf_counter()
        self._history = deque([(now, 0)])  # the rate is that of new frames
        if now - self._sent >= _PROGRESS_EVERY:
            self._sent = now
            self._progress(self._done, now - self._begun, fps=0.0, speed=0.0, eta=None, passed=passed)

    def _progress(self, frames: int, seconds: float, **values: Any) -> None:
        dropped = self._live.dropped if self._live is not None else 0
        self._send(
            Progress(
                input=self._input,
                frames=frames,
                total=self._total,
                seconds=seconds,
                dropped=dropped,
                **values,
            )
        )
