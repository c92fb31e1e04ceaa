"""Short moving sequences through real encoders and back: what the users' files went through."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

import av
import numpy as np

T = TypeVar("T")

#: Encoders beside libx264, and the options between which their quality is drawn (low, high).
#: A value is written as a whole number; all of these ranges lie where the damage can be seen.
OTHERS: dict[str, tuple[str, int, int, dict[str, str]]] = {
    "mpeg4": ("qmin", 4, 12, {}),
    "libvpx-vp9": ("crf", 36, 54, {"deadline": "realtime", "cpu-used": "7", "b": "0", "lag-in-frames": "8"}),
    "libsvtav1": ("crf", 38, 56, {"preset": "11", "svtav1-params": "lp=1"}),
}
#: Encoders of old files: between which quantisers (low, high) they are drawn for a name of
#: `upscale.train.config.DEGRADATIONS`. None of them smooths its blocks while decoding.
OLD: dict[str, tuple[tuple[str, ...], int, int]] = {
    "divx": (("mpeg4",), 6, 20),
    "h263": (("flv", "h263p"), 5, 16),
    "mpeg2": (("mpeg2video",), 6, 20),
    "wmv": (("wmv2", "msmpeg4"), 6, 18),
}
#: VP8's quantisers, of 0-63: as bad as the others are.
VP8 = (40, 58)
#: Share of DivX-like files with two, one and no B frames in a row.
B_FRAMES = {"2": 0.4, "1": 0.3, "0": 0.3}
#: What a twice compressed file went through first, and then; and its first size, in shares of the last.
FIRST = ("divx", "mpeg2", "wmv", "h263", "x264_24_30", "x264_30_36")
SECOND = ("x264_24_30", "x264_30_36", "divx", "vp8")
FIRST_SIZE = (0.7, 1.5)
#: libx264 presets and how often each is drawn; the slower ones make more of motion and so leave other
#: errors. Most files are made with the default, and a network cannot tell them from the others: what it
#: learns of "ultrafast", which does not deblock, it does to all.
PRESETS = {"ultrafast": 0.05, "veryfast": 0.15, "fast": 0.2, "medium": 0.6}
#: Frames between key frames: some short enough that a later I frame can be harvested.
INTERVALS = {5: 0.05, 12: 0.15, 48: 0.8}


@dataclass(frozen=True, slots=True)
class Coding:
    """One encoder and its settings.

    Attributes:
        codec: FFmpeg's encoder name.
        options: private options, as the encoder takes them.
        interval: frames between key frames.
    """

    codec: str
    options: dict[str, str] = field(default_factory=dict)
    interval: int = 48


def draw_x264(rng: np.random.Generator, low: float, high: float) -> Coding:
    """libx264 at a CRF between `low` and `high`, with a preset and key frame interval drawn at random."""
    preset, interval = _drawn(rng, PRESETS), _drawn(rng, INTERVALS)
    return Coding("libx264", {"crf": f"{rng.uniform(low, high):.1f}", "preset": preset}, interval)


def _drawn(rng: np.random.Generator, shares: dict[T, float]) -> T:
    """One of the keys, each as often as its share says."""
    return list(shares)[rng.choice(len(shares), p=list(shares.values()))]


def draw_other(rng: np.random.Generator) -> Coding:
    """One of `OTHERS` that this FFmpeg has, at a low bit rate; libx264 at CRF 34 where it has none."""
    there = [name for name in OTHERS if name in av.codecs_available]
    if not there:
        return Coding("libx264", {"crf": "34"})
    name = str(rng.choice(there))
    key, low, high, more = OTHERS[name]
    level = str(int(rng.integers(low, high + 1)))
    return Coding(name, {key: level, **({"qmax": level} if key == "qmin" else {}), **more})


def draw(name: str, rng: np.random.Generator) -> Coding:
    """One coding of a degradation with a codec, "twice" excepted; libx264 where this FFmpeg has none."""
    if name.startswith("x264_"):
        low, high = (float(v) for v in name.split("_")[1:])
        return draw_x264(rng, low, high)
    if name == "other":
        return draw_other(rng)
    if name == "vp8":
        if "libvpx" not in av.codecs_available:
            return draw_x264(rng, 30, 38)
        level = str(int(rng.integers(VP8[0], VP8[1] + 1)))
        fast = {"b": "100M", "deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"}
        return Coding("libvpx", {"crf": level, "qmin": level, "qmax": level, **fast})
    encoders, low, high = OLD[name]
    encoder, level = str(rng.choice(encoders)), str(int(rng.integers(low, high + 1)))
    if encoder not in av.codecs_available:
        return draw_x264(rng, 30, 38)
    options = {"qmin": level, "qmax": level}
    if name == "divx":
        options["bf"] = _drawn(rng, B_FRAMES)
    return Coding(encoder, options, _drawn(rng, INTERVALS))


def degrade(
    name: str, rng: np.random.Generator, sized: Callable[[float], list[av.VideoFrame]]
) -> list[av.VideoFrame]:
    """All frames of a sequence, small, as a degradation with a codec leaves them.

    Args:
        sized: the frames in this share of their final size.
    """
    if name != "twice":
        return encode_decode(sized(1.0), draw(name, rng))
    first = encode_decode(sized(rng.uniform(*FIRST_SIZE)), draw(str(rng.choice(FIRST)), rng))
    width, height = sized(1.0)[0].width, sized(1.0)[0].height
    again = [f.reformat(width, height, interpolation="BICUBIC") for f in first]
    return encode_decode(again, draw(str(rng.choice(SECOND)), rng))


def encode_decode(frames: list[av.VideoFrame], coding: Coding) -> list[av.VideoFrame]:
    """Encode a sequence and decode it again.

    Args:
        frames: equally large yuv420p frames with even sides.

    Returns:
        As many yuv420p frames, in order: I, P and B as the encoder decides. libx264 makes slightly
        different ones from call to call, on some processors even with one thread.

    Raises:
        av.FFmpegError: the encoder refuses this size or setting.
        ValueError: it gave back another number of frames.
    """
    os.environ.setdefault("SVT_LOG", "1")  # else SVT-AV1 writes its settings to stderr
    buffer = io.BytesIO()
    # NUT takes every codec, Matroska none of Flash's, H.263 and Windows Media.
    with av.open(buffer, "w", format="nut") as out:
        stream = out.add_stream(coding.codec, rate=25, options=dict(coding.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.gop_size = coding.interval
        stream.thread_count = 1
        if coding.codec == "mpeg4" and "bf" not in coding.options:
            stream.max_b_frames = 1
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            # Left to itself a frame that was decoded as I asks the encoder for a key frame.
            frame.pict_type = av.video.frame.PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as back:
        decoded = list(back.decode(video=0))
    if len(decoded) != len(frames):
        raise ValueError(f"{coding.codec} gave back {len(decoded)} of {len(frames)} frames")
    return [f if f.format.name == "yuv420p" else f.reformat(format="yuv420p") for f in decoded]
