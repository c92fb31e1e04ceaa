"""Moving sequences out of a folder of clips and stills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from upscale.media.input.address import as_file
from upscale.media.input.open import open_input
from upscale.media.pixels.planes import plane_view, write_plane
from upscale.train.codecs import draw_x264, encode_decode

STILLS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
CLIPS = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg",
    ".wmv", ".flv", ".ogv", ".3gp", ".y4m", ".gif", ".264", ".h264", ".265", ".hevc", ".mxf",
}  # fmt: skip

#: Frames in a moving sequence at least, and those of a still: enough for an encoder to use I, P and B frames.
SEQUENCE = 8
#: Most frames of a clip in one sequence: rate control and prediction that look ahead, as they do in a film.
LONGEST = 36
#: … and most pixels of all of them: larger frames come in shorter sequences, so as not to fill memory.
MOST_PIXELS = 200_000_000
#: Largest window of a sequence: what a 360p file shows of its 720p original.
WINDOW = (1280, 720)
#: Windows of a still that is larger than two of them, at different places; the first is cut from the
#: halved picture, which is sharper and shows more at once.
WINDOWS_PER_STILL = 3
#: Every third sequence of a clip up to this height is halved: most were compressed to fit, and are sharp
#: only then. The others stay as soft as they are.
SOFT_HEIGHT = 1088
HALVE_EVERY = 3
#: Share of the sharp sequences that are made as soft as many originals are, by a detour over a smaller
#: size, and share that are compressed, at these CRFs: 720p on the web has 1 to 3 Mbit/s. A network that
#: sees only crisp originals sharpens everything: on soft clips that costs more than it brings on crisp ones.
SOFTENED, COMPRESSED = 0.3, 0.55
ORIGINAL_CRF = (18, 29)
#: Share that get the grain of a small sensor, and then are compressed as its camera would.
GRAINY = 0.2
#: To what share of their size stills are reduced for crisp originals, as the literature's sets are.
CRISP = (0.5, 0.8)
#: Whole pixels of the sharp picture by which a still may pan a frame: half pixels of the small one.
PAN = 3


@dataclass(frozen=True, slots=True)
class Sequence:
    """`SEQUENCE` … `LONGEST` consecutive yuv420p limited-range frames, sides multiples of 8, ≤ `WINDOW`.

    Attributes:
        native: whether they are a clip's frames as they are, with the softness, the noise and the
            compression that real originals have.
    """

    source: str
    frames: list[av.VideoFrame]
    native: bool = False


def find_sources(folder: Path) -> list[Path]:
    """All stills and clips below `folder`, sorted by name, so that a run can be repeated."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in STILLS | CLIPS and p.is_file())


