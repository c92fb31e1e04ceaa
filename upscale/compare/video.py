"""The side-by-side video: one crop of every way of enlarging, in labelled tiles."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from upscale.compare.crops import Crop
from upscale.compare.sheet import INK, PAPER, enlarge, fit, font, line_height
from upscale.errors import UsageError
from upscale.media.input.open import output_error
from upscale.media.pixels.rgb import RGB
from upscale.system.safe_file import SafeFile

if TYPE_CHECKING:
    from av.container import OutputContainer

#: Endings of names and FFmpeg's format for each.
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
#: Width of the whole video at most, in which the number of columns and the zoom are chosen.
_WIDTH = 1920
#: Ticks in a second: exact for all common frame rates.
_TICKS = 90000


def video_format(path: str) -> str:
    """FFmpeg's format for a name.

    Raises:
        UsageError: another ending than those of `FORMATS`.
    """
    for ending, name in FORMATS.items():
        if path.lower().endswith(ending):
            return name
    raise UsageError(f"the video's name must end with {', '.join(FORMATS)}", path=path)


def write_video(
    path: str, moments: Iterable[tuple[float, dict[str, RGB]]], crop: Crop, *, overwrite: bool = False
) -> int:
    """Encode the tiles of each moment with libx264; returns the number of frames.

    Args:
        moments: (seconds, pictures by label), times increasing, the same labels each time.

    Raises:
        OutputError: the disk is full, or the name is taken.
        UsageError: not a name of a video, or no frame at all.
    """
    import av

    kind = video_format(path)
    frames = 0
    with SafeFile(path, overwrite=overwrite) as file:
        try:
            with av.open(f"file:{file.path}", "w", format=kind) as container:
                for time, pictures in moments:
                    frames += 1
                    _encode(container, _tiles(pictures, crop), time)
                if not frames:
                    raise UsageError("no frames to show", path=path)
                stream = container.streams.video[0]
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise output_error(error, path) from error
        file.commit()
    return frames


def _encode(container: OutputContainer, picture: RGB, time: float) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    if not container.streams.video:
        stream = container.add_stream("libx264", rate=25, options={"crf": "14", "preset": "veryfast"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
    stream = container.streams.video[0]
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation="BICUBIC",
    )
    frame.pts, frame.time_base = round(time * _TICKS), Fraction(1, _TICKS)
    container.mux(stream.encode(frame))


def _tiles(pictures: dict[str, RGB], crop: Crop) -> RGB:
    """One row where the tiles fit side by side, else rows; sides are even, as 4:2:0 needs."""
    columns = min(len(pictures), max(1, _WIDTH // crop.width), 2 if len(pictures) == 4 else 3)
    zoom = max(1, min(3, _WIDTH // (columns * crop.width)))
    bar = line_height()
    width, height = crop.width * zoom, crop.height * zoom + bar
    rows = -(-len(pictures) // columns)
    image = Image.new("RGB", (-(-columns * width // 2) * 2, -(-rows * height // 2) * 2), PAPER)
    draw = ImageDraw.Draw(image)
    for number, (name, picture) in enumerate(pictures.items()):
        x, y = number % columns * width, number // columns * height
        image.paste(Image.fromarray(enlarge(crop.cut(picture), zoom)), (x, y + bar))
        draw.text((x + 4, y), fit(name, width - 4), INK, font())
    return np.asarray(image)
