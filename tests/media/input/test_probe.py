"""What a file is said to hold."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import flat_frame, write_cover_first, write_program, write_video

from upscale.errors import MediaError
from upscale.media.input.convert import ColorTags, Converter
from upscale.media.input.probe import MediaInfo, VideoInfo, probe
from upscale.media.input.reader import Reader
from upscale.media.input.siting import ChromaSiting, chroma_siting, measured_chroma_location


def video_of(info: MediaInfo) -> VideoInfo:
    assert info.video is not None
    return info.video


def test_streams_tags_and_chapters(tmp_path: Path) -> None:
    path = write_program(
        tmp_path / "p.mkv", subtitles=[(0.1, 0.5, "hello")], chapters=[(0, 1, "One"), (1, 2, "Two")]
    )
    info = probe(str(path))
    assert info.format == "matroska,webm"
    assert info.size == path.stat().st_size
    assert [(s.kind, s.codec) for s in info.streams] == [
        ("video", "h264"), ("audio", "mp2"), ("subtitle", "subrip"),
    ]  # fmt: skip
    sound = info.streams[1]
    assert (sound.sample_rate, sound.channels, sound.layout) == (48000, 1, "mono")
    assert [c["metadata"]["title"] for c in info.chapters] == ["One", "Two"]
    assert info.duration == pytest.approx(2.0, abs=0.1)
    video = video_of(info)
    assert (video.width, video.height, video.pix_fmt, video.bit_depth) == (64, 48, "yuv420p", 8)
    assert (video.rate, video.time_base, video.codec) == (25, Fraction(1, 1000), "h264")
    assert not video.interlaced
    assert not video.has_alpha
    assert info.streams[0].width == 64


def test_colour_depth_and_shape(tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        stream.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(-90)

    path = write_video(
        tmp_path / "h.mp4", range(6), codec="libx265", pix_fmt="yuv420p10le", prepare=prepare,
        options={"x265-params": "log-level=none:hdr10=1:repeat-headers=1:max-cll=1000,400:master-display="
                                "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"},
    )  # fmt: skip
    video = video_of(probe(str(path)))
    assert (video.pix_fmt, video.bit_depth, video.chroma_shift) == ("yuv420p10le", 10, (1, 1))
    assert (video.primaries, video.trc, video.matrix, video.color_range) == (9, 16, 9, 1)
    assert (video.sar, video.sar_set) == (Fraction(4, 3), True)
    assert video.rotation == 90
    assert video.display_matrix is not None
    assert struct.pack("<9i", *video.display_matrix)[:4] == bytes(4)
    assert video.hdr is not None
    assert (video.hdr.max_cll, video.hdr.max_fall) == (1000, 400)
    assert video.frames == 6


def test_nothing_set_is_said_so(tmp_path: Path) -> None:
    video = video_of(probe(str(write_video(tmp_path / "x.mkv", range(3), codec="ffv1"))))
    assert (video.sar, video.sar_set, video.rotation, video.display_matrix) == (1, False, 0, None)
    assert (video.primaries, video.trc, video.matrix, video.color_range) == (2, 2, 2, 0)
    assert (video.hdr, video.frames) == (None, 0)


@pytest.mark.parametrize(
    ("given", "location"),
    [({}, 1), ({"chroma_sample_location": "topleft"}, 3), ({"chroma_sample_location": "center"}, 2)],
)
def test_chroma_siting_is_read(tmp_path: Path, given: dict[str, str], location: int) -> None:
    path = write_video(tmp_path / "x.mkv", range(3), options=given)
    assert video_of(probe(str(path))).chroma_location == location


def test_siting_of_interlaced_frames(tmp_path: Path) -> None:
    """swscale enlarges marked fields one by one, which shifts the measurement vertically."""

    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.flags |= int(av.codec.context.Flags.interlaced_dct)

    path = write_video(tmp_path / "x.mkv", range(3), options={"x264-params": "tff=1"}, prepare=prepare)
    video = video_of(probe(str(path)))
    assert (video.interlaced, video.chroma_location) == (True, 1)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "location"),
    [("mjpeg", "yuvj420p", 2), ("mpeg2video", "yuv420p", 1), ("ffv1", "yuv420p", 1), ("ffv1", "yuv422p", 0)],
)
def test_siting_by_codec(tmp_path: Path, codec: str, pix_fmt: str, location: int) -> None:
    """JPEG is centred by its own standard; what says nothing counts as left."""
    path = write_video(tmp_path / "x.mkv", range(3), codec=codec, pix_fmt=pix_fmt, picture=_picture(pix_fmt))
    assert video_of(probe(str(path))).chroma_location == location


def _picture(pix_fmt: str) -> Callable[[int], av.VideoFrame]:
    return lambda n: av.VideoFrame(64, 48, pix_fmt)


def test_headers_that_name_the_siting(tmp_path: Path) -> None:
    """Centred by tag, and centred because nothing is said, look the same to swscale."""
    for options, named in (({}, False), ({"chroma_sample_location": "center"}, True)):
        for name in ("x.mp4", "x.ts"):
            reader = Reader(str(write_video(tmp_path / name, range(25), options=options)))
            assert reader.siting_named is named
            reader.close()
    assert measured_chroma_location(flat_frame((64, 48), (16, 128, 128))) == 2


def test_silent_headers_mean_left() -> None:
    """FFmpeg's H.264 decoder says nothing where there are no usability headers: swscale takes centre."""
    frame = flat_frame((64, 48), (16, 128, 128))
    assert chroma_siting(frame, "h264", named=False) == ChromaSiting(1, marked=False)
    assert chroma_siting(frame, "h264", named=True) == ChromaSiting(2)
    assert chroma_siting(frame, "mjpeg", named=False) == ChromaSiting(2)
    tags = ColorTags(color_range=0, primaries=2, trc=2, matrix=2)
    frame.pts, frame.time_base, frame.duration = 5, Fraction(1, 1000), 40
    marked = Converter(frame, tags, mark_left=True)(frame)
    assert measured_chroma_location(marked) == 1
    assert (marked.pts, Fraction(marked.time_base), marked.duration) == (5, Fraction(1, 1000), 40)


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    """Also where the cover is larger, or comes first."""
    path = write_cover_first(tmp_path / "c.mp4")
    info = probe(str(path))
    assert (video_of(info).width, video_of(info).codec) == (64, "h264")
    assert sorted((s.codec, s.is_cover) for s in info.streams) == [("h264", False), ("mjpeg", True)]


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mp2", rate=48000, layout="mono")
        container.start_encoding()
        packet = av.Packet(bytes(100))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1000)
        container.mux(packet)
    with pytest.raises(MediaError, match="no video stream"):
        probe(str(path))


def test_a_video_of_which_nothing_decodes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", range(3), codec="ffv1")
    with av.open(str(path)) as source, av.open(str(tmp_path / "bad.mkv"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.size:
                bad = av.Packet(b"\x55" * 40)
                bad.stream, bad.pts, bad.dts, bad.time_base = stream, packet.pts, packet.dts, packet.time_base
                container.mux(bad)
    with pytest.raises(MediaError, match="no frame could be decoded"):
        probe(str(tmp_path / "bad.mkv"))
