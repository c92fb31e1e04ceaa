"""A long job in one process: segments one after the other, then the join.

A run that was stopped, in whatever way, is continued by the same command: the input is decoded from its
beginning (what the clock, the deinterlacer and the counts of damage know is then as if there had been
one run), and frames that finished segments hold are skipped before they reach the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from upscale.errors import Interrupted, MediaError, OutputError
from upscale.events import Result
from upscale.job import stopping
from upscale.job.loop import Loop
from upscale.job.prepare import Prepared, load_network
from upscale.job.report import ProgressMeter, Reporter
from upscale.jobs.resume.join import join
from upscale.jobs.resume.segments import LongJob, SegmentMaker, open_long_job
from upscale.jobs.resume.work_folder import SpaceWatch
from upscale.media.input.damage import SourceStats
from upscale.system import memory

if TYPE_CHECKING:
    import av

    from upscale.media.output.sink import OutputReport

#: Skipped frames between two progress reports.
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
    long_job = open_long_job(stack, job)
    try:
        long_job.verify(reporter.warn)
        return _Run(long_job, reporter).run(stack)
    except BaseException as error:
        if not long_job.journal.segments and isinstance(error, Interrupted):
            error.args = ("stopped; unfinished files were removed",)
        long_job.advise(error)
        raise


class _Run:
    """One run of a long job: gives the frames that are in no segment yet, and takes them upscaled.

    It is the loop's sink. One segment is finished before the next begins: two encoders at once would take
    a third more memory, and save nothing that can be measured.
    """

    def __init__(self, long_job: LongJob, reporter: Reporter) -> None:
        job = self._job = long_job.job
        self._long_job = long_job
        self._journal = long_job.journal
        self._reporter = reporter
        self._stop_request = stopping.StopRequest()
        self._accepts_stops = ExitStack()
        self._known_notes = len(job.source.notes)
        self._space = SpaceWatch(long_job.folder.path)
        self._maker: SegmentMaker | None = None
        self._count: int | None = None  # of the input's frames, when it was read to its end

    def run(self, stack: ExitStack) -> Result:
        job, journal, done = self._job, self._journal, self._journal.frames
        network = load_network(stack, job, self._long_job.runtime)
        meter = self._long_job.announce(self._reporter, network.backend)
        loop: Loop[OutputReport] = Loop(network, self, meter)
        stack.callback(self._abort)
        with self._accepts_stops:
            self._accepts_stops.enter_context(stopping.stop_requests_to(self._stop_request))
            if journal.end is None:
                loop.run(self._unfinished(meter), job.source.abandon)
            report = loop.finish()
        assert journal.end is not None
        for note in journal.end["notes"]:  # what showed only while reading
            self._reporter.warn(note)
        self._long_job.finish()
        stats, count = _stats(journal.end), len(journal.segments)
        return self._reporter.result(job, loop.stats, stats, report, segments=count, resumed_frames=done)

    def _unfinished(self, meter: ProgressMeter) -> Iterator[av.VideoFrame | Callable[[], None]]:
        """The frames that are in no segment yet, and before each run of them a call that begins a segment."""
        from av import Packet

        waiting = deque(self._journal.segments)
        count = passed = inside = 0
        follows = False  # the frame goes into the segment of the one before
        for frame in self._job.source:
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
                    yield partial(meter.passing, passed)
            else:
                if not follows or count % self._long_job.length == 0:
                    yield partial(self._begin_segment, count)
                follows = True
                yield frame
            count += 1
        self._count = count

    def _begin_segment(self, first: int) -> None:
        """The next frame begins a segment."""
        self._finish_segment()
        self._maker = SegmentMaker(self._job, first, self._long_job.folder.path)

    def frame(self, frame: av.VideoFrame) -> None:
        assert self._maker is not None
        self._maker.frame(frame)
        low = self._space.low()
        if low is not None:
            self._stop_request.request(low)

    def finish(self) -> OutputReport:
        """All that was read is in segments: end here, or join them."""
        self._finish_segment()
        journal, source = self._journal, self._job.source
        if self._count is not None:
            if journal.frames != self._count:
                raise OutputError(f"{journal.frames} of {self._count} frames are in segments")
            journal.finish({"stats": asdict(source.stats), "notes": source.notes[self._known_notes :]})
        if self._stop_request.reason is not None:
            raise self._stop_request.reason
        self._accepts_stops.close()  # joining can be broken off at any point
        return join(self._long_job)

    def _finish_segment(self) -> None:
        """Finish the segment that is being written, if there is one."""
        maker = self._maker
        if maker is None:
            return
        segment = maker.finish()
        self._journal.add(segment)
        self._space.segment(segment.bytes)
        self._maker = None
        memory.trim_heap()  # every segment's encoder had threads, and so memory, of its own

    def _abort(self) -> None:
        """Remove the segment that is not whole."""
        if self._maker is not None:
            self._maker.abort()


def _stats(end: dict[str, Any]) -> SourceStats:
    """The counts of the run that read the input to its end."""
    known = {f.name for f in fields(SourceStats)}
    return SourceStats(**{name: value for name, value in end["stats"].items() if name in known})
