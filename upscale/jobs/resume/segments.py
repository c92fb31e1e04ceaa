"""Segments of a long job: which there are, and how one of them is made by itself.

A long job is cut at every `segment_length` frames. Segments are made one after the other in one
process (`upscale.jobs.resume.resume`), or each by itself, also in other processes and on other machines that
share the folder (`upscale.jobs.cluster`)::

    with ExitStack() as stack:                              # in the coordinating process
        job = prepare(stack, "in.mp4", "out.mp4", options)  # if `segment_length(job)` is not 0
        long_job = open_long_job(stack, job)                # its folder is locked until the end
        long_job.verify(warn)                               # warn: takes a text
        for piece in list_pieces(long_job):
            ...                                             # anywhere, in any order:
            segment = make_segment("in.mp4", "out.mp4", options, piece, folder, long_job.runtime)
            long_job.journal.add(segment)                   # here again
        report = join(long_job)                             # `upscale.jobs.resume.join`
        long_job.finish()                                   # the folder is removed when the stack is left

A piece of the input becomes a segment::

    listed ──make_segment──> being written (.part) ──whole, on the disk──> renamed ──journal.add──> finished
       ^                            │ killed, failed                          │ not in the journal    │
       └────────────────────────────┴─────── removed by the next `verify` ────┘                       │
       └───────────────────── the file is gone, or its checksum differs: journal.drop ────────────────┘

`Piece`, `Options` and `Segment` are plain picklable data. Paths must mean the same on all machines.
Segments made by themselves hold the same frames with the same times as those of one process: where
every frame has a time of its own in MP4 or Matroska the decoder seeks to them, everywhere else the input is
decoded from its beginning up to them. What is missing in a damaged input shows as pieces that hold fewer
frames than were listed, and in `Segment.decode_errors` and `corrupt_frames`. A run of `upscale_file`
continues from segments that were made so, and the other way round.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from upscale.errors import MediaError, UpscaleError, UsageError
from upscale.events import Resumed
from upscale.job.loop import Loop
from upscale.job.prepare import Prepared, choose_runtime, load_network, prepare
from upscale.job.report import ProgressMeter, Reporter
from upscale.jobs.resume.fingerprint import fingerprint
from upscale.jobs.resume.journal import Journal, Segment, recorded_job, recorded_runtime
from upscale.jobs.resume.work_folder import WorkFolder, check_space, folder_of, segment_path, siblings_of
from upscale.media.output.segment import SegmentWriter, can_be_joined
from upscale.media.output.times import pack
from upscale.options import Options
from upscale.system.safe_file import sync_folder, write_error

if TYPE_CHECKING:
    import av

    from upscale.backends.variants import Variant

#: Frames of 1280x720 in a segment: about 20 s of work on two small cores. Larger frames take longer.
_FRAMES, _PIXELS = 600, 1280 * 720
_FEWEST, _MOST = 30, 1800
#: A job of up to this many segments is written in one go.
_SHORT = 3
#: What is said when a job ends early and can be continued, …
KEPT = "finished segments are kept: the same command continues"
#: … and when it fails at its end.
_JOIN_AGAIN = (
    "finished segments are kept: the same command only joins them again, also with another container "
    "(-f, or another extension) or fewer streams (-an, -sn)"
)
#: For tests: the number of frames in a segment.
_FRAMES_VARIABLE = "UPSCALE_SEGMENT_FRAMES"


def segment_length(job: Prepared) -> int:
    """Frames in a segment; 0 if the job is not to be cut.

    Follows from the input and the options alone, so that borders are the same on every machine.

    Raises:
        UsageError: the environment asks for a length that is no number.
    """
    if not job.options.resume or job.options.realtime or job.output == "-" or not os.path.isfile(job.input):
        return 0
    if not can_be_joined(job.plan):
        return 0
    width, height = job.plan.size
    length = max(_FEWEST, min(_MOST, _FRAMES * _PIXELS // (width * height)))
    length = _forced_length() or length
    frames = job.source.estimated_frames
    return length if not frames or frames > _SHORT * length else 0


def _forced_length() -> int | None:
    """The length that the environment asks for, if it does."""
    text = os.environ.get(_FRAMES_VARIABLE)
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise UsageError(f"{_FRAMES_VARIABLE} must be a number of frames, at least 1, not {text!r}")
    return int(text)


@dataclass(slots=True, kw_only=True)
class LongJob:
    """A job whose work folder is open and locked.

    Attributes:
        job: what is to be done; its source is not read yet.
        folder, journal: where its segments lie, and which are finished.
        length: frames in a segment.
        runtime: that all segments are made with, see `choose_runtime`.
        verified: nothing is known that would prevent the rest.
        joining: all segments are finished.
    """

    job: Prepared
    folder: WorkFolder
    journal: Journal
    length: int
    runtime: Variant | None
    verified: bool = False
    joining: bool = False

    def verify(self, warn: Callable[[str], None]) -> None:
        """Find out what earlier runs have left, and that nothing prevents the rest.

        Raises:
            OutputError: the disk is too small, or the output's format refuses a stream.
        """
        from upscale.media.output.sink import Sink

        job, journal = self.job, self.journal
        self.folder.remove_unfinished()
        lost = check_segments(self.folder, journal)
        if lost:
            warn(f"{lost} damaged segment{'s' * (lost > 1)} will be made again")
        rest = max(0, job.source.estimated_frames - journal.frames)
        check_space(job.plan, self.folder.path, rest, journal.bytes)
        # What the muxer would refuse at the end is known before hours of work.
        with Sink(job.source, job.output, job.plan, job.options):
            self.verified = True

    def announce(self, reporter: Reporter, backend: str) -> ProgressMeter:
        """Send the events of the beginning; returns the meter of this run. `backend` is human-readable."""
        job, done, total = self.job, self.journal.frames, self.job.source.estimated_frames
        reporter.announce(job, backend, self.length)
        if done:
            reporter.send(Resumed(input=job.input, frames=done, total=total))
        return ProgressMeter(job.input, total, reporter.send, done)

    def advise(self, error: BaseException) -> None:
        """Say what is kept and how the job can be continued, if any segment is finished."""
        if not self.journal.segments:
            return
        if not self.verified or isinstance(error, MediaError | UsageError):
            add_advice(error, f"finished segments are in {self.folder.path}")
        elif self.joining:
            add_advice(error, _JOIN_AGAIN)
        else:
            total, done = self.job.source.estimated_frames, self.journal.frames
            of_total = f" of {total}" if total > done else ""
            add_advice(error, f"{KEPT} at frame {done}{of_total}")

    def finish(self) -> None:
        """The output is there: the work folder may go."""
        self.journal.mark_joined()
        self.folder.finished = True


def add_advice(error: BaseException, advice: str) -> None:
    """Say more: in the message of an error of ours, in a note (``__notes__``) of any other."""
    if isinstance(error, UpscaleError):
        error.args = (f"{error}; {advice}",)
    else:
        error.add_note(advice)


def open_long_job(stack: ExitStack, job: Prepared) -> LongJob:
    """Open the work folder of a job, or make one.

    A folder of the same name with another extension is taken over if its pictures are the same: so is
    ``out.mkv`` joined from the segments that were made for ``out.mp4``.

    Args:
        stack: unlocks the folder when it is left.
        job: for which `segment_length` is not 0.

    Raises:
        UsageError: the folder belongs to another job, or another process works in it.
        OutputError: it cannot be read or written.
        MediaError: the input cannot be read.
    """
    folder = stack.enter_context(_open_folder(job))
    runtime = choose_runtime(job, recorded_runtime(folder))
    length = segment_length(job)
    journal = stack.enter_context(Journal(folder, fingerprint(job, runtime), length))
    return LongJob(job=job, folder=folder, journal=journal, length=length, runtime=runtime)


def _open_folder(job: Prepared) -> WorkFolder:
    if not os.path.lexists(folder_of(job.output)):
        for other in siblings_of(job.output):
            with suppress(UpscaleError), ExitStack() as stack:  # another process may work in it
                folder = stack.enter_context(WorkFolder(other))
                runtime = recorded_runtime(folder)
                if recorded_job(folder) == fingerprint(job, choose_runtime(job, runtime)):
                    folder.move_to(job.output)
                    stack.pop_all()
                    return folder
    return WorkFolder(job.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A run of frames that become one segment.

    Attributes:
        first: number of the first frame among all that come out of the input.
        frames: how many; None: up to the end.
        begin, end: pts, in the input's ticks, of the first frame and of the first one behind; `end` is
            None for the last piece. Both are None where frames must be counted from the beginning.
    """

    first: int
    frames: int | None
    begin: int | None = None
    end: int | None = None


