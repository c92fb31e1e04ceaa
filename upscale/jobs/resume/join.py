"""The end of a long job: its segments and everything else of the input, muxed into the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from upscale.errors import OutputError
from upscale.job.prepare import open_source
from upscale.jobs.resume.journal import Segment
from upscale.jobs.resume.work_folder import WorkFolder, check_space_to_join
from upscale.media.output import segment as files
from upscale.media.output.sink import OutputReport, Sink
from upscale.media.output.times import restamp

if TYPE_CHECKING:
    import av

    from upscale.jobs.resume.segments import LongJob
    from upscale.media.input.damage import SourceStats

Timed = tuple["av.Packet", tuple[int, int, int]]


def join(long_job: LongJob, on_read: Callable[[SourceStats], None] | None = None) -> OutputReport:
    """Write the output from the segments, by stream copy. Nothing is decoded.

    The other streams come from the input, which is opened again, in the same way as in a job that is
    done in one go. The output is read back and compared before it gets its name.

    Args:
        long_job: with all segments; its source is not touched.
        on_read: called with what is known of the input without decoding it, when it was read.

    Raises:
        OutputError: a segment is damaged or of another encoder, or the output cannot be written.
    """
    job, journal, folder = long_job.job, long_job.journal, long_job.folder
    segments = journal.segments
    if not segments:
        raise OutputError("no frame could be decoded from the input")
    long_job.joining = True
    check_space_to_join(folder.path, journal.bytes)
    _check_headers([folder.segment(s.first) for s in segments])
    with open_source(job.input, job.options) as source:
        with files.open_segment(folder.segment(segments[0].first)) as first:
            sink = Sink(source, job.output, job.plan, job.options, encoded=first.streams.video[0])
        with sink:
            video = _video(segments, folder)
            ahead = next(video, None)
            base = job.plan.encoder.time_base
            for packet in source.packets(None if on_read is None else journal.frames):
                at = packet.dts if packet.dts is not None else packet.pts
                while (
                    ahead is not None
                    and at is not None
                    and packet.time_base
                    and (ahead[1][1] * base <= at * packet.time_base)
                ):
                    sink.encoded_packet(*ahead)
                    ahead = next(video, None)
                sink.packet(packet)
            while ahead is not None:
                sink.encoded_packet(*ahead)
                ahead = next(video, None)
            if on_read is not None:
                on_read(source.stats)
            return sink.finish()


def _video(segments: Iterable[Segment], folder: WorkFolder) -> Iterator[Timed]:
    """All packets of the video, with their times in the output."""
    segments = list(segments)
    times = restamp((s.times for s in segments), max(s.reorder for s in segments))
    for segment in segments:
        count = 0
        for packet in files.packets(folder.segment(segment.first)):
            count += 1
            if count <= segment.frames:
                yield packet, next(times)
        if count != segment.frames:
            raise OutputError(
                f"a segment holds {count} of {segment.frames} frames: run the same command again",
                path=folder.segment(segment.first),
            )


def _check_headers(paths: list[str]) -> None:
    """Packets can follow each other only where the codec's header is the same."""
    header = files.extradata(paths[0])
    for path in paths[1:]:
        if files.extradata(path) != header:
            raise OutputError("a segment was made by another encoder than the first one", path=path)