def read_sequences(
    path: Path, rng: np.random.Generator, per_clip: int = 10, *, crisp: bool = False
) -> Iterator[Sequence]:
    """Sequences of one file: a still pans, a clip gives up to `per_clip` runs of its frames.

    Args:
        crisp: whether originals are left as sharp as can be; else part of them is degraded.

    Raises:
        MediaError, UsageError, av.FFmpegError, ValueError: the file cannot be decoded.
    """
    degraded = _as_they_are if crisp else degrade_original
    if path.suffix.lower() in STILLS:
        with open_input(as_file(str(path)), stills=True) as container:
            picture = _planar(next(container.decode(video=0)))
        if crisp:
            picture = _reduced(picture, float(rng.uniform(*CRISP)))
        if picture.width * picture.height < 2 * WINDOW[0] * WINDOW[1]:
            yield Sequence(str(path), degraded(_pan(picture, rng), rng))
            return
        for index in range(WINDOWS_PER_STILL):
            yield Sequence(str(path), degraded(_pan(picture if index else _half(picture), rng), rng))
        return
    with open_input(as_file(str(path)), stills=True) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        known = stream.frames or _count_packets(path)
        longest = max(SEQUENCE, min(LONGEST, MOST_PIXELS // max(1, stream.width * stream.height)))
        runs = _runs(container.decode(stream), max(longest, known // per_clip), longest)
        for index, run in enumerate(runs):
            halve = crisp or index % HALVE_EVERY == 0
            pictures = [_half(p) if halve and _can_be_halved(p) else p for p in run]
            corner = _corner(pictures[0], rng, 0)
            frames = [_window(p, corner, _size(p, 0)) for p in pictures]
            native = not halve and min(run[0].width, run[0].height) <= SOFT_HEIGHT
            yield Sequence(str(path), degraded(frames, rng) if halve else frames, native)


def _runs(frames: Iterable[av.VideoFrame], step: int, longest: int) -> Iterator[list[av.VideoFrame]]:
    """`SEQUENCE` … `longest` consecutive pictures without a cut; every `step` frames another run begins."""
    run: list[av.VideoFrame] = []
    for index, frame in enumerate(frames):
        place = index % step
        picture = _planar(frame) if place < longest else None
        ends = picture is None or place == 0 or (bool(run) and _is_cut(run[-1], picture))
        if ends and run:
            if len(run) >= SEQUENCE:
                yield run
            run = []
        if picture is not None:
            run.append(picture)
    if len(run) >= SEQUENCE:
        yield run


def _can_be_halved(picture: av.VideoFrame) -> bool:
    return picture.height <= SOFT_HEIGHT and min(picture.width, picture.height) >= 512


def _count_packets(path: Path) -> int:
    with open_input(as_file(str(path)), stills=True) as container:
        return sum(1 for p in container.demux(container.streams.video[0]) if p.size)


def _planar(frame: av.VideoFrame) -> av.VideoFrame:
    """8-bit limited-range yuv444p: chroma at full resolution, so that any window can be cut."""
    return frame.reformat(format="yuv444p", dst_color_range="MPEG", dst_colorspace="ITU601")


def _pan(picture: av.VideoFrame, rng: np.random.Generator) -> list[av.VideoFrame]:
    """A window that wanders over a still, at a steady pace as a camera does."""
    room = PAN * SEQUENCE
    pace = rng.integers(-PAN, PAN + 1, 2)
    top, left = _corner(picture, rng, room)
    size = _size(picture, room)
    begin = np.array([top, left]) + np.where(pace < 0, room, 0)
    return [
        _window(picture, (int((begin + pace * n)[0]), int((begin + pace * n)[1])), size)
        for n in range(SEQUENCE)
    ]


def _size(picture: av.VideoFrame, room: int) -> tuple[int, int]:
    """(height, width) of the largest window that leaves `room` pixels to move in."""
    width, height = WINDOW if picture.width >= picture.height else WINDOW[::-1]
    return min(height, picture.height - room) // 8 * 8, min(width, picture.width - room) // 8 * 8


def _corner(picture: av.VideoFrame, rng: np.random.Generator, room: int) -> tuple[int, int]:
    height, width = _size(picture, room)
    if min(height, width) < 8:
        raise ValueError(f"too small: {picture.width}x{picture.height}")
    top = int(rng.integers(0, picture.height - room - height + 1))
    return top, int(rng.integers(0, picture.width - room - width + 1))


def _window(picture: av.VideoFrame, corner: tuple[int, int], size: tuple[int, int]) -> av.VideoFrame:
    """A yuv420p frame cut out of a yuv444p one."""
    rows, columns = (slice(c, c + s) for c, s in zip(corner, size, strict=True))
    planes = np.stack([plane_view(picture, k)[rows, columns] for k in range(3)]).astype(np.uint8)
    whole = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    return whole.reformat(format="yuv420p", interpolation="BICUBIC")


def degrade_original(frames: list[av.VideoFrame], rng: np.random.Generator) -> list[av.VideoFrame]:
    """The frames as an original in the wild might be: soft, compressed, both, most often neither."""
    soft, grainy = rng.random() < SOFTENED, rng.random() < GRAINY
    compressed = rng.random() < COMPRESSED or grainy
    width, height = frames[0].width, frames[0].height
    if soft:
        share = rng.uniform(0.5, 0.9)
        small = int(width * share) // 2 * 2, int(height * share) // 2 * 2
        frames = [
            f.reformat(*small, interpolation="BICUBIC").reformat(width, height, interpolation="BICUBIC")
            for f in frames
        ]
    if grainy:
        frames = _grainy(frames, rng)
    return encode_decode(frames, draw_x264(rng, *ORIGINAL_CRF)) if compressed else frames


def _as_they_are(frames: list[av.VideoFrame], rng: np.random.Generator) -> list[av.VideoFrame]:
    return frames


def _grainy(frames: list[av.VideoFrame], rng: np.random.Generator) -> list[av.VideoFrame]:
    """Copies with other noise on the luma of each, 1 to 5 code values strong and a pixel or two wide."""
    height, width = frames[0].height, frames[0].width
    noise = rng.standard_normal((height, width), np.float32)
    if rng.random() < 0.5:
        noise += np.roll(noise, 1, 0)
        noise += np.roll(noise, 1, 1)
        noise /= 2
    noise *= rng.uniform(1, 5)
    copies = []
    for frame in frames:
        moved = np.roll(noise, rng.integers(0, (height, width)), (0, 1))
        copy = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
        write_plane(copy, 0, np.clip(np.rint(plane_view(frame) + moved), 16, 235).astype(np.uint8))
        copies.append(copy)
    return copies


def _reduced(picture: av.VideoFrame, share: float) -> av.VideoFrame:
    """Smaller, but not so small that no crop fits into it."""
    share = max(share, 256 / min(picture.width, picture.height))
    if share >= 1:
        return picture
    width, height = (int(side * share) // 8 * 8 for side in (picture.width, picture.height))
    return picture.reformat(width=width, height=height, interpolation="BICUBIC")


def _half(picture: av.VideoFrame) -> av.VideoFrame:
    return picture.reformat(width=picture.width // 2, height=picture.height // 2, interpolation="BICUBIC")


def _is_cut(before: av.VideoFrame, after: av.VideoFrame) -> bool:
    """A mean change of more than 30 code values on an 8× coarser grid is a new scene."""
    a, b = (plane_view(f, 0)[::8, ::8].astype(np.int16) for f in (before, after))
    return a.shape != b.shape or float(np.abs(a - b).mean()) > 30
