"""Building blocks for synthesised media: frames with known content, and files with known packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from upscale.media.input.source import Source
from upscale.media.pixels.planes import plane_view


def flat_frame(size: tuple[int, int], values: Sequence[int], pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A planar frame whose planes each hold one value."""
    frame = av.VideoFrame(*size, pix_fmt)
    for index, value in enumerate(values):
        plane_view(frame, index)[...] = value
    return frame


def noise_frame(size: tuple[int, int], pix_fmt: str = "yuv420p", seed: int = 0) -> av.VideoFrame:
    """A planar frame of random samples over its whole range."""
    frame = av.VideoFrame(*size, pix_fmt)
    rng = np.random.default_rng(seed)
    limit = 1 << frame.format.components[0].bits
    for index in range(len(frame.planes)):
        view = plane_view(frame, index)
        view[...] = rng.integers(0, limit, view.shape, dtype=view.dtype)
    return frame


def write_video(
    path: Path,
    times: Iterable[int],
    *,
    time_base: Fraction = Fraction(1, 25),
    rate: Fraction | int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    durations: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    format: str | None = None,
    picture: Callable[[int], av.VideoFrame] | None = None,
    prepare: Callable[[av.VideoStream], None] | None = None,
) -> Path:
    """One video stream whose frames have exactly these pts; frame n is flat with luma 16 + 8 n."""
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        if durations is not None:
            stream.codec_context.flags |= int(av.codec.context.Flags.frame_duration)
        if prepare is not None:
            prepare(stream)
        for n, pts in enumerate(times):
            frame = picture(n) if picture else flat_frame(size, _flat_values(n, pix_fmt), pix_fmt)
            frame.pts, frame.time_base = pts, time_base
            if durations is not None:
                frame.duration = durations[n]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _flat_values(n: int, pix_fmt: str) -> list[int]:
    depth = av.VideoFormat(pix_fmt).components[0].bits
    luma = (16 + (8 * n) % 220) << (depth - 8)
    return [luma] if pix_fmt.startswith("gray") else [luma, 128 << (depth - 8), 128 << (depth - 8)]


def tone(seconds: float) -> list[av.AudioFrame]:
    """Silence at 48 kHz mono, in frames of 1024 samples."""
    frames = []
    for n in range(round(seconds * 48000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, n * 1024, Fraction(1, 48000)
        frames.append(frame)
    return frames


def write_program(
    path: Path,
    *,
    seconds: float = 2.0,
    subtitles: Sequence[tuple[float, float, str]] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    offset: float = 0.0,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """25 frames/s of H.264 with B-frames, MP2 sound, subtitles and chapters, all starting at `offset`."""
    with av.open(str(path), "w", format=format, container_options=container_options or {}) as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "2", "g": "25"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("mp2", rate=48000, layout="mono")
        text = container.add_stream("subrip") if subtitles else None
        if text is not None:
            text.codec_context.subtitle_header = b"[Script Info]\n"
        if chapters:
            container.set_chapters([_chapter(n, c) for n, c in enumerate(chapters)])
        packets: list[Any] = []
        for n in range(round(seconds * 25)):
            frame = flat_frame((64, 48), (16 + 4 * n % 220, 128, 128))
            frame.pts, frame.time_base = n, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for audio in tone(seconds):
            packets += sound.encode(audio)
        packets += sound.encode(None)
        for begin, end, words in subtitles:
            packet = av.Packet(words.encode())
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = round(begin * 1000)
            packet.duration = round((end - begin) * 1000)
            packets.append(packet)
        for packet in packets:
            ticks = round(Fraction(repr(offset)) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def _chapter(number: int, chapter: tuple[float, float, str]) -> dict[str, Any]:
    begin, end, title = chapter
    return {
        "id": number,
        "start": round(begin * 1000),
        "end": round(end * 1000),
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }


def decode_pts(path: Path) -> list[int | None]:
    """pts of every video frame by plain PyAV."""
    with av.open(str(path)) as container:
        return [frame.pts for frame in container.decode(video=0)]


def damage(path: Path) -> list[str]:
    """What reading a file to its end finds to be wrong with it."""
    with Source(str(path)) as source:
        for _ in source:
            pass
        return source.stats.damage()


def write_cover_first(path: Path) -> Path:
    """Sound and cover art, and a video behind them."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 320, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    picture = bytes(encoder.encode(av.VideoFrame(320, 320, "yuvj420p"))[0])
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 320, 320, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for n in range(5):
            frame = flat_frame((64, 48), (50, 128, 128))
            frame.pts, frame.time_base = n, Fraction(1, 25)
            packets = video.encode(frame)
            if n == 0:
                container.start_encoding()
                packet = av.Packet(picture)
                packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 25)
                container.mux(packet)
            container.mux(packets)
        container.mux(video.encode(None))
    return path


#: The time base of Matroska.
MS = Fraction(1, 1000)


def moving(n: int) -> av.VideoFrame:
    """A bar that moves between the two fields of each frame, on noise."""
    frame = noise_frame((96, 64), seed=1)
    for field in (0, 1):
        left = (8 * n + 4 * field) % 80
        plane_view(frame, 0)[field::2, left : left + 16] = 200
    return frame


def write_interlaced(path: Path, frames: int) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0", "g": "12", "x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = MS
        stream.codec_context.flags |= int(av.codec.context.Flags.interlaced_dct)
        for n in range(frames):
            frame = moving(n)
            frame.pts, frame.time_base = 40 * n, MS
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
