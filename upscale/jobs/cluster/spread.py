"""A long job whose segments are made by others: what there is to make, and the end of it.

This side keeps the work folder, the journal and the times; it upscales nothing. Where the input turns
out to be damaged, a segment made by itself can differ from what one reading of the whole input gives,
so such segments are dropped, and one machine continues the job as after an interruption.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from upscale.errors import OutputError
from upscale.events import Result
from upscale.job.loop import RunStats
from upscale.job.prepare import RESAMPLER_RUNTIME, Prepared
from upscale.job.report import Reporter
from upscale.jobs.resume.join import join
from upscale.jobs.resume.journal import Segment
from upscale.jobs.resume.segments import Piece, list_pieces, open_long_job
from upscale.media.input.damage import SourceStats


class SpreadJob:
    """A long job on many machines.

    Attributes:
        long_job: with the work folder and the journal.
        pieces: to be made, in any order.
        damaged: one machine must do the rest; the journal holds what is good.
    """

    def __init__(self, stack: ExitStack, job: Prepared, reporter: Reporter, where: str) -> None:
        """Open the work folder, and find out what is left to make.

        Args:
            stack: closes what is opened here.
            job: for which `segment_length` is not 0.
            reporter: gets all events.
            where: address of the cluster.

        Raises:
            UsageError: the work folder belongs to another job, or another process works in it.
            UpscaleError: as `upscale.upscale_file`.
        """
        self.damaged = False
        self._reporter = reporter
        self.long_job = open_long_job(stack, job)
        self.long_job.verify(reporter.warn)
        self._journal = self.long_job.journal
        self._resumed = self._journal.frames
        self.pieces = list_pieces(self.long_job)
        backend = f"{self.long_job.runtime or RESAMPLER_RUNTIME} on the cluster {where}"
        self._meter = self.long_job.announce(reporter, backend)
        self._begun, self._cpu_begun = time.perf_counter(), time.process_time()
        self._running: dict[int, tuple[int, float]] = {}
        self._finished: dict[int, tuple[int, float]] = {}
        self._frames = 0

    def progress(self, piece: Piece, frames: int, seconds: float) -> None:
        """A piece has got as far as `frames` and `seconds` of video."""
        self._running[piece.first] = frames, seconds
        parts = [*self._running.values(), *self._finished.values()]
        # A piece whose worker was lost is made again; what is shown waits for it.
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
        report = join(self.long_job, read.append)
        self.long_job.finish()
        if not read:
            raise OutputError("the input was not read to its end")
        frames, resumed = report.frames - self._resumed, self._resumed
        run = RunStats(
            frames=frames,
            media_seconds=(report.duration or 0.0) * frames / max(report.frames, 1),
            seconds=time.perf_counter() - self._begun,
            cpu_seconds=time.process_time() - self._cpu_begun,
        )
        count = len(self._journal.segments)
        return self._reporter.result(
            self.long_job.job, run, read[0], report, segments=count, resumed_frames=resumed
        )
