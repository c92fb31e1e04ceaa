"""A synthesised film with everything that an output must keep, and the passage through Source and Sink."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from upscale.media.input.hdr import HdrMetadata
from upscale.media.input.source import Source
from upscale.media.output.conversion import ASS_HEADER
from upscale.media.output.plan import Plan, make_plan
from upscale.media.output.sink import OutputReport, Sink
from upscale.options import Options

SIZE = (64, 48)
#: Video times in milliseconds: variable frame rate, starting late.
TIMES = (200, 240, 280, 400, 410, 500, 900, 940)
LAST_DURATION = 160
CUES = ((300, 400, "first"), (800, 150, "<i>second</i>"))
CHAPTERS = [
    {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 500, "end": 1100, "time_base": Fraction(1, 1000), "metadata": {"title": "Zwei"}},
]


def picture(n: int, size: tuple[int, int] = SIZE, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A flat frame whose luma says its number."""
    values = np.full((size[1], size[0], 3), 20 + 10 * n, np.uint8)
    return av.VideoFrame.from_ndarray(values, format="rgb24").reformat(format=pix_fmt)


def png(size: tuple[int, int] = (32, 24)) -> bytes:
    """A PNG picture."""
    context = av.CodecContext.create("png", "w")
    context.width, context.height = size
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 25)
    return b"".join(bytes(p) for p in [*context.encode(picture(3, size, "rgb24")), *context.encode(None)])


def tone(container: Any, stream: Any, frequency: int, seconds: float, rate: int = 48000) -> None:
    """Encode a sine into an audio stream from time 0."""
    wave = 8000 * np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * frequency / rate)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        container.mux(packet)


def write_rich(
    path: Path,
    *,
    audio: tuple[str, ...] = ("aac", "aac"),
    subtitle: str | None = "srt",
    font: bool = False,
    cover: bool = False,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    prepare: Any = None,
) -> Path:
    """Video at `TIMES`, audio tracks, subtitles, chapters, tags, and what else is asked for."""
    languages = ("ger", "fre", "spa")
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height = SIZE
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.flags |= int(av.codec.context.Flags.frame_duration)
        video.metadata["title"] = "picture"
        video.disposition = Disposition.default
        if prepare is not None:
            prepare(video)
        sounds = []
        for n, name in enumerate(audio):
            sound = out.add_stream(name, rate=48000, layout="mono")
            sound.bit_rate = 64000
            sound.metadata.update(language=languages[n], title=f"track {n}")
            sound.disposition = Disposition.default if n == 1 else Disposition.comment
            sounds.append(sound)
        text = None
        if subtitle is not None:
            text = out.add_stream(subtitle)
            text.codec_context.subtitle_header = ASS_HEADER
            text.metadata.update(language="swe", title="ord")
        if font:
            out.add_attachment("a font.ttf", "application/x-truetype-font", b"\0\1\0\0" + bytes(200))
        if cover and path.suffix == ".mkv":
            out.add_attachment("cover.png", "image/png", png())
        out.metadata.update(title="A Film", artist="Somebody", comment="a=b; c")
        out.set_chapters(CHAPTERS)
        out.start_encoding()
        _video(out, video, pix_fmt)
        for n, sound in enumerate(sounds):
            tone(out, sound, 300 + 200 * n, 1.0)
        if text is not None:
            _cues(out, text)
    return path


def _video(out: Any, stream: Any, pix_fmt: str) -> None:
    for n, pts in enumerate(TIMES):
        frame = picture(n, SIZE, pix_fmt)
        frame.pts, frame.time_base = pts, Fraction(1, 1000)
        frame.duration = (*TIMES[1:], TIMES[-1] + LAST_DURATION)[n] - pts
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _cues(out: Any, stream: Any) -> None:
    from av.subtitles.subtitle import SubtitleSet

    for begin, length, words in CUES:
        words = words.replace("<i>", "{\\i1}").replace("</i>", "{\\i0}")
        line = f"0,0,Default,,0,0,0,,{words}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(line, 0, length, 0))
        packet.pts = packet.dts = begin
        packet.duration, packet.time_base = length, Fraction(1, 1000)
        packet.stream = stream
        out.mux(packet)