def list_pieces(long_job: LongJob) -> list[Piece]:
    """The pieces of a job, without what finished segments hold. Demuxes the input, decodes nothing.

    Raises:
        MediaError: the input cannot be read.
    """
    from upscale.media.input.parts import frame_times

    job = long_job.job
    times, exact = frame_times(job.input, job.options)
    if not times:
        raise MediaError("no frame lies in the wanted part", path=job.input)
    borders = set(range(0, len(times), long_job.length))
    finished: set[int] = set()
    for segment in long_job.journal.segments:
        finished.update(range(segment.first, segment.first + segment.frames))
        borders |= {segment.first, segment.first + segment.frames}
    starts = sorted(b for b in borders if b < len(times))
    pieces = []
    for first, stop in zip(starts, [*starts[1:], len(times)], strict=True):
        if first in finished:
            continue
        last = stop == len(times)
        pieces.append(
            Piece(
                first=first,
                frames=None if last else stop - first,
                begin=times[first] if exact else None,
                end=times[stop] if exact and not last else None,
            )
        )
    return pieces


def make_segment(
    input: str,
    output: str,
    options: Options,
    piece: Piece,
    folder: str,
    runtime: Variant | None,
    report: Callable[[int, float], None] = lambda frames, seconds: None,
    note: Callable[[str], None] = lambda message: None,
) -> Segment:
    """Make one segment by itself, in any process that sees the same files.

    The caller adds what is returned to the journal.

    Args:
        input, output, options: of the job; the output is not touched.
        piece: of `list_pieces`.
        folder: path of the work folder.
        runtime: of the `LongJob`.
        report: told (frames, seconds of video) so far after every frame; what it raises ends the work.
        note: called with what showed only while reading, human-readable.

    Raises:
        UpscaleError: as `upscale.upscale_file`; MediaError also if no frame of the piece can be decoded.
            A damaged one may hold fewer than were listed.
    """
    with ExitStack() as stack:
        job = prepare(stack, input, output, replace(options, overwrite=True))
        source = job.source
        network = load_network(stack, job, runtime)
        maker = SegmentMaker(job, piece.first, folder)
        stack.callback(maker.abort)
        loop: Loop[Segment] = Loop(network, maker, report)
        known = len(source.notes)
        loop.run(frames_of(job, piece), source.abandon)
        for message in source.notes[known:]:
            note(message)
        segment, stats = loop.finish(), source.stats
        return replace(segment, decode_errors=stats.decode_errors, corrupt_frames=stats.corrupt_frames)


