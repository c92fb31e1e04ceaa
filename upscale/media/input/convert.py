"""Bringing decoded frames to the one format that the pipeline works on.

That is planar YUV 4:2:0, 4:2:2 or 4:4:4, or gray, of 8 … 16 bit little endian, as near to the source
as there is one. RGB and palette become 4:4:4 with BT.709's matrix, limited range, and are tagged so:
what comes out is of HD size, where every player expects that matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    from av.filter import Graph
    from av.video.format import VideoFormat

#: FFmpeg's enum values that are used here.
RANGE_LIMITED, RANGE_FULL = 1, 2
UNSPECIFIED = 2
MATRIX_RGB, MATRIX_BT709 = 0, 1

LEFT, CENTRE = 1, 2

_DEPTHS = (8, 9, 10, 12, 14, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTags:
    """FFmpeg's enum values for a frame's colour description."""

    color_range: int
    primaries: int
    trc: int
    matrix: int


def is_rgb(format: VideoFormat) -> bool:
    """Whether a frame of this format needs a colour matrix to become YUV."""
    return bool(format.is_rgb or format.has_palette or format.name.startswith(("xyz", "bayer")))


def has_alpha(format: VideoFormat) -> bool:
    """Whether the format has an alpha component."""
    return any(c.is_alpha for c in format.components) or format.name in ("pal8", "ya8")


def chroma_shift(format: VideoFormat) -> tuple[int, int]:
    """Log2 of the horizontal and vertical chroma subsampling; (0, 0) for RGB and gray."""
    if is_rgb(format) or sum(not c.is_alpha for c in format.components) < 3:
        return 0, 0
    # 64 is a multiple of every subsampling there is.
    return _log2(64 // format.chroma_width(64)), _log2(64 // format.chroma_height(64))


def processing_format(format: VideoFormat) -> str:
    """Name of the format that frames of `format` are brought to."""
    bits = max(c.bits for c in format.components if not c.is_alpha) if format.components else 8
    if format.has_palette or format.name.startswith("mono") or is_packed_rgb(format):
        bits = 8
    depth = next((d for d in _DEPTHS if d >= bits), 16)
    suffix = "" if depth == 8 else f"{depth}le"
    if is_rgb(format):
        return f"yuv444p{suffix}"
    if sum(not c.is_alpha for c in format.components) < 3:
        return f"gray{suffix}"
    horizontal, vertical = chroma_shift(format)
    name = "444" if not horizontal else "420" if vertical else "422"
    return f"yuv{name}p{suffix}"


def is_packed_rgb(format: VideoFormat) -> bool:
    """RGB of few bits (rgb565, rgb8, …), whose components differ in depth."""
    return bool(format.is_rgb) and max(c.bits for c in format.components) < 8


def color_tags(frame: av.VideoFrame, context: av.VideoCodecContext) -> ColorTags:
    """Colour description of the frames that come out of `Converter`: the frame's, else the stream's."""

    def known(of_frame: int, of_context: int, unset: int) -> int:
        return int(of_frame) if int(of_frame) != unset else int(of_context)

    color_range = known(frame.color_range, context.color_range, 0)
    matrix = known(frame.colorspace, context.colorspace, UNSPECIFIED)
    if frame.format.name.startswith("yuvj"):
        color_range = RANGE_FULL
    if is_rgb(frame.format):
        color_range, matrix = RANGE_LIMITED, MATRIX_BT709
    elif matrix == MATRIX_RGB:  # a YUV frame cannot have it
        matrix = UNSPECIFIED
    return ColorTags(
        color_range=color_range,
        primaries=known(frame.color_primaries, context.color_primaries, UNSPECIFIED),
        trc=known(frame.color_trc, context.color_trc, UNSPECIFIED),
        matrix=matrix,
    )


class Converter:
    """Makes every frame of the size, format and colour tags that the first frame decided."""

    def __init__(self, first: av.VideoFrame, tags: ColorTags, *, mark_left: bool = False) -> None:
        """
        Args:
            first: decides size and format; it is not converted.
            tags: put on every frame.
            mark_left: mark every frame's chroma as sited left.
        """
        from av.video.reformatter import VideoReformatter

        self.width, self.height = first.width, first.height
        self.format = processing_format(first.format)
        self.tags = tags
        self._reformatter = VideoReformatter()
        self._mark_left = mark_left
        self._markers: dict[tuple[int, int, str], Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame itself where it fits already, else a converted one; tagged either way."""
        if self._mark_left:
            frame = self._marked(frame)
        fits = (frame.width, frame.height, frame.format.name) == (self.width, self.height, self.format)
        out = frame if fits else self._reformat(frame)
        out.color_range, out.colorspace = self.tags.color_range, self.tags.matrix
        out.color_primaries, out.color_trc = self.tags.primaries, self.tags.trc
        return out

    def _marked(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The same picture, not copied, with its chroma marked as sited left."""
        pts, time_base, duration = frame.pts, frame.time_base, frame.duration
        key = (frame.width, frame.height, frame.format.name)
        if key not in self._markers:
            self._markers[key] = filter_graph(frame, "setparams", "chroma_location=left")
        graph = self._markers[key]
        graph.vpush(frame)
        out = graph.vpull()
        out.pts, out.time_base, out.duration = pts, time_base, duration
        return out

    def _reformat(self, frame: av.VideoFrame) -> av.VideoFrame:
        from av.video.reformatter import Colorspace, Interpolation

        # Between two YUV formats the same matrix and range on both sides: samples keep their values.
        rgb = is_rgb(frame.format)
        limited = rgb or self.tags.color_range != RANGE_FULL
        pts, time_base, duration = frame.pts, frame.time_base, frame.duration
        out = self._reformatter.reformat(
            frame,
            self.width,
            self.height,
            self.format,
            interpolation=Interpolation.LANCZOS | Interpolation.ACCURATE_RND,
            src_colorspace=None if rgb else Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=RANGE_FULL if rgb or not limited else RANGE_LIMITED,
            dst_color_range=RANGE_LIMITED if limited else RANGE_FULL,
            threads=1,
        )
        out.pts, out.time_base, out.duration = pts, time_base, duration
        return out


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
    import av
    from av.bitstream import BitStreamFilterContext

    from upscale.media.input.log import ffmpeg_log

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
    import numpy as np

    from upscale.media.pixels.planes import plane_view

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


def filter_graph(frame: av.VideoFrame, name: str, arguments: str) -> Graph:
    """A filter graph of one filter, for frames of this one's size, format and colour tags."""
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:"
        f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
    )
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()
    return graph


def _log2(value: int) -> int:
    return value.bit_length() - 1
