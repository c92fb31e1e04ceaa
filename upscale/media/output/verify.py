"""The finished output is opened again and compared with what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import av
from av.stream import Disposition

from upscale.errors import OutputError
from upscale.media.input.open import TAGS, ffmpeg_reasons, reason


@dataclass(slots=True)
class Written:
    """Counts of one output stream while it is written.

    Attributes:
        kind: "video", "audio", "subtitle", "data" or "attachment".
        packets, size: packets that went to the muxer, and bytes in them.
        main: True for the upscaled video.
        exact: what the container gives back as it was given: "packets" (their number), "size" (PCM, which
            the mov family cuts into other packets), or None.
        start, last, end: first and last presentation time and the end of the last packet, in
            seconds; None before the first packet.
    """

    kind: str
    packets: int = 0
    size: int = 0
    main: bool = False
    exact: Literal["packets", "size"] | None = None
    start: float | None = None
    last: float | None = None
    end: float | None = None

    def add(self, packet: av.Packet) -> None:
        """Count one packet."""
        self.packets += 1
        self.size += packet.size
        if packet.pts is not None:
            time_base = float(packet.time_base) if packet.time_base else 0.0
            begin, stop = packet.pts * time_base, (packet.pts + (packet.duration or 0)) * time_base
            self.start = begin if self.start is None else min(self.start, begin)
            self.last = begin if self.last is None else max(self.last, begin)
            self.end = stop if self.end is None else max(self.end, stop)


def read_back(path: str, container: str) -> list[Written]:
    """Demux the whole file, decoding nothing: one entry per stream.

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
                    counts[packet.stream.index].add(packet)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise OutputError(f"the finished output cannot be read back: {reason(error)}") from error
    return list(counts.values())


#: Muxers that make data streams themselves: time code and chapter titles.
_OWN_DATA = frozenset({"mp4", "mov", "3gp", "3g2", "mxf"})

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
        OutputError: a stream or a frame is missing, a stream is there that was not planned, or the length
            is wrong.
    """
    found = read_back(path, container)
    for kind in ("video", "audio", "subtitle", "attachment", "cover"):
        planned = [w for w in written if w.kind == kind]
        expected = [w for w in planned if w.packets]
        present = [f for f in found if f.kind == kind and (f.packets or kind == "attachment")]
        if len(present) < len(expected):
            raise OutputError(
                f"the finished output holds {len(present)} {kind} streams, not the {len(expected)} written"
            )
        for want, got in zip(expected, present, strict=False):
            _compare(want, got, tolerance)
        _refuse_more(kind, found, len(planned))
    if container not in _OWN_DATA:
        _refuse_more("data", found, sum(w.kind == "data" for w in written))


def _refuse_more(kind: str, found: list[Written], planned: int) -> None:
    count = sum(f.kind == kind for f in found)
    if count > planned:
        raise OutputError(f"the finished output holds {count} {kind} streams, but {planned} were planned")


def _compare(want: Written, got: Written, tolerance: float | None) -> None:
    if (want.main or want.exact == "packets") and want.packets != got.packets:
        what = "frames" if want.main else f"{want.kind} packets"
        raise OutputError(f"the finished output holds {got.packets} {what}, not the {want.packets} written")
    if want.exact == "size" and want.size != got.size:
        raise OutputError(
            f"the finished output holds {got.size} bytes of {want.kind}, not the {want.size} written"
        )
    # Ends are no measure: with B-frames mp4 gives back durations of decoding times.
    if want.main and tolerance is not None and want.start is not None and got.start is not None:
        wanted, measured = (want.last or 0.0) - want.start, (got.last or 0.0) - got.start
        if abs(wanted - measured) > tolerance:
            raise OutputError(f"the finished output lasts {measured:.3f} s, not the {wanted:.3f} s written")
