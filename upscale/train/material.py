"""Sharp luma pictures out of a folder of clips and stills."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from upscale.planes import plane_view
from upscale.train.degrade import Plane, halve

STILLS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
CLIPS = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg",
    ".wmv", ".flv", ".ogv", ".3gp", ".y4m", ".gif", ".264", ".h264", ".265", ".hevc", ".mxf",
}  # fmt: skip

#: Frames in one moving sequence: enough for x264 to use P and B frames.
SEQUENCE = 5
#: Clips up to this height are halved before they count as sharp: most were compressed to fit.
SOFT_HEIGHT = 1088


@dataclass(frozen=True, slots=True)
class Sequence:
    """One to `SEQUENCE` consecutive luma pictures of one source, (H, W) uint8, sides multiples of 4."""

    source: str
    pictures: list[Plane]


def find_sources(folder: Path) -> list[Path]:
    """All stills and clips below `folder`, sorted by name, so that a run can be repeated."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in STILLS | CLIPS and p.is_file())


def read_sequences(path: Path, per_clip: int = 10) -> Iterator[Sequence]:
    """Sharp luma sequences of one file: a still gives one picture, a clip up to `per_clip` sequences.

    Raises:
        av.FFmpegError, ValueError: the file cannot be decoded.
    """
    if path.suffix.lower() in STILLS:
        with av.open(f"file:{path}") as container:
            yield Sequence(str(path), [_luma(next(container.decode(video=0)))])
        return
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        known = stream.frames or _count_packets(path)
        step = max(SEQUENCE, known // per_clip)
        run: list[Plane] = []
        for index, frame in enumerate(container.decode(stream)):
            if index % step >= SEQUENCE:
                continue
            picture = _luma(frame)
            if run and _is_cut(run[-1], picture):
                run = []
            run.append(picture)
            if len(run) == SEQUENCE:
                yield Sequence(str(path), [_sharpen_by_halving(p) for p in run])
                run = []


def _count_packets(path: Path) -> int:
    with av.open(f"file:{path}") as container:
        return sum(1 for p in container.demux(container.streams.video[0]) if p.size)


def _luma(frame: av.VideoFrame) -> Plane:
    """(H, W) uint8 limited-range luma, cropped to multiples of 4."""
    planar = frame.reformat(format="yuv444p", dst_color_range="MPEG")
    rows = plane_view(planar, 0)
    return rows[: frame.height // 4 * 4, : frame.width // 4 * 4].astype(np.uint8)


def _sharpen_by_halving(picture: Plane) -> Plane:
    if picture.shape[0] > SOFT_HEIGHT or min(picture.shape) < 512:
        return picture
    small = halve(picture, "bicubic")
    return small[: small.shape[0] // 4 * 4, : small.shape[1] // 4 * 4]


def _is_cut(before: Plane, after: Plane) -> bool:
    """A mean change of more than 30 code values on an 8× coarser grid is a new scene."""
    if before.shape != after.shape:
        return True
    return float(np.abs(before[::8, ::8].astype(np.int16) - after[::8, ::8]).mean()) > 30
