"""The one streaming loop: decode → network → encode, everything else passes by.

Three stages overlap. A thread reads and decodes, as many threads as the network can use upscale
one frame each, and the calling thread encodes and writes, so that Ctrl-C reaches it. What is in
flight is bounded, so memory does not depend on the length of the video.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from upscale import memory, naming
from upscale.errors import UpscaleError, UsageError
from upscale.events import OnEvent, Progress, Result, Start, Warned, ignore
from upscale.live import LiveJob, run_apart
from upscale.options import RESAMPLERS, Options
from upscale.ordered import OrderedMap, interruptible

if TYPE_CHECKING:
    import av

    from upscale.backends.base import Backend
    from upscale.media.plan import Plan
    from upscale.media.sink import OutputReport, Sink
    from upscale.media.source import Source
    from upscale.model.weights import ModelFiles

#: Seconds between two `Progress` events.
_PROGRESS_EVERY = 0.2
#: Seconds that the reported frame rate looks back.
_PROGRESS_WINDOW = 5.0


def upscale_file(
    input: str, output: str | None = None, options: Options | None = None, on_event: OnEvent = ignore
) -> Result:
    """Upscale one video.

    Args:
        input: path, "-" for stdin, a URL or a capture device (`upscale.media.address`).
        output: path, a directory to put the default name into, "-" for stdout, or None for the
            default name beside the input (`upscale.naming.default_output`).
        options: see `Options`.
        on_event: called in this thread with `Start`, `Warned`, `Progress` and, at the end, `Result`.

    Raises:
        UpscaleError: a subclass says what went wrong; nothing is left under the output's name
            that was not there before.
        KeyboardInterrupt: handed on after all threads have stopped and the unfinished file is gone;
            with a URL or a device as the input, after what was recorded is finished under its name.
    """
    options = options or Options()
    try:
        live = LiveJob(input, options)
        if live.live:
            return run_apart(lambda put: _Job(input, output, options, put, live).run(), live.stop, on_event)
        return _Job(input, output, options, on_event, live).run()
    except UpscaleError as error:
        error.path = error.path or input
        raise
    finally:
        memory.give_back()


class _Job:
    """One run of `upscale_file`."""

    def __init__(
        self, input: str, output: str | None, options: Options, on_event: OnEvent, live: LiveJob
    ) -> None:
        self.live = live
        self.input = input
        self.options = options
        self.on_event = on_event
        self.warnings: list[str] = []
        self.started = time.perf_counter()
        self.output, self.note = naming.resolve_output(input, output, options)
        self.loop: _Loop | None = None

    def run(self) -> Result:
        from av import VideoFormat

        from upscale.frames import FrameUpscaler
        from upscale.media.plan import make_plan
        from upscale.media.safefile import check_output
        from upscale.media.sink import Sink
        from upscale.planes import bit_depth
        from upscale.sizing import target_size

        check_output(self.input, self.output, self.options.overwrite)
        model = find_model(self.options)
        with ExitStack() as stack:
            source = self._open_source(stack)
            self.live.opened(source)
            video = source.info.video
            assert video is not None  # Source refuses files without video
            size = target_size(video, self.options)
            plan = make_plan(source.info, self.output, self.options, size, source.frame_format)
            self.live.check(source, plan)
            notes = list(source.notes)
            for message in [*([self.note] if self.note else []), *notes, *plan.warnings]:
                self._warn(message)
            bits = bit_depth(VideoFormat(source.frame_format))
            backend = _load_backend(model, self.options, video.height, video.width, bits)
            if backend is not None:
                stack.enter_context(backend)
            resampler = model if isinstance(model, str) else RESAMPLERS[0]
            config = None if isinstance(model, str) or not self.options.reuse else model.config
            upscaler = FrameUpscaler(backend, size, resampler, config)
            sink = stack.enter_context(Sink(source, self.output, plan, self.options))
            names = _names(model, backend)
            self._announce(source, plan, names)
            self.loop = _Loop(
                source, upscaler, sink, self._reporter(source), _workers(self.options, backend), self.live
            )
            self.loop.run()
            for message in source.notes[len(notes) :]:  # what showed only while reading
                self._warn(message)
            report = self.loop.finish()
            return self._finish(source, report, names, upscaler.reused)

    def _open_source(self, stack: ExitStack) -> Source:
        from upscale.media.source import Source

        o = self.options

        def opened() -> Source:
            return Source(
                self.input,
                start=o.start,
                stop=o.stop,
                keep_interlaced=o.keep_interlaced,
                audio=o.audio,
                subtitles=o.subtitles,
                strict=o.strict,
                timeout=o.timeout,
                input_options=o.input_options,
            )

        # A silent stdin would block this thread in a read that no signal can interrupt.
        source = interruptible(opened) if self.input == "-" else opened()
        stack.callback(self._close_source, source)
        return source

    def _close_source(self, source: Source) -> None:
        """Close it, unless its thread hangs in a read from it: freeing it then would crash."""
        if self.loop is None or not self.loop.hangs:
            source.close()

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.on_event(Warned(input=self.input, message=message))

    def _announce(self, source: Source, plan: Plan, names: tuple[str, str]) -> None:
        video = source.info.video
        assert video is not None
        self.on_event(
            Start(
                input=self.input,
                output=self.output,
                source_size=(video.width, video.height),
                size=plan.size,
                frames=source.estimated_frames,
                duration=source.clip_duration,
                model=names[0],
                strength=self.options.strength,
                backend=names[1],
                encoder=plan.encoder.codec,
                pix_fmt=plan.encoder.pix_fmt,
            )
        )

    def _reporter(self, source: Source) -> Callable[[int, float], None]:
        """A function of (frames, seconds of video) that sends `Progress` now and then."""
        begun = time.perf_counter()
        sent = begun
        history: deque[tuple[float, int]] = deque([(begun, 0)])
        total = source.estimated_frames
        # Without `self`: it holds the loop, which holds this function, and such a circle keeps the
        # frames, the network and the decoder of a finished job until Python looks for circles.
        on_event, input, live = self.on_event, self.input, self.live

        def report(frames: int, media_seconds: float) -> None:
            nonlocal sent
            now = time.perf_counter()
            if now - sent < _PROGRESS_EVERY:
                return
            sent = now
            history.append((now, frames))
            while now - history[0][0] > _PROGRESS_WINDOW and len(history) > 2:
                history.popleft()
            (since, before), elapsed = history[0], now - begun
            fps = (frames - before) / (now - since)
            left = (total - frames) / fps if total >= frames and fps > 0 and total else None
            on_event(
                Progress(
                    input=input,
                    frames=frames,
                    total=total,
                    seconds=elapsed,
                    fps=fps,
                    speed=media_seconds / elapsed,
                    eta=left,
                    dropped=live.dropped,
                )
            )

        return report

    def _finish(self, source: Source, report: OutputReport, names: tuple[str, str], reused: float) -> Result:
        assert self.loop is not None
        stats, loop = source.stats, self.loop
        damage = tuple(stats.damage())
        if damage:
            self._warn(f"the input is damaged: {', '.join(damage)}")
        if self.live.dropped:
            came = report.frames + self.live.dropped
            self._warn(f"{self.live.dropped} of {came} frames were dropped: the machine cannot keep up")
        result = Result(
            input=self.input,
            output=self.output,
            frames=report.frames,
            size=report.size,
            bytes=report.file_size,
            duration=loop.media_seconds,
            seconds=time.perf_counter() - self.started,
            fps=report.frames / loop.seconds,
            speed=loop.media_seconds / loop.seconds,
            cpu_seconds=loop.cpu_seconds,
            busy=loop.busy,
            reused=reused,
            expected_frames=stats.expected_frames,
            decode_errors=stats.decode_errors,
            corrupt_frames=stats.corrupt_frames,
            adjusted_timestamps=stats.adjusted_timestamps + report.adjusted_timestamps,
            damage=damage,
            model=names[0],
            strength=self.options.strength,
            backend=names[1],
            warnings=tuple(self.warnings),
            dropped_frames=self.live.dropped,
            stopped=self.live.stopped,
        )
        self.on_event(result)
        return result


class _Loop:
    """Moves everything from a source to a sink.

    Attributes:
        frames: frames handed to the sink.
        media_seconds: from the first frame's time to the end of the last one.
        seconds: wall-clock seconds from the first frame asked for to the end of `finish`.
        cpu_seconds: processor time of the process in that time.
        busy: seconds of work by stage, summed over its threads.
        hangs: the reading thread could not be stopped.
    """

    def __init__(
        self,
        source: Source,
        upscaler: Callable[[av.VideoFrame], av.VideoFrame],
        sink: Sink,
        report: Callable[[int, float], None],
        workers: int,
        live: LiveJob,
    ) -> None:
        self._source = source
        self._upscaler = upscaler
        self._sink = sink
        self._report = report
        self._workers = workers
        self._live = live
        self._lock = threading.Lock()
        self.frames = 0
        self.media_seconds = 0.0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._begun = 0.0
        self.busy = {"decode": 0.0, "network": 0.0, "encode": 0.0}
        self.hangs = False

    def run(self) -> None:
        from av import Packet

        self._begun, self.cpu_seconds = time.perf_counter(), -time.process_time()
        first: float | None = None
        items: Any = self._timed_source()
        gate = self._live.gate(items) if self._live.gated else None
        stages: OrderedMap[Any, Any] = OrderedMap(
            gate or items,
            self._upscale,
            workers=self._workers,
            # One more being decoded, one waiting, one in the encoder; what waits in real time is late.
            depth=self._workers + (1 if self._live.realtime else 3),
            passes=lambda item: isinstance(item, Packet),
        )
        try:
            with stages, gate or nullcontext():
                for item in stages:
                    before = time.perf_counter()
                    if isinstance(item, Packet):
                        self._sink.packet(item)
                    else:
                        self._sink.frame(item)
                        self.frames += 1
                        if first is None:
                            first = _seconds(item.pts, item.time_base)
                        end = _seconds((item.pts or 0) + (item.duration or 0), item.time_base)
                        self.media_seconds = end - first
                        self._report(self.frames, self.media_seconds)
                    self._add("encode", before)
        finally:
            self.hangs = not stages.finished or (gate is not None and not gate.finished)

    def finish(self) -> OutputReport:
        """Flush and close the sink."""
        before = time.perf_counter()
        report = self._sink.finish()
        self._add("encode", before)
        self.seconds = time.perf_counter() - self._begun
        self.cpu_seconds += time.process_time()
        return report

    def _upscale(self, frame: av.VideoFrame) -> av.VideoFrame:
        before = time.perf_counter()
        result = self._upscaler(frame)
        self._add("network", before)
        return result

    def _timed_source(self) -> Iterator[av.VideoFrame | av.Packet]:
        items: Iterable[av.VideoFrame | av.Packet] = self._source
        before = time.perf_counter()
        for item in items:
            self._add("decode", before)
            yield item
            before = time.perf_counter()

    def _add(self, stage: str, before: float) -> None:
        with self._lock:
            self.busy[stage] += time.perf_counter() - before


def find_model(options: Options) -> ModelFiles | str:
    """The weights files of a job, or the resampler's name.

    Raises:
        UsageError, ModelError: as `upscale.model.weights.find_model`, or a resampler with a strength.
    """
    if options.model in RESAMPLERS:
        if options.strength is not None:
            raise UsageError(f"{options.model} has no weights to blend: leave the strength out")
        return str(options.model)
    from upscale.model import weights

    return weights.find_model(options.model, options.strength)


def with_fixed_backend(options: Options) -> Options:
    """`options` with "auto" replaced by its choice for ordinary sizes, for jobs that must all use one.

    The precision stays open where it was: it depends on each file's bit depth.
    """
    model = find_model(options)
    if options.backend != "auto" or isinstance(model, str):
        return options
    from upscale import backends

    found, _ = backends.choose(
        model, 360, 640, precision=options.precision, device=options.device, threads=options.threads
    )
    return replace(options, backend=found.backend)


def _load_backend(
    model: ModelFiles | str, options: Options, height: int, width: int, bits: int
) -> Backend | None:
    """The runtime and precision that were asked for, or the fastest here; None for a resampler."""
    if isinstance(model, str):
        return None
    from upscale import backends

    device, threads = options.device, options.threads
    found, _ = backends.choose(
        model, height, width,
        backend=options.backend, precision=options.precision, bits=bits, device=device, threads=threads,
    )  # fmt: skip
    return backends.load(
        found.backend, model, precision=found.precision, device=found.device, threads=threads
    )


def _names(model: ModelFiles | str, backend: Backend | None) -> tuple[str, str]:
    """(model, runtime) for people."""
    if isinstance(model, str) or backend is None:
        return str(model), "swscale"
    return model.name, backend.description


def _workers(options: Options, backend: Backend | None) -> int:
    """Frames that are upscaled at once."""
    from upscale.backends.threads import plan_threads

    return plan_threads(options.threads).workers


def _seconds(ticks: int | None, time_base: Any) -> float:
    return float((ticks or 0) * time_base) if time_base else 0.0
