"""Where the chroma samples of a subsampled stream lie: what headers say, and what swscale will assume."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import av.logging
import numpy as np
from av.bitstream import BitStreamFilterContext

from upscale.media.input.convert import chroma_shift, filter_graph
from upscale.media.input.log import ffmpeg_log
from upscale.media.pixels.planes import plane_view

#: FFmpeg's AVChromaLocation, for which PyAV has no enum.
LEFT, CENTRE = 1, 2


@dataclass(frozen=True, slots=True)
class ChromaSiting:
    """Where the chroma samples of a subsampled stream lie.

    Attributes:
        location: FFmpeg's `AVChromaLocation`: 1 left, 2 centre, 3 top left, …; 0 without subsampling.
        marked: False where the decoded frames carry another one (none), and must be marked.
    """

    location: int
    marked: bool = True


def chroma_siting(frame: av.VideoFrame, codec: str, named: bool) -> ChromaSiting:
    """The siting of a decoded frame's chroma.

    Args:
        frame: as decoded.
        codec: FFmpeg's name.
        named: whether the H.264 or HEVC headers name the siting at all.
    """
    if not chroma_shift(frame.format)[0]:
        return ChromaSiting(0)
    location = measured_chroma_location(frame)
    if location == CENTRE and codec in ("h264", "hevc") and not named:
        # The standards say left where the headers are silent; FFmpeg's decoder says nothing then,
        # which swscale takes for centre.
        return ChromaSiting(LEFT, marked=False)
    return ChromaSiting(location)


def headers_name_siting(stream: av.VideoStream, packet: bytes) -> bool:
    """Whether an H.264 or HEVC stream's parameter sets say where its chroma lies."""
    try:
        # The filter reports through the log.
        with ffmpeg_log(av.logging.INFO), av.logging.Capture() as lines:
            headers = BitStreamFilterContext("trace_headers", stream)
            headers.filter(av.Packet(packet))
    except (av.FFmpegError, ValueError):
        return False
    return any("chroma_loc_info_present_flag" in line[2] and line[2].strip().endswith("1") for line in lines)


def measured_chroma_location(frame: av.VideoFrame) -> int:
    """`AVChromaLocation` that swscale assumes for a frame of a subsampled format; 2 also if unmarked.

    PyAV before 19 does not expose it, but swscale acts on it: a copy of the frame's properties with
    a ramp in each chroma plane is enlarged, and where the ramps land tells the location.
    """
    size, step, offset, zoom, at = 32, 8, 40, 8, 64
    probe = frame.reformat(size, size, format="yuv420p", interpolation="POINT", threads=1)
    if probe is frame:  # it is of that size and format already
        probe = frame.reformat(size + 2, size, format="yuv420p", interpolation="POINT", threads=1)
    if frame.interlaced_frame:  # swscale would enlarge each field by itself
        graph = filter_graph(probe, "setfield", "mode=prog")
        graph.vpush(probe)
        probe = graph.vpull()
    ramp = np.arange(64, dtype=np.uint8) * step + offset
    plane_view(probe, 0)[...] = 128
    for index in (1, 2):
        plane = plane_view(probe, index)
        along = ramp[: plane.shape[1]] if index == 1 else ramp[: plane.shape[0], None]
        plane[...] = along
    big = probe.reformat(probe.width * zoom, size * zoom, interpolation="BILINEAR", threads=1)
    # Zoomed with centred siting, sample `at` shows (at + 0.5) / zoom - 0.5. Siting at an edge moves it
    # by (zoom - 1) / 4 output samples, towards higher values for left and top.
    centred = offset + step * ((at + Fraction(1, 2)) / zoom - Fraction(1, 2))
    full = Fraction((zoom - 1) * step, 4 * zoom)
    horizontal = round(float((int(plane_view(big, 1)[at, at]) - centred) / full))
    vertical = round(float((int(plane_view(big, 2)[at, at]) - centred) / full))
    table = {(1, 0): 1, (0, 0): 2, (1, 1): 3, (0, 1): 4, (1, -1): 5, (0, -1): 6}
    return table.get((horizontal, vertical), 0)
