"""The input of a job: frames ready for the network, and the packets of every other stream."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from upscale.errors import MediaError, UsageError
from upscale.media.input.clock import ARBITRARY_ORIGIN, NO_PTS, FrameClock, Timeline
from upscale.media.input.convert import ColorTags, Converter
from upscale.media.input.damage import MATROSKA, MP4, DamageDetector, SourceStats
from upscale.media.input.deinterlace import MIN_HEIGHT, MIN_WIDTH, Deinterlacer
from upscale.media.input.open import media_error
from upscale.media.input.probe import MediaInfo, VideoInfo, chroma_siting, container_says_interlaced, describe
from upscale.media.input.reader import Reader, is_cover
from upscale.media.input.sizes import chosen_size
from upscale.options import DEFAULTS, Options
from upscale.system.closing import Closing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

#: A part that begins later than this is sought to, in formats where that is exact. Reading begins this
#: much before it (in seconds): at a key frame, and early enough for subtitles that are on screen.
SEEK_FROM, SEEK_MARGIN = Fraction(20), Fraction(10)
SEEKABLE = (MP4, MATROSKA)

#: Demuxers that read the duration from a header, so that a file which ends earlier was cut off.
PROMISED_DURATION = frozenset({*SEEKABLE, "avi", "asf", "flv", "nut", "mxf"})

#: Packets before time zero that an edit list hides, but a decoder needs (AAC's and Opus' lead-in), in s.
LEAD_IN = Fraction(1, 10)

#: Seconds read beyond the end of the part: packets are interleaved only roughly.
INTERLEAVE = Fraction(2)

#: Changes of size that are named one by one.
_CHANGES_NAMED = 20

_INTERLACED_REFUSED = "interlaced: it must be deinterlaced first (without --keep-interlaced it is done)"


class Source(Closing):
    """Reads an input once, in constant memory; a context manager.

    Iterating gives `av.VideoFrame` (display order, of constant size and `frame_format`, deinterlaced,
    tagged, with strictly increasing pts) and `av.Packet` of the selected streams, about as they are
    interleaved in the file. All timestamps are moved by one common offset, which is zero unless the
    format's clock has an arbitrary origin or a part was asked for.

    Attributes:
        info: description of the input, on its own clock.
        container, video: PyAV's objects.
        chapters: on the output's clock, cut to the part.
        frame_format: pixel format of the frames.
        notes: what was changed, human-readable.
        clip_duration: seconds that will come out; None if unknown.
        estimated_frames: for progress; 0 if unknown.
        stats: counts so far.
    """

    def __init__(self, path: str, options: Options = DEFAULTS) -> None:
        """Open and decode the first frames.

        Args:
            path: file name, "-" for standard input, a URL or a device (`upscale.media.input.address`).
            options: those that concern reading. Of a part (`start`, `stop`) video is cut at frames, audio
                at packets; subtitles that are on screen at `start` are kept. With `strict`, damage is an
                error, raised where it shows, not a count.

        Raises:
            UsageError: not a video file; interlaced with `keep_interlaced`; a part that does not exist.
            MediaError: cannot be read, has no video, or none of it decodes.
        """
        self.notes: list[str] = []
        self.stats = SourceStats()
        self._abandoned = False
        self._options = options
        self._detector = DamageDetector(self.stats)
        self._reader = Reader(path, options)
        try:
            self.info: MediaInfo = describe(self._reader, chosen_size(self._reader, options))
            self._setup(options.start, options.stop)
        except (av.FFmpegError, UnicodeDecodeError) as error:
            self._reader.close()
            raise media_error(error, path) from None
        except BaseException:
            self._reader.close()
            raise
        self._left_out = {
            kind for kind, keep in (("audio", options.audio), ("subtitle", options.subtitles)) if not keep
        }
        self._selected = {s.index for s in self.streams_to_copy()}

    def _setup(self, start: float | None, stop: float | None) -> None:
        origin = self.container.start_time
        duration = self.info.duration
        joined = self._reader.address.live and duration is None
        begin = Fraction(origin or 0, av.time_base)
        first = self._reader.first[0]
        ticks = first.dts if first.pts is None else first.pts
        if ticks is not None and (joined or self.info.format in ARBITRARY_ORIGIN):
            # A container's start is what its first packets say; frames may lie before that.
            at = ticks * self._reader.time_base
            begin = at if self._reader.clockless else min(begin, at)
        self._timeline = Timeline.make(self.info.format, begin, start, stop, joined=joined)
        if start is not None and duration is not None and start >= duration:
            raise UsageError(f"start ({start:g} s) is behind the end ({duration:.3f} s)")
        self.clip_duration = _clip_duration(duration, start, stop)
        self._whole = start is None and stop is None
        self.chapters: list[dict[str, Any]] = self._timeline.chapters(self.info.chapters)
        video = self.info_video
        tags = ColorTags(
            color_range=video.color_range, primaries=video.primaries, trc=video.trc, matrix=video.matrix
        )
        mark_left = not chroma_siting(self._reader).marked
        size = video.width, video.height
        self._converter = Converter(self._reader.first[0], tags, size, mark_left=mark_left)
        self._shown_size: tuple[int, int] | None = None
        self._size_changes = 0
        self.frame_format: str = self._converter.format
        self._clock = FrameClock(self._reader.time_base, video.rate)
        self._clock.learn((f.pts, f.dts) for f in self._reader.first if self._times_are_guesses())
        self._deinterlacer: Deinterlacer | None = None
        self._every_frame = container_says_interlaced(self._reader)
        if video.interlaced:
            self._interlaced_found(self._reader.first[0])
        self._reader.first.clear()  # a few pictures of 8K are half a gigabyte
        if video.has_alpha or self.video.metadata.get("alpha_mode") == "1":
            self.notes.append("transparency is dropped")
        self._seek_to_part()

    @property
    def container(self) -> InputContainer:
        return self._reader.container

    @property
    def video(self) -> av.VideoStream:
        return self._reader.video

    @property
    def info_video(self) -> VideoInfo:
        """The description of the chosen video stream."""
        assert self.info.video is not None
        return self.info.video

    @property
    def estimated_frames(self) -> int:
        """Frames that will come out, as far as the container tells; 0 if it does not."""
        video = self.info_video
        if self._whole and video.frames:
            return video.frames
        seconds = self.clip_duration or video.duration
        return round(seconds * float(video.rate)) if seconds and video.rate else 0

    def close(self) -> None:
        """Close the input.

        From then on neither `container` nor any stream, also as ``packet.stream``, may be touched: PyAV
        reads freed memory. Data, times and ``packet.stream_index`` stay valid.
        """
        if not self._abandoned:
            self._reader.close()

    def abandon(self) -> None:
        """Never close: a thread hangs in a read from the input, and freeing it then would crash."""
        self._abandoned = True

    def end(self) -> None:
        """Let the iteration end soon, as at the end of the stream; from any thread."""
        self._reader.end()

    def streams_to_copy(self) -> list[Stream]:
        """All streams but the chosen video, without the kinds that were left out."""
        return [
            s for s in self.container.streams if s.index != self.video.index and s.type not in self._left_out
        ]

    def select(self, indices: set[int]) -> None:
        """Deliver the packets of these streams only; call before iterating."""
        self._selected = {s.index for s in self.streams_to_copy()} & set(indices)

    def __iter__(self) -> Iterator[av.VideoFrame | av.Packet[Any]]:
        """See the class; can be iterated once.

        Raises:
            MediaError: FFmpeg cannot convert or deinterlace the frames; damage, if `strict`.
            UsageError: no frame in the wanted part; interlaced frames show up with `keep_interlaced`.
        """
        try:
            yield from self._deliver()
        except av.FFmpegError as error:
            raise media_error(error, self._reader.path) from None

    def _deliver(self) -> Iterator[av.VideoFrame | av.Packet[Any]]:
        timeline, base = self._timeline, self._reader.time_base
        video_done = False
        # One frame is held back: how long it is shown is known for certain when the next one comes.
        held: tuple[av.VideoFrame, int, int] | None = None
        for item in self._reader:
            if isinstance(item, av.VideoFrame):
                pts, duration = self._clock.assign(self._display_time(item), item.duration)
                if held is not None:
                    yield from self._frame(held[0], held[1], pts - held[1], item)
                held = None
                if timeline.after(pts, base):
                    video_done = True
                elif not timeline.before(pts, base):
                    held = item, pts, duration
            elif (packet := self._packet(item)) is not None:
                yield packet
            if video_done and self._beyond(item):
                break
        if held is not None:
            yield from self._frame(held[0], held[1], self._last_duration(held[1], held[2]))
        if self._deinterlacer is not None:
            for frame in self._deinterlacer.flush():
                yield self._delivered(frame)
        self._finish_stats()
        self._refuse_damage()

    def _times_are_guesses(self) -> bool:
        """Whether pts may be decoding times: the container has no others, or all came in file order.

        With B-frames true ones cannot: MP4 and ASF files of some writers have decoding times only.
        """
        if self._reader.clockless:
            return False
        return self.info.format in NO_PTS or self._reader.pts_in_file_order

    def _display_time(self, frame: av.VideoFrame) -> int | None:
        if frame.pts is None or self._times_are_guesses():
            return self._clock.best_effort(frame.pts, frame.dts)
        if frame.dts is None and frame.pts == self._clock.last:
            return None  # the last frame of a stream that was cut: MPEG-2 decoders repeat a time for it
        return frame.pts

    def _frame(
        self, frame: av.VideoFrame, pts: int, duration: int, following: av.VideoFrame | None = None
    ) -> Iterator[av.VideoFrame]:
        base = self._reader.time_base
        self._detector.frame(frame, pts)
        if self._timeline.end is not None:
            duration = max(1, min(duration, int(self._timeline.end / base) - pts))
        frame.pts, frame.time_base, frame.duration = self._timeline.shift(pts, base), base, duration
        if (frame.width, frame.height) != self._shown_size:
            self._note_size(frame)
        if self._deinterlacer is None:
            # The filter must have seen the frame before the first interlaced one: what it makes of a frame
            # then depends on its neighbours only, not on where reading began.
            coming = following is not None and following.interlaced_frame
            if frame.interlaced_frame or coming:
                self._interlaced_found(frame)
        frame = self._converter(frame)
        if self._deinterlacer is None:
            yield self._delivered(frame)
        else:
            for ready in self._deinterlacer.push(frame):
                yield self._delivered(self._converter(ready))

    def _last_duration(self, pts: int, duration: int) -> int:
        """Ticks for which the last frame of the stream is shown.

        MP4 stores how far decoding times are apart; with B-frames the last of these belongs to another
        frame, but their sum is the end of the track.
        """
        stream = self.video
        if self.info.format != MP4 or not stream.duration or self._reader.stats.discarded:
            return duration
        rest = (stream.start_time or 0) + stream.duration - pts
        return rest if rest > 0 else duration

    def _delivered(self, frame: av.VideoFrame) -> av.VideoFrame:
        self.stats.frames += 1
        self._copy_counts()
        self._refuse_damage()
        return frame

    def _refuse_damage(self) -> None:
        if self._options.strict and (found := self.stats.damage()):
            raise MediaError(f"the input is damaged: {', '.join(found)}", path=self._reader.path)

    def _packet(self, packet: av.Packet[Any]) -> av.Packet[Any] | None:
        """The packet on the output's clock; None if it is not wanted, outside the kept part or hidden."""
        if packet.stream_index not in self._selected:
            return None
        self._detector.packet(packet)
        timeline = self._timeline
        kind = packet.stream.type
        if is_cover(packet.stream) or not packet.time_base:
            return packet
        base = Fraction(packet.time_base)
        at = packet.pts if packet.pts is not None else packet.dts
        if packet.is_discard and (kind != "audio" or at is None or not -LEAD_IN <= at * base < 0):
            return None  # hidden by an edit list
        if at is None:
            return packet if self._whole else None
        if timeline.after(at, base):
            return None
        if timeline.before(at, base):
            end = at + (packet.duration or 0)
            if kind != "subtitle" or timeline.before(end, base) or end == at:
                return None
            # On screen when the part begins: shown from its first moment on.
            assert timeline.begin is not None
            at = -int(-timeline.begin // base)
            packet.pts = packet.dts = at
            packet.duration = max(1, end - at)
        if packet.pts is not None:
            packet.pts = timeline.shift(packet.pts, base)
        if packet.dts is not None:
            packet.dts = timeline.shift(packet.dts, base)
        return packet

    def _beyond(self, item: av.VideoFrame | av.Packet[Any]) -> bool:
        """Whether reading has come far enough behind the part's end to stop."""
        at = item.pts if item.pts is not None else item.dts
        end = self._timeline.end
        if at is None or end is None or not item.time_base:
            return False
        return bool(at * Fraction(item.time_base) > end + INTERLEAVE)

    def _interlaced_found(self, frame: av.VideoFrame) -> None:
        if self._options.keep_interlaced:
            raise UsageError(_INTERLACED_REFUSED)
        if frame.width < MIN_WIDTH or frame.height < MIN_HEIGHT:
            return
        self._deinterlacer = Deinterlacer(_blank_like(self._converter), every_frame=self._every_frame)
        self.notes.append("interlaced: deinterlaced with bwdif, frame rate kept")

    def _note_size(self, frame: av.VideoFrame) -> None:
        """Name a change of size with its time; of a video that never settles, only the first ones."""
        begins, self._shown_size = self._shown_size is None, (frame.width, frame.height)
        how = self._converter.how(frame)
        if begins and not how:
            return
        self._size_changes += 1
        if self._size_changes > _CHANGES_NAMED:
            return
        verb, at = "begins as" if begins else "changes to", float((frame.pts or 0) * self._reader.time_base)
        note = f"the picture {verb} {frame.width}x{frame.height} at {at:.2f} s"
        if how:
            note += f": {how}"
        if self._size_changes == _CHANGES_NAMED:
            note += "; further changes are not listed"
        self.notes.append(note)

    def _seek_to_part(self) -> None:
        if self._timeline.begin is not None:
            self._seek(self._timeline.begin)

    def _seek(self, begin: Fraction) -> None:
        """Read on from well before a time on the input's clock, if that is exact and spares anything."""
        if self._reader.address.protocols != "file" or self.info.format not in SEEKABLE:
            return
        target = begin - SEEK_MARGIN
        if target - Fraction(self.info.start) > SEEK_FROM - SEEK_MARGIN:
            self._reader.seek(target)

    def _copy_counts(self) -> None:
        read = self._reader.stats
        self.stats.decode_errors = read.decode_errors
        self.stats.adjusted_timestamps = self._clock.adjusted

    def _finish_stats(self) -> None:
        self._copy_counts()
        read = self._reader.stats
        if read.clock_jumps:
            self.notes.append(f"timestamps restart {read.clock_jumps} times: parts were joined")
        if read.broken and self._reader.address.waits:
            self.stats.broken = read.broken
        elif read.broken:
            self.notes.append(f"the stream ended: {read.broken}")
        if not self._whole:
            if not self.stats.frames:
                raise UsageError("no frame lies between start and stop")
            return
        if self._reader.ended:
            return
        try:
            promised, end = self._reader.promised_frames(self.stats.frames), self._reader.filled_until()
        except OSError as error:
            raise media_error(error, self._reader.path) from None
        tolerance = 2 + promised // 50 if self.info.format in NO_PTS else 0
        self.stats.expected_frames = promised if promised > self.stats.frames + tolerance else 0
        if self.info.duration is not None and self.info.format in PROMISED_DURATION:
            # MP4 counts from the first time stamp, the others from zero.
            begin = self.info.start if self.info.format == MP4 else 0.0
            missing = begin + self.info.duration - end
            if missing > max(0.5, 0.02 * self.info.duration):
                self.stats.missing_seconds = missing
        self._detector.finish(self._reader, self._selected)


def _clip_duration(duration: float | None, start: float | None, stop: float | None) -> float | None:
    if stop is not None and duration is not None:
        stop = min(stop, duration)
    end = stop if stop is not None else duration
    return None if end is None else end - (start or 0.0)


def _blank_like(converter: Converter) -> av.VideoFrame:
    """A frame of the converter's output format, to set filters up with."""
    frame = av.VideoFrame(converter.width, converter.height, converter.format)
    frame.color_range, frame.colorspace = converter.tags.color_range, converter.tags.matrix
    return frame
