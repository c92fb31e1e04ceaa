"""Segments of a long job: which there are, and how one of them is made by itself.

A long job is cut at every `segment_length` frames. Segments are made one after the other in one
process (`upscale.jobs.resume.resume`), or each by itself, also in other processes and on other machines that
share the folder::

    with ExitStack() as stack:                              # in the process that has the say
        job = prepare(stack, "in.mp4", "out.mp4", options)
        length = segment_length(job)                        # 0: not to be cut, use `upscale_file`
        folder = stack.enter_context(WorkFolder(job.output))        # locked until the end
        runtime = choose_runtime(job, recorded_runtime(folder))
        journal = stack.enter_context(Journal(folder, fingerprint(job, runtime), length))
        verify_work_folder(job, folder, journal, warn)                      # warn: takes a text
        for piece in list_pieces(job, length, journal.segments):
            ...                                             # anywhere, in any order:
            segment = make_segment("in.mp4", "out.mp4", options, piece, folder.path, runtime)
            journal.add(segment)                            # here again
        report = join(job, journal, folder)                 # `upscale.jobs.resume.join`
        journal.mark_joined()
        folder.finished = True                              # it is removed when the stack is left

`Piece`, `Options` and `Segment` are plain picklable data. Paths must mean the same on all machines.
Segments made by themselves hold the same frames with the same times as those of one process: where
every frame has a time of its own in MP4 or Matroska they are sought to, everywhere else the input is
decoded from its beginning up to them. What is missing in a damaged input shows as pieces that hold fewer
frames than were listed, and in `Segment.decode_errors` and `corrupt_frames`. A run of `upscale_file` goes on
from segments that were made so, and the other way round.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from upscale.errors import MediaError
from upscale.job.loop import Loop
from upscale.job.prepare import Prepared, load_network, prepare
from upscale.jobs.resume import disk_space as space
from upscale.jobs.resume.journal import Journal, Segment
from upscale.jobs.resume.work_folder import WorkFolder, segment_path
from upscale.media.output.segment import SegmentWriter, can_be_joined
from upscale.media.output.times import pack
from upscale.options import Options
from upscale.system.safe_file import sync_folder, write_error

if TYPE_CHECKING:
    import av

#: Frames of 1280x720 in a segment: about 20 s of work on two small cores. Larger frames take longer.
_FRAMES, _PIXELS = 600, 1280 * 720
_FEWEST, _MOST = 30, 1800
#: A job of up to this many segments is written in one go.
_SHORT = 3
#: For tests: the number of frames in a segment.
_KNOB = "UPSCALE_SEGMENT_FRAMES"


def segment_length(job: Prepared) -> int:
    """Frames in a segment; 0 if the job is not to be cut.

    Follows from the input and the options alone, so that borders are the same on every machine.
    """
    if not job.options.resume or job.options.realtime or job.output == "-" or not os.path.isfile(job.input):
        return 0
    if not can_be_joined(job.plan):
        return 0
    width, height = job.plan.size
    length = max(_FEWEST, min(_MOST, _FRAMES * _PIXELS // (width * height)))
    length = int(os.environ.get(_KNOB, length))
    frames = job.source.estimated_frames
    return length if not frames or frames > _SHORT * length else 0


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


def list_pieces(job: Prepared, length: int, done: Iterable[Segment] = ()) -> list[Piece]:
    """The pieces of a job, without what finished segments hold. Demuxes the input, decodes nothing.

    Args:
        job: its source is not touched.
        length: of `segment_length`.
        done: segments of the journal.

    Raises:
        MediaError: the input cannot be read.
    """
    from upscale.media.input.parts import frame_times

    times, exact = frame_times(job.input, job.options)
    if not times:
        raise MediaError("no frame lies in the wanted part", path=job.input)
    borders = set(range(0, len(times), length))
    finished: set[int] = set()
    for segment in done:
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
    runtime: str,
    report: Callable[[int, float], None] = lambda frames, seconds: None,
    note: Callable[[str], None] = lambda message: None,
) -> Segment:
    """Make one segment by itself, in any process that sees the same files.

    The caller adds what is returned to the journal.

    Args:
        input, output, options: of the job; the output is not touched.
        piece: of `list_pieces`.
        folder: path of the work folder.
        runtime: of `choose_runtime`, the same for all segments of a job.
        report: told (frames, seconds of video) so far after every frame; what it raises ends the work.
        note: called with what showed only while reading, for people.

    Raises:
        UpscaleError: as `upscale.upscale_file`; MediaError also if no frame of the piece can be decoded.
            A damaged one may hold fewer than were listed.
    """
    with ExitStack() as stack:
        job = prepare(stack, input, output, replace(options, overwrite=True))
        network = load_network(stack, job, runtime)
        maker = stack.enter_context(_PieceSink(job, piece, folder))
        loop: Loop[Segment] = Loop(frames_of(job, piece), network.upscaler, maker, report, network.workers)
        known = len(job.source.notes)
        try:
            loop.run()
        finally:
            if loop.hangs:
                job.source.abandon()
        for message in job.source.notes[known:]:
            note(message)
        stats = job.source.stats
        return replace(loop.finish(), decode_errors=stats.decode_errors, corrupt_frames=stats.corrupt_frames)


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
    """Writes one segment into a work folder, under its name once it is whole."""

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
        # A name of its own: two machines may be making the same segment after one was taken for lost.
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


class _PieceSink:
    """The end of the loop that makes one segment."""

    def __init__(self, job: Prepared, piece: Piece, folder: str) -> None:
        self._maker = SegmentMaker(job, piece.first, folder)

    def frame(self, frame: av.VideoFrame) -> None:
        self._maker.frame(frame)

    def packet(self, packet: av.Packet) -> None:
        raise AssertionError("only frames are wanted")

    def finish(self) -> Segment:
        return self._maker.finish()

    def __enter__(self) -> _PieceSink:
        return self

    def __exit__(self, *exc: object) -> None:
        self._maker.abort()


def verify_work_folder(
    job: Prepared, folder: WorkFolder, journal: Journal, warn: Callable[[str], None]
) -> None:
    """Find out what earlier runs have left, and that nothing is in the way of the rest.

    Raises:
        OutputError: the disk is too small, or the output's format refuses a stream.
    """
    from upscale.media.output.sink import Sink

    folder.remove_unfinished()
    lost = check_segments(folder, journal)
    if lost:
        warn(f"{lost} damaged segment{'s' * (lost > 1)} will be made again")
    rest = max(0, job.source.estimated_frames - journal.frames)
    space.check_before(job.plan, folder.path, rest, journal.bytes)
    # What the muxer would refuse at the end is known before hours of work.
    with Sink(job.source, job.output, job.plan, job.options):
        pass


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
