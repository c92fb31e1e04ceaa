"""Bringing decoded frames to the one format that the pipeline works on.

That is planar YUV 4:2:0, 4:2:2 or 4:4:4, or gray, of 8 … 16 bit little endian, as near to the source
as there is one. RGB and palette become 4:4:4 with BT.709's matrix, limited range, and are tagged so:
what comes out is of HD size, where every player expects that matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, Interpolation, VideoReformatter

if TYPE_CHECKING:
    import av
    from av.video.format import VideoFormat

#: `Colorspace` has neither: FFmpeg's AVCOL_SPC_UNSPECIFIED, the same number for primaries, and AVCOL_SPC_RGB.
UNSPECIFIED = int(ColorPrimaries.UNSPECIFIED)
_MATRIX_RGB = 0

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
        color_range = ColorRange.JPEG
    if is_rgb(frame.format):
        color_range, matrix = ColorRange.MPEG, Colorspace.ITU709
    elif matrix == _MATRIX_RGB:  # a YUV frame cannot have it
        matrix = UNSPECIFIED
    return ColorTags(
        color_range=int(color_range),
        primaries=known(frame.color_primaries, context.color_primaries, UNSPECIFIED),
        trc=known(frame.color_trc, context.color_trc, UNSPECIFIED),
        matrix=int(matrix),
    )


class Converter:
    """Brings every frame to one size and format, and to the colour tags that the first frame decided.

    A frame of another shape keeps its own, between black bars.
    """

    def __init__(
        self,
        first: av.VideoFrame,
        tags: ColorTags,
        size: tuple[int, int] | None = None,
        *,
        mark_left: bool = False,
    ) -> None:
        """
        Args:
            first: decides the format; it is not converted.
            tags: put on every frame.
            size: (width, height) of all frames; None takes the first one's.
            mark_left: mark every frame's chroma as sited left.
        """
        self.width, self.height = size or (first.width, first.height)
        self.format = processing_format(first.format)
        self.tags = tags
        self._reformatter = VideoReformatter()
        self._mark_left = mark_left
        self._markers: dict[tuple[int, int, str], Graph] = {}
        self._padders: dict[tuple[int, int], Graph] = {}

    def how(self, frame: av.VideoFrame) -> str:
        """What is done to a frame of this size, human-readable; "" for nothing."""
        whole, inner = (self.width, self.height), self._inner_size(frame)
        if (frame.width, frame.height) == whole:
            return ""
        return f"scaled to {inner[0]}x{inner[1]}" + (
            f", with bars to {whole[0]}x{whole[1]}" if inner != whole else ""
        )

    def _inner_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """The largest size of the frame's shape that fits; even, as bars must not cut chroma samples."""
        scale = min(self.width / frame.width, self.height / frame.height)
        width, height = round(frame.width * scale), round(frame.height * scale)
        # What differs by a rounding has the same shape.
        width = self.width if self.width - width < 2 else max(2, width // 2 * 2)
        height = self.height if self.height - height < 2 else max(2, height // 2 * 2)
        return min(width, self.width), min(height, self.height)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame itself where it fits already, else a converted one; tagged either way."""
        if self._mark_left:
            frame = self._marked(frame)
        fits = (frame.width, frame.height, frame.format.name) == (self.width, self.height, self.format)
        out = frame if fits else self._reformat(frame)
        out.color_range, out.colorspace = self.tags.color_range, self.tags.matrix
        out.color_primaries, out.color_trc = self.tags.primaries, self.tags.trc
        return out if (out.width, out.height) == (self.width, self.height) else self._padded(out)

    def _padded(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Black bars on two sides, of even width."""
        key = (frame.width, frame.height)
        if key not in self._padders:
            x, y = (self.width - frame.width) // 4 * 2, (self.height - frame.height) // 4 * 2
            arguments = f"w={self.width}:h={self.height}:x={x}:y={y}:color=black"
            self._padders[key] = filter_graph(frame, "pad", arguments)
        return through(self._padders[key], frame)

    def _marked(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The same picture, not copied, with its chroma marked as sited left."""
        key = (frame.width, frame.height, frame.format.name)
        if key not in self._markers:
            self._markers[key] = filter_graph(frame, "setparams", "chroma_location=left")
        return through(self._markers[key], frame)

    def _reformat(self, frame: av.VideoFrame) -> av.VideoFrame:
        # Between two YUV formats the same matrix and range on both sides: samples keep their values.
        rgb = is_rgb(frame.format)
        limited = rgb or self.tags.color_range != ColorRange.JPEG
        pts, time_base, duration = frame.pts, frame.time_base, frame.duration
        out = self._reformatter.reformat(
            frame,
            *self._inner_size(frame),
            self.format,
            interpolation=Interpolation.LANCZOS | Interpolation.ACCURATE_RND,
            src_colorspace=None if rgb else Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG if rgb or not limited else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG if limited else ColorRange.JPEG,
            threads=1,
        )
        out.pts, out.time_base, out.duration = pts, time_base, duration
        return out


def filter_graph(frame: av.VideoFrame, name: str, arguments: str) -> Graph:
    """A filter graph of one filter, for frames of this one's size, format and colour tags."""
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:"
        f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
    )
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()
    return graph


def through(graph: Graph, frame: av.VideoFrame) -> av.VideoFrame:
    """What a filter that gives a frame for each one makes of this one, with its times."""
    pts, dts, time_base, duration = frame.pts, frame.dts, frame.time_base, frame.duration
    graph.vpush(frame)
    out = graph.vpull()
    out.pts, out.dts, out.duration = pts, dts, duration
    if time_base:
        out.time_base = time_base
    return out


def _log2(value: int) -> int:
    return value.bit_length() - 1