def write_pcm(
    path: Path,
    codec: str = "pcm_s16le",
    rate: int = 44100,
    layout: str = "stereo",
    *,
    samples: int = 1920,
    seconds: float = 0.4,
) -> Path:
    """Ten frames of MPEG-4 and PCM in packets of `samples`. AVI stores no layout of channels."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = (*SIZE, "yuv420p")
        sound = out.add_stream(codec, rate=rate, layout=layout)
        out.start_encoding()
        for n in range(10):
            frame = picture(n)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        kind = sound.codec_context.codec.audio_formats[0].name
        resampler = av.AudioResampler(format=kind, layout=layout, rate=rate)
        for start in range(0, int(seconds * rate), samples):
            wave = np.arange(samples * sound.codec_context.layout.nb_channels) + start
            data = (8000 * np.sin(wave / 9)).astype(np.int16)
            chunk = av.AudioFrame.from_ndarray(data[None], format="s16", layout=layout)
            chunk.sample_rate, chunk.pts, chunk.time_base = rate, start, Fraction(1, rate)
            for ready in resampler.resample(chunk):
                out.mux(sound.encode(ready))
        out.mux(sound.encode(None))
    return path


def passage(
    path: Path | str, output: Path | str, options: Options | None = None, size: tuple[int, int] = (128, 96)
) -> tuple[Plan, OutputReport]:
    """Source → enlarged by swscale → Sink."""
    options = options or Options()
    with Source(str(path), options) as source:
        plan = make_plan(source.info, str(output), options, size, source.frame_format)
        with Sink(source, str(output), plan, options) as sink:
            for item in source:
                if isinstance(item, av.VideoFrame):
                    sink.frame(enlarged(item, size))
                else:
                    sink.packet(item)
            return plan, sink.finish()


def enlarged(frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """The frame in another size, with its times and tags."""
    large = frame.reformat(width=size[0], height=size[1])
    large.pts, large.time_base, large.duration = frame.pts, frame.time_base, frame.duration
    large.color_range, large.colorspace = frame.color_range, frame.colorspace
    large.color_primaries, large.color_trc = frame.color_primaries, frame.color_trc
    return large


def video_times(path: Path | str) -> list[tuple[Fraction, Fraction]]:
    """Exact (time, duration) of every video frame, in display order."""
    with av.open(str(path)) as container:
        video = next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        return sorted(
            (p.pts * Fraction(p.time_base), (p.duration or 0) * Fraction(p.time_base))
            for p in container.demux(video)
            if p.size and p.pts is not None
        )


def packet_sizes(path: Path | str, kind: str) -> list[list[tuple[Fraction, int]]]:
    """(time, size) of every packet of each stream of a kind."""
    with av.open(str(path)) as container:
        found: dict[int, list[tuple[Fraction, int]]] = {
            s.index: [] for s in container.streams if s.type == kind
        }
        for packet in container.demux():
            if packet.size and packet.stream.index in found:
                time = (packet.pts or 0) * Fraction(packet.time_base)
                found[packet.stream.index].append((time, packet.size))
    return list(found.values())


HDR = HdrMetadata(
    red=(Fraction(34000, 50000), Fraction(16000, 50000)),
    green=(Fraction(13250, 50000), Fraction(34500, 50000)),
    blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
    white=(Fraction(15635, 50000), Fraction(16450, 50000)),
    min_luminance=Fraction(1, 10000),
    max_luminance=Fraction(1000),
    max_cll=1000,
    max_fall=400,
)


def write_hdr(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        stream.options = {"x265-params": f"log-level=none:{HDR.x265_params()}", "preset": "ultrafast"}
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        for n in range(5):
            frame = picture(n, (64, 64), "yuv420p10le")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


#: ITU-T T.35 messages: closed captions (CTA-708: one pair of CEA-608 bytes), and HDR10+ (SMPTE ST 2094-40
#: application 4, one window, everything optional left out).
CAPTIONS = b"\xb5\x00\x31GA94\x03\x41\xff\xfc\x94\x2c\xff"
HDR10_PLUS = b"\xb5\x00\x3c\x00\x01\x04\x01\x40\x00\x0f\xa0" + bytes(24)


def sei(payload: bytes, codec: str) -> bytes:
    """A NAL unit with a registered user data message (payload type 4)."""
    header = {"libx264": b"\x06", "libx265": b"\x4e\x01"}[codec]
    body = bytes([4, len(payload)]) + payload + b"\x80"
    body = re.sub(b"\0\0(?=[\0-\3])", b"\0\0\3", body)  # emulation prevention
    return b"\0\0\0\1" + header + body


def write_with_sei(path: Path, payload: bytes, codec: str = "libx264") -> Path:
    pix_fmt = "yuv420p" if codec == "libx264" else "yuv420p10le"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        if codec == "libx265":
            stream.options = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0"}
        packets = []
        for n in range(10):
            frame = picture(n, (64, 64), pix_fmt)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            marked = av.Packet(sei(payload, codec) + bytes(packet))
            marked.pts, marked.dts, marked.time_base = packet.pts, packet.dts, packet.time_base
            marked.is_keyframe, marked.stream, marked.duration = packet.is_keyframe, stream, packet.duration
            out.mux(marked)
    return path
