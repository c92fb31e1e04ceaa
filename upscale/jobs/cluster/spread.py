"""A long job whose segments are made by others: what there is to make, and the end of it.

This side keeps the work folder, the journal and the times; it upscales nothing. Where the input turns
out to be damaged, a segment made by itself can differ from what one reading of the whole input gives,
so such segments are dropped, and one machine goes on with the job as after an interruption.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from upscale.errors import OutputError
from upscale.events import Result, Resumed
from upscale.job.prepare import Prepared, choose_runtime
from upscale.job.report import ProgressMeter, Reporter, RunStats
from upscale.jobs.resume.fingerprint import fingerprint
from upscale.jobs.resume.join import join
from upscale.jobs.resume.journal import Journal, Segment, recorded_runtime
from upscale.jobs.resume.segments import Piece, list_pieces, segment_length, verify_work_folder
from upscale.jobs.resume.work_folder import WorkFolder
from upscale.media.input.damage import SourceStats

if TYPE_CHECKING:
    from upscale.media.output.sink import OutputReport


class SpreadJob:
    """A long job on many machines.

    Attributes:
        job: opened here.
        folder: path of the work folder.
        runtime: that all segments are made with.
        pieces: to be made, in any order.
        damaged: one machine must do the rest; the journal holds what is good.
    """

    def __init__(self, stack: ExitStack, job: Prepared, reporter: Reporter, where: str) -> None:
        """Open the work folder, and find out what is left to make.

        Args:
            stack: closes what is opened here.
            job: for which `segment_length` is not 0.
            reporter: gets all events.
            where: address of the cluster, for people.

        Raises:
            UsageError: the work folder belongs to another job, or another process works in it.
            UpscaleError: as `upscale.upscale_file`.
        """
        self.job = job
        self.damaged = False
        self._reporter = reporter
        self._folder = stack.enter_context(WorkFolder(job.output))
        self.folder = self._folder.path
        self.runtime = choose_runtime(job, recorded_runtime(self._folder))
        length = segment_length(job)
        facts = fingerprint(job, self.runtime)
        self._journal = stack.enter_context(Journal(self._folder, facts, length))
        verify_work_folder(job, self._folder, self._journal, reporter.warn)
        self._resumed = done = self._journal.frames
        total = job.source.estimated_frames
        self.pieces = list_pieces(job, length, self._journal.segments)
        self._backend = f"{self.runtime} on the cluster {where}"
        reporter.announce(job, self._model, self._backend, length)
        if done:
            reporter.send(Resumed(input=job.input, frames=done, total=total))
        self._begun, self._cpu = time.perf_counter(), time.process_time()
        self._meter = ProgressMeter(job.input, total, reporter.send, done)
        self._running: dict[int, tuple[int, float]] = {}
        self._finished: dict[int, tuple[int, float]] = {}
        self._frames = 0

    @property
    def _model(self) -> str:
        return self.job.model if isinstance(self.job.model, str) else self.job.model.name

    @property
    def kept(self) -> bool:
        """Whether finished segments would be found again."""
        return bool(self._journal.segments)

    def progress(self, piece: Piece, frames: int, seconds: float) -> None:
        """A piece has got as far as `frames` and `seconds` of video."""
        self._running[piece.first] = frames, seconds
        parts = [*self._running.values(), *self._finished.values()]
        # A piece whose worker was lost begins anew; what is shown waits for it.
        self._frames = max(self._frames, sum(n for n, _ in parts))
        self._meter(self._frames, sum(s for _, s in parts))

    def add(self, piece: Piece, segment: Segment | None) -> None:
        """A piece is finished; None: it could not be decoded.

        Raises:
            OutputError: the disk is full.
        """
        _, seconds = self._running.pop(piece.first, (0, 0.0))
        if segment is None:
            self.damaged = True
            return
        self._journal.add(segment)
        self._finished[piece.first] = segment.frames, seconds
        missing = piece.frames is not None and segment.frames != piece.frames
        if missing or segment.decode_errors or segment.corrupt_frames:
            self.damaged = True
            self._journal.drop(segment)

    def finish(self) -> Result:
        """Join the segments; sends and returns the result.

        Raises:
            UpscaleError: as `upscale.upscale_file`; finished segments stay.
        """
        read: list[SourceStats] = []
        report = join(self.job, self._journal, self._folder, read.append)
        self._journal.mark_joined()
        self._folder.finished = True
        if not read:
            raise OutputError("the input was not read to its end")
        return self._result(report, read[0])

    def _result(self, report: OutputReport, stats: SourceStats) -> Result:
        frames = report.frames - self._resumed
        effort = RunStats(
            model=self._model,
            backend=self._backend,
            frames=frames,
            media_seconds=(report.duration or 0.0) * frames / max(report.frames, 1),
            seconds=time.perf_counter() - self._begun,
            cpu_seconds=time.process_time() - self._cpu,
            busy={},
        )
        count = len(self._journal.segments)
        return self._reporter.result(
            self.job, effort, stats, report, segments=count, resumed_frames=self._resumed
        )