def frames_of(job: Prepared, piece: Piece) -> Iterator[av.VideoFrame]:
    """The frames of one piece; `job.source` is used up, and its counts of damage are the piece's.

    Raises:
        MediaError: there is none.
    """
    if piece.begin is not None:
        frames = job.source.between(piece.begin, piece.end)
    else:
        frames = job.source.counted(piece.first, piece.frames)
    found = False
    for frame in frames:
        found = True
        yield frame
    if not found:
        raise MediaError(f"no frame could be decoded from frame {piece.first} on", path=job.input)


class SegmentMaker:
    """Writes one segment into a work folder, under its name once it is whole: a `FrameSink`."""

    def __init__(self, job: Prepared, first: int, folder: str) -> None:
        """
        Args:
            job: of which the segment is.
            first: number of its first frame.
            folder: path of the work folder.

        Raises:
            OutputError: the file or the encoder cannot be opened.
        """
        self.first = first
        self._folder = folder
        self._begin: int | None = None
        self._end = 0
        # A unique name: two machines may be making the same segment after one was believed lost.
        part = f"{segment_path(folder, first)}.{secrets.token_hex(4)}.part"
        self._writer = SegmentWriter(part, job.plan, job.video)

    def frame(self, frame: av.VideoFrame) -> None:
        """Encode the next frame.

        Raises:
            OutputError: the encoder or the disk failed.
        """
        assert frame.pts is not None
        self._end = frame.pts
        self._begin = self._end if self._begin is None else self._begin
        self._writer.frame(frame)

    def finish(self) -> Segment:
        """Flush, bring the file to the disk, and give it its name.

        Raises:
            OutputError: the encoder or the disk failed.
        """
        times = self._writer.finish()
        path = segment_path(self._folder, self.first)
        try:
            size, crc = checksum(self._writer.path)
            os.replace(self._writer.path, path)
        except OSError as error:
            raise write_error(error, path) from error
        sync_folder(self._folder)
        assert self._begin is not None
        return Segment(
            first=self.first,
            frames=len(times.pts),
            begin=self._begin,
            end=self._end,
            bytes=size,
            crc32=crc,
            reorder=times.reorder,
            pts=pack(times.pts),
            durations=pack(times.durations),
            adjusted=self._writer.adjusted,
        )

    def abort(self) -> None:
        """Remove the file, unless it has its name already."""
        self._writer.abort()


def check_segments(folder: WorkFolder, journal: Journal) -> int:
    """Forget the segments whose files are not what the journal says, and files that it does not name.

    Returns:
        How many were forgotten.

    Raises:
        OutputError: a file cannot be removed.
    """
    lost = 0
    for segment in list(journal.segments):
        try:
            path = folder.segment(segment.first)
            whole = not os.path.islink(path) and checksum(path) == (segment.bytes, segment.crc32)
        except OSError:
            whole = False
        if not whole:
            journal.drop(segment)
            lost += 1
    known = {folder.segment(s.first) for s in journal.segments}
    try:
        for path in folder.segments():
            if path not in known:
                os.unlink(path)
    except OSError as error:
        raise write_error(error, folder.path) from error
    return lost


def checksum(path: str) -> tuple[int, int]:
    """(size, CRC-32) of a file."""
    size = crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    return size, crc
