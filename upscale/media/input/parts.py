"""What a job in segments reads: times of all frames, packets without pictures, frames of one segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

import av

from upscale.media.input.clock import Timeline
from upscale.media.input.open import media_error, open_input
from upscale.media.input.reader import choose_video
from upscale.media.input.source import SEEKABLE, Source

if TYPE_CHECKING:
    from upscale.options import Options

#: Frames that are decoded to see whether a file's times are display times: its first B-frames are among them.
_LOOKED_AT = 100


class PartSource(Source):
    """A source that can also be read in parts; each way of reading takes the place of iterating."""

    def packets(self, frames: int | None = None) -> Iterator[av.Packet[Any]]:
        """Only the packets that iterating would give, without decoding any video.

        Args:
            frames: that the video gave elsewhere: then `stats` says what is missing, but for damage that
                only decoding finds.
        """
        self._reader.decoding = False
        video_done = False
        for item in self._reader:
            if isinstance(item, av.VideoFrame):
                continue  # decoded when the input was opened
            if item.stream_index == self.video.index:
                at = item.dts if item.dts is not None else item.pts
                video_done = video_done or (
                    at is not None and self._timeline.after(at, self._reader.time_base)
                )
            elif (packet := self._packet(item)) is not None:
                yield packet
            if video_done and self._beyond(item):
                break
        if frames is not None:
            self.stats.frames = frames
            self._finish_stats()

    def between(self, begin: int, end: int | None) -> Iterator[av.VideoFrame]:
        """Only the frames from one time to another, as iterating would give them.

        Where the format allows it, reading begins shortly before them. `stats` counts the damage of these
        frames.

        Args:
            begin, end: pts of the first frame wanted and of the first one not wanted; None: all.
        """
        self._seek(begin * self._reader.time_base + self._timeline.offset)
        for _, frame in self._part(lambda _, frame: (frame.pts or 0) >= begin):
            if end is not None and (frame.pts or 0) >= end:
                return
            yield frame

    def counted(self, first: int, count: int | None) -> Iterator[av.VideoFrame]:
        """Only `count` frames (None: all) from number `first` on; otherwise as `between`."""
        for number, frame in self._part(lambda number, _: number >= first):
            if count is not None and number >= first + count:
                return
            yield frame

    def _part(self, wanted: Callable[[int, av.VideoFrame], bool]) -> Iterator[tuple[int, av.VideoFrame]]:
        self._whole = False  # what lies before and behind is not missing
        self.select(set())
        for number, frame in enumerate(self):
            assert isinstance(frame, av.VideoFrame)
            if wanted(number, frame):
                yield number, frame
            else:
                self._reader.stats.decode_errors = self.stats.corrupt_frames = 0


def frame_times(path: str, options: Options) -> tuple[list[int], bool]:
    """Presentation times of the frames that a job's `Source` will deliver, in order.

    Args:
        path: of a file.
        options: for the part to keep.

    Returns:
        Times in the input's ticks on the output's clock, and whether they are exact: the format can be
        sought in, every packet has a time of its own, and an edit list hides none. Otherwise only their
        number is good, as an estimate.

    Raises:
        UsageError, MediaError: as `open_input`.
    """
    with open_input(path, options) as container:
        stream = choose_video(container)
        base = Fraction(stream.time_base or Fraction(1, 1000))
        origin = Fraction(container.start_time or 0, av.time_base)
        timeline = Timeline.make(container.format.name, origin, options.start, options.stop)
        exact = container.format.name in SEEKABLE
        delayed = bool(stream.codec_context.has_b_frames)
        found: list[int] = []
        unknown = 0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                exact = exact and not packet.is_discard and not packet.is_corrupt
                if packet.pts is None:
                    unknown += not packet.is_discard
                elif not packet.is_discard:
                    found.append(packet.pts)
        except (av.FFmpegError, OSError) as error:
            raise media_error(error, path) from None
    in_order = sorted(found)
    if delayed and found == in_order and _run_backwards(path, options):
        exact = False  # with B-frames, times in file order are decoding times
    times = [
        timeline.shift(t, base) for t in in_order if not (timeline.before(t, base) or timeline.after(t, base))
    ]
    if unknown or len(set(times)) != len(times):
        exact = False
    if not exact:
        times = list(range(len(times) + unknown))
    return times, exact


def _run_backwards(path: str, options: Options) -> bool:
    """Whether the times of the first frames do, in the order in which they are shown."""
    with open_input(path, options) as container:
        try:
            frames = islice(container.decode(choose_video(container)), _LOOKED_AT)
            times = [frame.pts for frame in frames if frame.pts is not None]
        except (av.FFmpegError, OSError) as error:
            raise media_error(error, path) from None
    return times != sorted(times)
