"""Times of all frames of an input, by demuxing alone."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av

from upscale.media.input.clock import Timeline
from upscale.media.input.open import media_error, open_input
from upscale.media.input.reader import choose_video
from upscale.media.input.source import SEEKABLE

if TYPE_CHECKING:
    from upscale.options import Options


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
    with open_input(path) as container:
        stream = choose_video(container)
        base = Fraction(stream.time_base or Fraction(1, 1000))
        origin = Fraction(container.start_time or 0, av.time_base)
        timeline = Timeline.make(container.format.name, origin, options.start, options.stop)
        exact = container.format.name in SEEKABLE
        times: list[int] = []
        unknown = 0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                exact = exact and not packet.is_discard and not packet.is_corrupt
                if packet.is_discard:
                    continue
                if packet.pts is None:
                    unknown += 1
                elif not (timeline.before(packet.pts, base) or timeline.after(packet.pts, base)):
                    times.append(timeline.shift(packet.pts, base))
        except (av.FFmpegError, OSError) as error:
            raise media_error(error, path) from None
    times.sort()
    if unknown or len(set(times)) != len(times):
        exact = False
    if not exact:
        times = list(range(len(times) + unknown))
    return times, exact
