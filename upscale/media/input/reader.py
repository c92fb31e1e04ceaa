"""Demuxing and decoding: one pass over an input, video as frames and all else as packets."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.stream import Disposition

from upscale.errors import MediaError, NoVideo
from upscale.media.input import open as container
from upscale.media.input.address import STDIN, parse
from upscale.media.input.avi import empty_chunks
from upscale.media.input.bitstream import is_hidden, size_header
from upscale.media.input.clock import ARRIVAL_TICK, CLOCKLESS, DISCONTINUOUS, NO_PTS, ClockJumps
from upscale.media.input.crop import Cropper, container_crop
from upscale.media.input.open import ffmpeg_reasons, media_error, open_input, reason, silence
from upscale.media.input.siting import headers_name_siting
from upscale.options import DEFAULTS, Options

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

#: Frames decoded before anything is decided: whether the source is interlaced shows on the first few.
PREFETCH_FRAMES = 4

#: Video packets after which "no frame could be decoded" is said, and bytes held meanwhile.
PREFETCH_PACKETS, PREFETCH_BYTES = 3000, 256 << 20

#: Codecs of screen recordings, whose decoders give no frame for a packet that changes nothing.
_NOTHING_NEW = frozenset(
    "cinepak cscd flashsv flashsv2 g2m msrle mss1 mss2 msvideo1 mts2 qtrle rpza smc tscc tscc2 vmnc "
    "zmbv".split()
)


@dataclass(slots=True)
class ReadStats:
    """What happened while reading.

    Attributes:
        packets: video packets read.
        others: packets of other streams read, cover art left out.
        discarded: video packets that an edit list hides.
        hidden: video packets that hold nothing to show (alt-ref frames).
        last_dts: of the last video packet, in ticks.
        decode_errors: packets (or reads) that FFmpeg refused.
        clock_jumps: how often the timestamps of all streams restarted.
        last_end: latest end of a packet of any stream, in seconds on the input's clock.
        broken: why a URL or a device sent no more data, human-readable; "" at an ordinary end.
    """

    packets: int = 0
    others: int = 0
    discarded: int = 0
    hidden: int = 0
    last_dts: int = 0
    decode_errors: int = 0
    clock_jumps: int = 0
    last_end: float = 0.0
    broken: str = ""


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


def count_back(frames: list[av.VideoFrame]) -> None:
    """Give frames without a time before one that has it theirs: RTSP times begin with the second packet."""
    for frame, after in zip(reversed(frames[:-1]), reversed(frames[1:]), strict=True):
        if frame.pts is None and after.pts is not None:
            frame.pts = after.pts - (frame.duration or after.duration or 1)


class Reader:
    """An open input: its container, its video, and an iterator over frames and packets.

    The first frames are decoded at once and kept, so that nothing has to be read twice (a pipe
    cannot be). Iterating gives them first.

    Attributes:
        container, video: PyAV's objects.
        first: the first decoded frames in display order (at least one); clear it once it is of no more use.
        size_header: see `upscale.media.input.bitstream`, of the first packet.
        siting_named: whether H.264 or HEVC headers say where the chroma samples lie.
        pts_in_file_order: no video packet so far had an earlier pts than the one before it.
        decoding: set to False to get the video's packets in place of its frames, from where it is on.
        stats: counts, up to what was read so far.
        clockless: the input has no times; the frames have those at which they came.
    """

    def __init__(self, path: str, options: Options = DEFAULTS) -> None:
        """Open and decode the first frames; see `open_input` for the arguments.

        Raises:
            UsageError, MediaError: see `open_input`; "no video stream", "no frame could be decoded".
        """
        self.path = path
        self.address = parse(path)
        self._timeout = options.timeout
        self._ended = False
        self.stats = ReadStats()
        self.siting_named = False
        self.size_header = b""
        self.pts_in_file_order = True
        self._last_pts: int | None = None
        self.decoding = True
        self._error = ""
        self._ahead: deque[av.VideoFrame | av.Packet[Any]] = deque()
        self.container = open_input(path, options)
        try:
            self.video = choose_video(self.container)
            self.video.thread_type = "AUTO"
            self.time_base = Fraction(self.video.time_base or Fraction(1, 1000))
            self._arrival: float | None = None  # when the first frame came, where only that tells the time
            self.clockless = self.address.live and self.container.format.name in CLOCKLESS
            if self.clockless:
                self.time_base = ARRIVAL_TICK
            self._cropper = self._find_crop()
            self._open_decoder()
            self._items = self._read()
            self.first = self._prefetch()
        except BaseException:
            self._ahead.clear()
            self._rest()
            self.container.close()
            raise

    def close(self) -> None:
        """Close the input; packets and frames already delivered stay valid."""
        self._items.close()
        self._ahead.clear()
        self._rest()
        self.container.close()

    def _rest(self) -> None:
        """Wait for the decoder's threads.

        PyAV frees a decoder, which waits for them too, with the GIL held: a thread that is about to log
        would never get it.
        """
        video = getattr(self, "video", None)
        if video is not None and video.codec_context is not None:
            video.codec_context.flush_buffers()

    def end(self) -> None:
        """Let the iteration end after the packet that is being read; from any thread."""
        self._ended = True

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended

    def promised_frames(self, given: int) -> int:
        """Frames that the container's count or index promised, as far as they are to be shown; 0 if unknown.

        AVI counts empty chunks, too, which mean "show the last frame again": they have a place in time, but
        are no packets. Of screen recorders' codecs, packets mean that.

        Args:
            given: frames that the video gave.

        Raises:
            OSError: the file cannot be read any more.
        """
        stats, promised = self.stats, self.video.frames
        if self.container.format.name in NO_PTS:
            promised -= self._empty_before_the_last() + self._empty_behind_the_last()
        if self.video.codec_context.codec.canonical_name in _NOTHING_NEW:
            promised -= max(0, stats.packets - stats.decode_errors - given)
        return max(0, promised - stats.discarded - stats.hidden)

    def _empty_before_the_last(self) -> int:
        """Chunks that AVI counts in time, but that were no packets."""
        return max(0, self.stats.last_dts + 1 - self.stats.packets)

    def _empty_behind_the_last(self) -> int:
        """Empty chunks of AVI, by its index, of which no packet tells."""
        empty = empty_chunks(self.path, self.video.index) if self.address.protocols == "file" else None
        return max(0, (empty or 0) - self._empty_before_the_last())

    def filled_until(self) -> float:
        """Seconds, on the input's clock, up to which there is something to show, as far as it was read.

        Raises:
            OSError: the file cannot be read any more.
        """
        end = self.stats.last_end
        if self.container.format.name in NO_PTS:
            shown = self.stats.last_dts + 1 + self._empty_behind_the_last()
            end = max(end, float(shown * self.time_base))
        return end

    def __iter__(self) -> Iterator[av.VideoFrame | av.Packet[Any]]:
        """Frames in display order and packets in file order; each once.

        A read error ends the iteration as the end of the file would, and is counted.
        """
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._items

    def seek(self, seconds: Fraction) -> None:
        """Continue from the last key frame at or before a time on the input's clock.

        Raises:
            MediaError: the input cannot be sought.
        """
        try:
            self.container.seek(int(seconds * av.time_base), backward=True)
        except av.FFmpegError as error:
            raise media_error(error, self.path) from None
        self._ahead.clear()
        self._items.close()
        self._last_pts = None
        self._items = self._read()

    def _find_crop(self) -> Cropper | None:
        videos = [s for s in self.container.streams.video if not is_cover(s)]
        path = self.path if self.address.protocols == "file" else None
        number = videos.index(self.video)
        crop = container_crop(path, self.container.format.name, number, self.video.codec_context)
        return None if crop is None else Cropper(crop)

    def _open_decoder(self) -> None:
        # FFmpeg's log, which has the reasons, is on only now: with it on, threads that decode would wait
        # for the GIL at every message, and PyAV trips over one that is under way when it goes off.
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
            why = self.stats.broken or self._error
            raise MediaError("no frame could be decoded" + (f" ({why})" if why else ""), path=self.path)
        if self.address.live:
            count_back(first)
        return first

    def _read(self) -> Generator[av.VideoFrame | av.Packet[Any], None, None]:
        packets = self.container.demux()
        jumps = ClockJumps() if self.container.format.name in DISCONTINUOUS else None
        started = False
        while not self._ended:
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
                self._broke(error)
                yield from self._decode(None)
                return
            if jumps is not None:
                jumps.fix(packet)
                self.stats.clock_jumps = jumps.count
            if packet.has_sidedata("encryption_info"):  # MP4's common encryption, Matroska's
                raise MediaError(container.ENCRYPTED, path=self.path)
            if packet.size and not self.stats.packets and packet.stream.index == self.video.index:
                self._look_at_headers(packet)
            if packet.stream.index != self.video.index:
                self.stats.others += bool(packet.size) and not is_cover(packet.stream)
                if packet.size or packet.dts is not None:
                    self._note_end(packet)
                    yield packet
                continue
            if packet.size:
                self.stats.packets += 1
                self.stats.discarded += packet.is_discard
                self.stats.hidden += is_hidden(self.video.codec_context.name, packet)
                self._note_order(packet)
                self._note_end(packet)
                if not self.decoding:
                    yield packet
            for frame in self._decode(packet):
                started = True
                yield frame
            if not started and self.decoding and self.stats.packets > PREFETCH_PACKETS:
                return
        yield from self._decode(None)

    def _look_at_headers(self, packet: av.Packet[Any]) -> None:
        # Before the first packet is decoded: this needs FFmpeg's log, see `_open_decoder`.
        self.size_header = size_header(self.video.codec_context, packet)
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
        if self.clockless:
            self._stamp(frames)
        return [self.shown(frame) for frame in frames]

    def shown(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The part of a decoded frame that the container wants to be shown."""
        return frame if self._cropper is None else self._cropper(frame)

    def _stamp(self, frames: list[av.VideoFrame]) -> None:
        now = time.monotonic()
        self._arrival = now if self._arrival is None else self._arrival
        for frame in frames:
            frame.pts, frame.time_base = round((now - self._arrival) / ARRIVAL_TICK), ARRIVAL_TICK

    def _broke(self, error: BaseException) -> None:
        """Reading failed: damage in a file; of a stream it depends on what it is."""
        if not self.address.live:
            self._failed(error)
            return
        if isinstance(error, av.ExitError):
            self.stats.broken = silence(self._timeout)
        elif (self.container.size or 0) <= 0 and not self.container.duration:
            return  # no length was promised: closing the connection is how such a stream ends
        else:
            self.stats.broken = f"broke off: {reason(error)}"
        self._error = self._error or self.stats.broken

    def _failed(self, error: BaseException) -> None:
        self.stats.decode_errors += 1
        self._error = self._error or reason(error)

    def _note_order(self, packet: av.Packet[Any]) -> None:
        if packet.pts is not None:
            self.pts_in_file_order &= self._last_pts is None or packet.pts >= self._last_pts
            self._last_pts = packet.pts
        if packet.dts is not None:
            self.stats.last_dts = packet.dts

    def _note_end(self, packet: av.Packet[Any]) -> None:
        at = packet.pts if packet.pts is not None else packet.dts
        if at is not None and packet.time_base:
            end = float((at + (packet.duration or 0)) * packet.time_base)
            self.stats.last_end = max(self.stats.last_end, end)
