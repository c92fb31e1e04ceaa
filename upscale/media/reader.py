"""Demuxing and decoding: one pass over an input, video as frames and all else as packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.stream import Disposition

from upscale.errors import MediaError, NoVideo
from upscale.media import container
from upscale.media.clock import DISCONTINUOUS, ClockJumps
from upscale.media.container import STDIN, ffmpeg_reasons, media_error, open_input, reason
from upscale.media.convert import headers_name_siting

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

#: Frames decoded before anything is decided: whether the source is interlaced shows on the first few.
PREFETCH_FRAMES = 4

#: Video packets after which "no frame could be decoded" is said, and bytes held meanwhile.
PREFETCH_PACKETS, PREFETCH_BYTES = 3000, 256 << 20


@dataclass(slots=True)
class ReadStats:
    """What happened while reading.

    Attributes:
        packets: video packets read.
        discarded: video packets that an edit list hides.
        decode_errors: packets (or reads) that FFmpeg refused.
        clock_jumps: how often the clock of all streams started anew.
        last_end: latest end of a packet of any stream, in seconds on the input's clock.
    """

    packets: int = 0
    discarded: int = 0
    decode_errors: int = 0
    clock_jumps: int = 0
    last_end: float = 0.0


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is an attached picture, not a video."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def choose_video(container: InputContainer) -> av.VideoStream:
    """The video stream to enlarge: FFmpeg's best one, never cover art.

    Raises:
        MediaError: there is none, or none that can be decoded.
    """
    videos = [s for s in container.streams.video if not is_cover(s)]
    if not videos:
        raise NoVideo("no video stream")
    known = [s for s in videos if s.codec_context is not None]
    if not known:
        raise MediaError("no decoder for the video stream")
    best = container.streams.best("video")
    return best if best in known else known[0]


class Reader:
    """An open input: its container, its video, and an iterator over frames and packets.

    The first frames are decoded at once and kept, so that nothing has to be read twice (a pipe
    cannot be). Iterating gives them first.

    Attributes:
        container, video: PyAV's objects.
        first: the first decoded frames in display order (at least one); clear it when it was looked at.
        siting_named: whether H.264 or HEVC headers say where the chroma samples lie.
        covers: attached pictures by stream index.
        decoding: set to False to get the video's packets in place of its frames, from where it is on.
        stats: counts, up to what was read so far.
    """

    def __init__(self, path: str) -> None:
        """Open and decode the first frames.

        Raises:
            UsageError, MediaError: see `open_input`; "no video stream", "no frame could be decoded".
        """
        self.path = path
        self.stats = ReadStats()
        self.siting_named = False
        self.decoding = True
        self._error = ""
        self.covers: dict[int, bytes] = {}
        self._ahead: deque[av.VideoFrame | av.Packet[Any]] = deque()
        self.container = open_input(path)
        try:
            self.video = choose_video(self.container)
            self.video.thread_type = "AUTO"
            self.time_base = Fraction(self.video.time_base or Fraction(1, 1000))
            self._open_decoder()
            self._items = self._read()
            self.first = self._prefetch()
        except BaseException:
            self._ahead.clear()
            self.container.close()
            raise

    def close(self) -> None:
        """Close the input; packets and frames already delivered stay valid."""
        self._items.close()
        self._ahead.clear()
        self.container.close()

    def __iter__(self) -> Iterator[av.VideoFrame | av.Packet[Any]]:
        """Frames in display order and packets in file order; each once.

        A read error ends the iteration as the end of the file would, and is counted.
        """
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._items

    def seek(self, seconds: Fraction) -> None:
        """Go on from the last key frame at or before a time on the input's clock.

        Raises:
            MediaError: the input cannot be sought.
        """
        try:
            self.container.seek(int(seconds * av.time_base), backward=True)
        except av.FFmpegError as error:
            raise media_error(error, self.path) from None
        self._ahead.clear()
        self._items.close()
        self._items = self._read()

    def _open_decoder(self) -> None:
        # FFmpeg's log, which has the reasons, is on only now: with it on, threads that decode would wait
        # for Python's lock at every message, and PyAV trips over one that is under way when it goes off.
        context = self.video.codec_context
        too_large = context.width * context.height > container.MAX_PIXELS
        with ffmpeg_reasons():
            try:
                context.open(strict=False)
            except (av.FFmpegError, ValueError) as error:
                why = container.TOO_LARGE if too_large else reason(error)
                raise MediaError(f"the video cannot be decoded: {why}", path=self.path) from None
        if too_large:
            raise MediaError(f"the video cannot be decoded: {container.TOO_LARGE}", path=self.path)

    def _prefetch(self) -> list[av.VideoFrame]:
        first: list[av.VideoFrame] = []
        size = 0
        for item in self._items:
            self._ahead.append(item)
            if isinstance(item, av.VideoFrame):
                first.append(item)
            else:
                size += item.size
            if len(first) >= PREFETCH_FRAMES or size > PREFETCH_BYTES:
                break
        if not first and self.path == STDIN and self.container.format.name.startswith("mov"):
            raise MediaError("an MP4 or MOV whose index is at its end cannot be read from a pipe")
        if not first:
            why = f" ({self._error})" if self._error else ""
            raise MediaError("no frame could be decoded" + why, path=self.path)
        return first

    def _read(self) -> Generator[av.VideoFrame | av.Packet[Any], None, None]:
        packets = self.container.demux()
        jumps = ClockJumps() if self.container.format.name in DISCONTINUOUS else None
        started = False
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except IndexError:
                # PyAV, at the end of a file in which streams appeared late: it flushes decoders that it
                # does not have. Nothing is lost but, perhaps, the flush of ours.
                yield from self._decode(None)
                return
            except (av.FFmpegError, OSError) as error:
                # Nothing more can be read, but the decoder still holds frames.
                self._failed(error)
                yield from self._decode(None)
                return
            if jumps is not None:
                jumps.fix(packet)
                self.stats.clock_jumps = jumps.count
            if packet.size and not self.stats.packets and packet.stream.index == self.video.index:
                self._look_at_headers(packet)
            if packet.stream.index != self.video.index:
                if is_cover(packet.stream) and packet.size:
                    self.covers.setdefault(packet.stream.index, bytes(packet))
                if packet.size or packet.dts is not None:
                    self._note_end(packet)
                    yield packet
                continue
            if packet.size:
                self.stats.packets += 1
                self.stats.discarded += packet.is_discard
                self._note_end(packet)
                if not self.decoding:
                    yield packet
            for frame in self._decode(packet):
                started = True
                yield frame
            if not started and self.decoding and self.stats.packets > PREFETCH_PACKETS:
                return

    def _look_at_headers(self, packet: av.Packet[Any]) -> None:
        # Before the first packet is decoded: this needs FFmpeg's log, see `_open_decoder`.
        if self.video.codec_context.codec.canonical_name in ("h264", "hevc"):
            self.siting_named = headers_name_siting(self.video, bytes(packet))

    def _decode(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """Frames that a packet completes; None flushes the decoder."""
        if not self.decoding:
            return []
        context = self.video.codec_context
        try:
            # The empty packet at the end flushes too. `context.decode` keeps good frames in order.
            frames = context.decode(packet)
        except av.EOFError:
            return []
        except (av.FFmpegError, ValueError) as error:
            self._failed(error)
            return []
        return list(frames)

    def _failed(self, error: BaseException) -> None:
        self.stats.decode_errors += 1
        self._error = self._error or reason(error)

    def _note_end(self, packet: av.Packet[Any]) -> None:
        at = packet.pts if packet.pts is not None else packet.dts
        if at is not None and packet.time_base:
            end = float((at + (packet.duration or 0)) * packet.time_base)
            self.stats.last_end = max(self.stats.last_end, end)
