"""A long job in one process: segments one after the other, then the join.

A run that was stopped, however, is gone on with by the same command: the input is decoded from its
beginning (what the clock, the deinterlacer and the counts of damage know is then as if there had been
one run), and frames that finished segments hold are passed over before they reach the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from upscale.errors import Interrupted, MediaError, OutputError, UpscaleError, UsageError
from upscale.events import Result, Resumed
from upscale.job import stopping
from upscale.job.loop import Loop
from upscale.job.prepare import Network, Prepared, choose_runtime, load_network
from upscale.job.report import ProgressMeter, Reporter, RunStats
from upscale.jobs.resume import disk_space as space
from upscale.jobs.resume.fingerprint import fingerprint
from upscale.jobs.resume.join import join
from upscale.jobs.resume.journal import Journal, recorded_runtime
from upscale.jobs.resume.segments import SegmentMaker, segment_length, verify_work_folder
from upscale.jobs.resume.work_folder import WorkFolder
from upscale.media.input.damage import SourceStats
from upscale.system import memory

if TYPE_CHECKING:
    import av

    from upscale.media.output.sink import OutputReport

#: Frames that are passed over between two signs of life.
_PASSING_EVERY = 100


def run_long(stack: ExitStack, job: Prepared, reporter: Reporter) -> Result:
    """Do a long job, or what is left of it.

    Args:
        stack: closes what is opened here.
        job: for which `segment_length` is not 0.
        reporter: gets all events.

    Raises:
        UsageError: the work folder belongs to another job, or another process works in it.
        Interrupted: a signal asked to stop (`upscale.job.stopping`); finished segments stay.
        UpscaleError: as `upscale.upscale_file`; finished segments stay.
    """
    folder = stack.enter_context(WorkFolder(job.output))
    runtime = choose_runtime(job, recorded_runtime(folder))
    length = segment_length(job)
    journal = stack.enter_context(Journal(folder, fingerprint(job, runtime), length))
    try:
        result = _Long(job, reporter, folder, journal, length).run(stack, runtime)
    except UpscaleError as error:
        if journal.segments and isinstance(error, MediaError | UsageError):
            error.args = (f"{error}; finished segments are in {folder.path}",)
        elif journal.segments:
            error.args = (f"{error}; {_advice(journal, job)}",)
        elif isinstance(error, Interrupted):
            error.args = ("stopped; unfinished files were removed",)
        raise
    except BaseException as error:
        if journal.segments:
            error.add_note(_advice(journal, job))
        raise
    return result


def _advice(journal: Journal, job: Prepared) -> str:
    total = job.source.estimated_frames
    done = journal.frames
    where = f"frame {done} of {total}" if total > done else f"frame {done}"
    return f"finished segments are kept: the same command continues at {where}"


class _Long:
    """One run of a long job."""

    def __init__(
        self, job: Prepared, reporter: Reporter, folder: WorkFolder, journal: Journal, length: int
    ) -> None:
        self._job = job
        self._reporter = reporter
        self._folder = folder
        self._journal = journal
        self._length = length
        self._stop_request = stopping.StopRequest()
        self._listening = ExitStack()
        self._known_notes = len(job.source.notes)

    def run(self, stack: ExitStack, runtime: str) -> Result:
        job, source, journal = self._job, self._job.source, self._journal
        verify_work_folder(job, self._folder, journal, self._reporter.warn)
        done, total = journal.frames, source.estimated_frames
        network = load_network(stack, job, runtime)
        self._reporter.announce(job, network.model, network.backend, self._length)
        if done:
            self._reporter.send(Resumed(input=job.input, frames=done, total=total))
        meter = ProgressMeter(job.input, total, self._reporter.send, done)
        loop, report = self._work(network, meter)
        assert journal.end is not None
        for note in journal.end["notes"]:  # what showed only while reading
            self._reporter.warn(note)
        journal.mark_joined()
        self._folder.finished = True
        stats, count = _stats(journal.end), len(journal.segments)
        return self._reporter.result(
            job, RunStats.of(loop, network), stats, report, segments=count, resumed_frames=done
        )

    def _work(self, network: Network, meter: ProgressMeter) -> tuple[Loop[OutputReport], OutputReport]:
        """All that takes time."""
        source = self._job.source
        with (
            self._listening,
            _Recorder(self._job, self._folder, self._journal, self._stop_request) as recorder,
        ):
            self._listening.enter_context(stopping.stop_requests_to(self._stop_request))
            frames = _Unfinished(self._job, self._journal, self._length, self._stop_request, recorder, meter)
            recorder.then = partial(self._conclude, frames)
            loop: Loop[OutputReport] = Loop(frames, network.upscaler, recorder, meter, network.workers)
            if self._journal.end is None:
                try:
                    loop.run()
                finally:
                    if loop.hangs:
                        source.abandon()
            return loop, loop.finish()

    def _conclude(self, frames: _Unfinished) -> OutputReport:
        """All that was read is in segments: end here, or join them."""
        journal, source = self._journal, self._job.source
        if frames.complete:
            if journal.frames != frames.count:
                raise OutputError(f"{journal.frames} of {frames.count} frames are in segments")
            journal.finish({"stats": asdict(source.stats), "notes": source.notes[self._known_notes :]})
        if self._stop_request.reason is not None:
            raise self._stop_request.reason
        self._listening.close()  # joining can be broken off at any point
        return join(self._job, journal, self._folder)


def _stats(end: dict[str, Any]) -> SourceStats:
    """The counts of the run that read the input to its end."""
    known = {f.name for f in fields(SourceStats)}
    return SourceStats(**{name: value for name, value in end["stats"].items() if name in known})


class _Unfinished:
    """The frames that are in no segment yet, and before each run of them a call that begins a segment.

    Attributes:
        complete: the input was read to its end.
        count: frames read by then.
    """

    def __init__(
        self,
        job: Prepared,
        journal: Journal,
        length: int,
        stop_request: stopping.StopRequest,
        recorder: _Recorder,
        meter: ProgressMeter,
    ) -> None:
        self._source = job.source
        self._done = list(journal.segments)
        self._length = length
        self._stop_request = stop_request
        self._recorder = recorder
        self._meter = meter
        self.complete = False
        self.count = 0

    def __iter__(self) -> Iterator[av.VideoFrame | Callable[[], None]]:
        from av import Packet

        waiting = deque(self._done)
        passed = inside = 0
        follows = False  # the frame goes into the segment of the one before
        for frame in self._source:
            if self._stop_request.reason is not None:
                return
            if isinstance(frame, Packet):
                continue  # only seen by the source, which tells damage by them
            pts: Any = frame.pts
            while waiting and waiting[0].end < pts:
                if inside != waiting.popleft().frames:
                    raise MediaError("gives other frames than in the run before: remove the work folder")
                inside = 0
            if waiting and waiting[0].begin <= pts:
                inside, passed, follows = inside + 1, passed + 1, False
                if passed % _PASSING_EVERY == 0:
                    yield partial(self._meter.passing, passed)
            else:
                if not follows or self.count % self._length == 0:
                    yield partial(self._recorder.begin, self.count)
                follows = True
                yield frame
            self.count += 1
        self.complete = True


def _nothing() -> OutputReport:
    raise AssertionError("finished already")


class _Recorder:
    """The end of the loop: writes segments.

    One is finished before the next begins: two encoders at once would take a third more memory, and save
    nothing that can be measured.

    Attributes:
        then: called by `finish` when all segments are finished.
    """

    def __init__(
        self, job: Prepared, folder: WorkFolder, journal: Journal, stop_request: stopping.StopRequest
    ) -> None:
        self._job = job
        self._folder = folder
        self._journal = journal
        self._stop_request = stop_request
        self._space = space.SpaceWatch(folder.path)
        self._maker: SegmentMaker | None = None
        self.then: Callable[[], OutputReport] = _nothing

    def begin(self, first: int) -> None:
        """The next frame begins a segment."""
        self._close()
        self._maker = SegmentMaker(self._job, first, self._folder.path)

    def frame(self, frame: av.VideoFrame) -> None:
        assert self._maker is not None
        self._maker.frame(frame)
        low = self._space.low()
        if low is not None:
            self._stop_request.request(low)

    def packet(self, packet: av.Packet) -> None:
        raise AssertionError("only frames are wanted")

    def finish(self) -> OutputReport:
        self._close()
        return self.then()

    def _close(self) -> None:
        """Finish the segment that is being written, if there is one."""
        maker, self._maker = self._maker, None
        if maker is None:
            return
        try:
            segment = maker.finish()
            self._journal.add(segment)
            self._space.segment(segment.bytes)
        except BaseException:
            maker.abort()
            raise
        memory.trim_heap()  # every segment's encoder had threads, and so memory, of its own

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._maker is not None:
            self._maker.abort()
        self.then = _nothing  # it leads back here: what it holds must not wait for Python to look for circles
