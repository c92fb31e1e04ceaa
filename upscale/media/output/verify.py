"""The finished output is opened again and compared with what was written."""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.stream import Disposition

from upscale.errors import OutputError
from upscale.media.input.open import TAGS, ffmpeg_reasons, reason


@dataclass(slots=True)
class Written:
    """Counts of one output stream while it is written.

    Attributes:
        kind: "video", "audio", "subtitle", "data" or "attachment".
        packets: that went to the muxer.
        main: True for the upscaled video.
        exact: the container gives back as many packets as it was given.
        start, last, end: first and last presentation time and the end of the last packet, in
            seconds; None before the first packet.
    """

    kind: str
    packets: int = 0
    main: bool = False
    exact: bool = False
    start: float | None = None
    last: float | None = None
    end: float | None = None

    def add(self, pts: int | None, duration: int | None, time_base: float) -> None:
        """Count one packet."""
        self.packets += 1
        if pts is not None:
            begin, stop = pts * time_base, (pts + (duration or 0)) * time_base
            self.start = begin if self.start is None else min(self.start, begin)
            self.last = begin if self.last is None else max(self.last, begin)
            self.end = stop if self.end is None else max(self.end, stop)


def read_back(path: str, container: str) -> list[Written]:
    """Demux the whole file, decoding nothing: one entry per stream that has packets or is an attachment.

    Raises:
        OutputError: it cannot be opened or read.
    """
    options = {"protocol_whitelist": "file"}
    try:
        with (
            ffmpeg_reasons(),
            av.open("file:" + path, format=_DEMUXERS.get(container), options=options, **TAGS) as source,
        ):
            counts = {}
            for stream in source.streams:
                entry = Written(stream.type)
                if stream.type == "video" and stream.disposition & Disposition.attached_pic:
                    entry.kind = "cover"
                counts[stream.index] = entry
            for packet in source.demux():
                if packet.size:
                    base = float(packet.time_base) if packet.time_base else 0.0
                    counts[packet.stream.index].add(packet.pts, packet.duration, base)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise OutputError(f"the finished output cannot be read back: {reason(error)}") from error
    return [c for c in counts.values() if c.packets or c.kind == "attachment"]


#: Demuxers of muxers that go by another name; None in the look-up lets FFmpeg probe.
_DEMUXERS = {
    "mp4": "mov",
    "mov": "mov",
    "3gp": "mov",
    "3g2": "mov",
    "matroska": "matroska",
    "webm": "matroska",
    "avi": "avi",
    "mpegts": "mpegts",
}


def verify(path: str, container: str, written: list[Written], tolerance: float | None) -> None:
    """Compare the file with what was written.

    Args:
        path: of the output.
        container: muxer name.
        written: one entry per output stream.
        tolerance: by how many seconds the time from the first to the last frame may differ: the
            container's ticks; None where it keeps no times.

    Raises:
        OutputError: a stream or a frame is missing, or the length is wrong.
    """
    found = read_back(path, container)
    for kind in ("video", "audio", "subtitle", "attachment", "cover"):
        expected = [w for w in written if w.kind == kind and w.packets]
        present = [f for f in found if f.kind == kind]
        if len(present) < len(expected):
            raise OutputError(
                f"the finished output holds {len(present)} {kind} streams, not the {len(expected)} written"
            )
        for want, got in zip(expected, present, strict=False):
            _compare(want, got, tolerance)


def _compare(want: Written, got: Written, tolerance: float | None) -> None:
    if (want.main or want.exact) and want.packets != got.packets:
        what = "frames" if want.main else f"{want.kind} packets"
        raise OutputError(f"the finished output holds {got.packets} {what}, not the {want.packets} written")
    # Ends are no measure: with B-frames mp4 gives back durations of decoding times.
    if want.main and tolerance is not None and want.start is not None and got.start is not None:
        wanted, measured = (want.last or 0.0) - want.start, (got.last or 0.0) - got.start
        if abs(wanted - measured) > tolerance:
            raise OutputError(f"the finished output lasts {measured:.3f} s, not the {wanted:.3f} s written")
