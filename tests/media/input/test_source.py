"""Frames and packets of an input: all of them, once, at the right time."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import damage, decode_pts, flat_frame, noise_frame, write_cover_first, write_program, write_video

from upscale.errors import UsageError
from upscale.media.input.bitstream import is_hidden
from upscale.media.input.convert import ColorTags, Converter, processing_format
from upscale.media.input.parts import frame_times
from upscale.media.input.reader import Reader
from upscale.media.input.source import Source
from upscale.media.pixels.planes import plane_view
from upscale.options import Options

MS = Fraction(1, 1000)


def read(path: Path | str, **options: Any) -> tuple[Source, list[av.VideoFrame], list[av.Packet]]:
    with Source(str(path), Options(**options)) as source:
        items = list(source)
        frames = [i for i in items if isinstance(i, av.VideoFrame)]
        return source, frames, [i for i in items if not isinstance(i, av.VideoFrame)]


def seconds(packets: list[av.Packet], index: int) -> list[float]:
    return [float(p.pts * p.time_base) for p in packets if p.stream_index == index]


def test_every_frame_of_a_stream_with_b_frames(tmp_path: Path) -> None:
    """Without the flush packet the last frames of a B-frame stream are lost, silently."""
    path = write_video(tmp_path / "x.mkv", range(250), options={"bf": "3", "preset": "ultrafast"})
    source, frames, _ = read(path)
    assert [f.pts for f in frames] == [40 * n for n in range(250)]
    assert source.stats.frames == 250
    assert source.stats.damage() == []


@pytest.mark.parametrize(("name", "b_frames"), [("v.mkv", "2"), ("v.mp4", "0")])
def test_variable_frame_times_to_the_tick(tmp_path: Path, name: str, b_frames: str) -> None:
    """And the last frame's duration, which no later frame tells (nor does MP4, with B-frames)."""
    times, durations = [0, 17, 50, 51, 900, 2600], [17, 33, 1, 849, 1700, 640]
    path = write_video(tmp_path / name, times, time_base=MS, durations=durations, options={"bf": b_frames})
    _, frames, _ = read(path)
    base = Fraction(frames[0].time_base)
    assert [f.pts * base for f in frames] == [t * MS for t in times]
    assert [f.duration * base for f in frames] == [d * MS for d in durations]


def test_a_transport_streams_clock_starts_at_zero_for_all_streams(tmp_path: Path) -> None:
    path = write_program(tmp_path / "p.ts", offset=6.4)
    source, frames, packets = read(path)
    assert source.info.start == pytest.approx(6.39, abs=0.02)
    sound = seconds(packets, 1)
    # The encoder's lead-in makes sound begin 10.02 ms before the video, and that must stay.
    assert sound[0] == 0
    assert float(frames[0].pts * frames[0].time_base) == pytest.approx(902 / 90000, abs=1e-9)
    assert len(frames) == 50


def test_an_mp4_that_starts_late_stays_late(tmp_path: Path) -> None:
    path = write_program(tmp_path / "p.mp4", offset=5.0)
    _, frames, packets = read(path)
    assert float(frames[0].pts * frames[0].time_base) == pytest.approx(5.0)
    assert [f.pts for f in frames] == decode_pts(path)
    assert seconds(packets, 1)[-1] == pytest.approx(5.0 + 1.96, abs=0.05)


SUBTITLES = [(0.1, 0.6, "gone"), (0.7, 1.5, "over the start"), (1.6, 1.9, "inside"), (2.6, 2.9, "behind")]


def test_a_part(tmp_path: Path) -> None:
    chapters = [(0, 1.2, "A"), (1.2, 2.4, "B"), (2.4, 3, "C")]
    path = write_program(tmp_path / "p.mkv", seconds=3, subtitles=SUBTITLES, chapters=chapters)
    source, frames, packets = read(path, start=1.0, stop=2.0)
    first = float(frames[0].pts * frames[0].time_base)
    origin = source.info.start
    assert 0 <= first < 0.04
    assert len(frames) == 25
    # Frame 25 of the input (or the next one) is the first: flat pictures tell which it is.
    assert int(plane_view(frames[0], 0)[24, 32]) - (16 + 4 * 25) in range(6)
    assert sum(f.duration * f.time_base for f in frames) == pytest.approx(1.0, abs=0.03)
    sound = seconds(packets, 1)
    assert 0 <= sound[0] < 0.025
    assert 0.95 < sound[-1] < 1.0
    texts = [p for p in packets if p.stream_index == 2]
    assert [bytes(p) for p in texts] == [b"over the start", b"inside"]
    over = texts[0]
    assert over.pts == 0
    assert float(over.duration * over.time_base) == pytest.approx(0.5 - origin, abs=0.01)
    assert [c["metadata"]["title"] for c in source.chapters] == ["A", "B"]
    assert source.clip_duration == pytest.approx(1.0)
    assert source.estimated_frames == 25
    assert source.stats.damage() == []


def test_a_part_is_exact_where_it_is_sought(tmp_path: Path) -> None:
    """Late parts of Matroska and MP4 are sought: the frames must be those of decoding from the start."""
    path = write_video(tmp_path / "x.mkv", range(0, 40000, 40), time_base=MS, options={"g": "50", "bf": "2"})
    _, whole, _ = read(path)
    source, frames, _ = read(path, start=30.0, stop=31.0)
    assert source._reader.stats.packets < 500
    assert [f.pts for f in frames] == [40 * n for n in range(25)]
    for part, full in zip(frames, whole[750:775], strict=True):
        assert np.array_equal(plane_view(part, 0), plane_view(full, 0))


def test_a_part_behind_the_end(tmp_path: Path) -> None:
    path = write_program(tmp_path / "p.mkv")
    with pytest.raises(UsageError, match="behind the end"):
        Source(str(path), Options(start=9.0))


def test_a_part_between_two_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", [0, 1000], time_base=MS)
    with pytest.raises(UsageError, match="no frame lies between"):
        read(path, start=0.2, stop=0.8)


def test_selecting_streams(tmp_path: Path) -> None:
    path = write_program(tmp_path / "p.mkv", subtitles=SUBTITLES[:3])
    with Source(str(path)) as source:
        assert [s.index for s in source.streams_to_copy()] == [1, 2]
        source.select({2})
        assert {i.stream_index for i in source if isinstance(i, av.Packet)} == {2}
    with Source(str(path), Options(audio=False)) as source:
        assert [s.index for s in source.streams_to_copy()] == [2]
        assert {i.stream_index for i in source if isinstance(i, av.Packet)} == {2}
    with Source(str(path), Options(subtitles=False)) as source:
        source.select({1, 2})
        assert {i.stream_index for i in source if isinstance(i, av.Packet)} == {1}


def test_packets_are_all_delivered_untouched(tmp_path: Path) -> None:
    path = write_program(tmp_path / "p.mkv", subtitles=SUBTITLES[:3])
    with av.open(str(path)) as container:
        plain = [(p.stream_index, p.pts, p.dts, bytes(p)) for p in container.demux() if p.size]
    _, _, packets = read(path)
    assert [(p.stream_index, p.pts, p.dts, bytes(p)) for p in packets] == [p for p in plain if p[0] != 0]


SCRIPT = """
import sys
from upscale.media.input.bitstream import is_hidden
from upscale.media.input.convert import ColorTags, Converter, processing_format
from upscale.media.input.parts import frame_times
from upscale.media.input.reader import Reader
from upscale.media.input.source import Source
with Source("-") as source:
    counts = {}
    for item in source:
        counts[type(item).__name__] = counts.get(type(item).__name__, 0) + 1
print(source.info.size, sorted(counts.items()))
"""


def piped(path: Path) -> subprocess.CompletedProcess[str]:
    """Run `SCRIPT` with the file coming through a true pipe, which cannot be sought."""
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=path.read_bytes(),
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    out, err = result.stdout.decode(), result.stderr.decode()
    return subprocess.CompletedProcess(result.args, result.returncode, out, err)


@pytest.mark.parametrize("name", ["p.mkv", "p.ts"])
def test_a_pipe_is_read_once_and_whole(tmp_path: Path, name: str) -> None:
    """Looking at the first frames must not lose them, or the packets between them."""
    path = write_program(tmp_path / name)
    _, frames, packets = read(path)
    result = piped(path)
    assert result.stderr == ""
    expected = [("Packet", len(packets)), ("VideoFrame", len(frames))]
    assert result.stdout.strip() == f"None {expected}"


def test_an_mp4_with_its_index_at_the_end_cannot_be_piped(tmp_path: Path) -> None:
    """FFmpeg opens it, skips to the index, and cannot come back for the pictures."""
    path = write_video(
        tmp_path / "x.mp4", range(40), size=(320, 240), picture=lambda n: noise_frame((320, 240), seed=n)
    )
    assert "index is at its end" in piped(path).stderr


def test_raw_h264_has_a_clock_of_its_own(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.h264", range(20), format="h264", options={"bf": "2"})
    assert decode_pts(path) == [None] * 20
    source, frames, _ = read(path)
    assert [float(f.pts * f.time_base) for f in frames] == pytest.approx([n / 25 for n in range(20)])
    assert source.stats.adjusted_timestamps == 0


def test_a_clock_that_starts_anew_is_joined(tmp_path: Path) -> None:
    """Two recordings in one transport stream: frame 11 must not come a tick after frame 10."""
    a = write_program(tmp_path / "a.ts", seconds=2)
    b = write_program(tmp_path / "b.ts", seconds=1)
    joined = tmp_path / "ab.ts"
    joined.write_bytes(a.read_bytes() + b.read_bytes())
    source, frames, packets = read(joined)
    steps = Counter(b.pts - a.pts for a, b in pairwise(frames))
    assert len(frames) == 75
    assert steps.total() - steps[3600] <= 1
    assert max(steps) < 9000
    assert source.stats.adjusted_timestamps == 0
    assert any("timestamps restart" in note for note in source.notes)
    sound = seconds(packets, 1)
    assert sound == sorted(sound)
    assert sound[-1] == pytest.approx(3.0, abs=0.15)


class LateStream:
    """A container whose demuxer ends as PyAV's does if a stream appeared after opening."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self.container, self.format = container, container.format

    def demux(self) -> Iterator[av.Packet]:
        yield from (p for p in self.container.demux() if p.size)
        raise IndexError("list index out of range")

    def close(self) -> None:
        self.container.close()


def test_streams_that_appear_late(tmp_path: Path) -> None:
    """PyAV raises IndexError at the end of such a file, perhaps before the decoder was flushed."""
    path = write_video(tmp_path / "x.ts", range(30), options={"bf": "2"})
    reader = Reader(str(path))
    reader.container = LateStream(reader.container)  # type: ignore[assignment]
    reader._ahead.clear()
    reader._items = reader._read()
    # The first packets were read when it was opened, and one frame for each of them is gone.
    assert len(list(reader)) >= 30 - len(reader.first) - 1
    assert reader.stats.decode_errors == 0
    reader.close()


def test_a_picture_that_changes_its_size_is_scaled_to_the_largest(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a.ts", range(5), codec="mpeg2video")
    large = write_video(tmp_path / "b.ts", range(5, 10), codec="mpeg2video", size=(128, 96))
    joined = tmp_path / "ab.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    source, frames, _ = read(joined)
    assert {(f.width, f.height, f.format.name) for f in frames} == {(128, 96, "yuv420p")}
    assert len(frames) == len(decode_pts(joined))  # FFmpeg's parser may lose one at the joint
    assert frames[-1].pts > frames[0].pts + 7 * 3600
    first, then = source.notes
    assert first == "the picture begins as 64x48 at 0.00 s: scaled to 128x96"
    assert then.startswith("the picture changes to 128x96 at 0.")


def rgb_picture(n: int) -> av.VideoFrame:
    pixels = np.full((48, 64, 3), (0, 255, 1), np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def test_rgb_becomes_bt709_and_says_so(tmp_path: Path) -> None:
    """FFmpeg's default matrix for RGB is BT.601: greens would shift on every HD screen."""
    path = write_video(
        tmp_path / "x.mkv",
        range(3),
        codec="libx264rgb",
        pix_fmt="rgb24",
        picture=rgb_picture,
        options={"qp": "0"},
    )
    source, frames, _ = read(path)
    assert source.frame_format == "yuv444p"
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)
    got = [int(plane_view(frames[0], i)[20, 20]) for i in range(3)]
    assert np.abs(np.array(got) - (173, 42, 26)).max() <= 1
    video = source.info.video
    assert video is not None
    assert (video.matrix, video.color_range, video.chroma_shift) == (1, 1, (0, 0))


def test_full_range_jpeg_formats_keep_their_samples(tmp_path: Path) -> None:
    def full_range(stream: av.VideoStream) -> None:
        stream.codec_context.color_range = 2

    path = write_video(
        tmp_path / "x.mkv", range(3), pix_fmt="yuvj420p", options={"qp": "0"}, prepare=full_range,
        picture=lambda n: noise_frame((64, 48), "yuvj420p", n),
    )  # fmt: skip
    with av.open(str(path)) as container:
        plain = [[plane_view(f, i).copy() for i in range(3)] for f in container.decode(video=0)]
    source, frames, _ = read(path)
    assert source.frame_format == "yuv420p"
    assert {f.color_range for f in frames} == {2}
    for frame, planes in zip(frames, plain, strict=True):
        assert all(np.array_equal(plane_view(frame, i), planes[i]) for i in range(3))


@pytest.mark.parametrize(
    ("pix_fmt", "expected"),
    [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("p010le", "yuv420p10le"), ("yuv420p10le", "yuv420p10le"),
     ("gray", "gray"), ("gray10be", "gray10le"), ("yuv444p12be", "yuv444p12le"), ("yuv411p", "yuv422p"),
     ("yuva420p", "yuv420p"), ("rgb48le", "yuv444p16le"), ("gbrp10le", "yuv444p10le"), ("bgra", "yuv444p"),
     ("ya8", "gray"), ("rgb565le", "yuv444p"), ("monow", "gray"), ("pal8", "yuv444p"),
     ("xyz12le", "yuv444p12le"), ("nv24", "yuv444p"), ("p416le", "yuv444p16le"), ("y210le", "yuv422p10le"),
     ("yuv410p", "yuv420p"), ("yuv440p", "yuv444p"), ("yuv420p9le", "yuv420p9le"),
     ("gbrpf32le", "yuv444p16le")],
)  # fmt: skip
def test_processing_formats(pix_fmt: str, expected: str) -> None:
    assert processing_format(av.VideoFormat(pix_fmt, 64, 48)) == expected


@pytest.mark.parametrize(
    ("pix_fmt", "planar"), [("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("yuyv422", "yuv422p")]
)
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_repacked_formats_keep_their_samples(pix_fmt: str, planar: str, color_range: int) -> None:
    original = noise_frame((64, 48), planar)
    packed = original.reformat(format=pix_fmt)
    packed.color_range, packed.colorspace = color_range, 5
    packed.pts, packed.time_base, packed.duration = 7, MS, 40
    tags = ColorTags(color_range=color_range, primaries=2, trc=2, matrix=5)
    frame = Converter(packed, tags)(packed)
    assert frame.format.name == planar
    assert (frame.pts, frame.duration, frame.color_range, frame.colorspace) == (7, 40, color_range, 5)
    assert all(np.array_equal(plane_view(frame, i), plane_view(original, i)) for i in range(3))


def test_raw_nv12_is_read(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "x.nut", range(3), codec="rawvideo", pix_fmt="nv12",
        picture=lambda n: flat_frame((64, 48), (101, 77, 203)).reformat(format="nv12"),
    )  # fmt: skip
    source, frames, _ = read(path)
    assert (len(frames), source.frame_format) == (3, "yuv420p")
    assert [int(plane_view(frames[1], i)[10, 10]) for i in range(3)] == [101, 77, 203]


def test_transparency_is_dropped_with_a_note(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "x.mkv", range(3), codec="ffv1", pix_fmt="yuva420p",
        picture=lambda n: flat_frame((64, 48), (90, 100, 110, 0), "yuva420p"),
    )  # fmt: skip
    source, frames, _ = read(path)
    assert source.notes == ["transparency is dropped"]
    assert [int(plane_view(frames[0], i)[5, 5]) for i in range(3)] == [90, 100, 110]


def test_animated_pictures_are_videos(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "x.gif", range(0, 100, 10), time_base=Fraction(1, 100), codec="gif", pix_fmt="rgb8",
        picture=lambda n: flat_frame((64, 48), (20 * n, 128, 128)).reformat(format="rgb8"),
    )  # fmt: skip
    source, frames, _ = read(path)
    assert (len(frames), source.frame_format) == (10, "yuv444p")


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    path = write_cover_first(tmp_path / "c.mp4")
    with Source(str(path)) as source:
        (cover,) = [s.index for s in source.info.streams if s.is_cover]
        assert cover != source.video.index
        items = list(source)
        (picture,) = [bytes(i) for i in items if not isinstance(i, av.VideoFrame) and i.stream_index == cover]
        assert picture.startswith(b"\xff\xd8")
        assert sum(isinstance(i, av.VideoFrame) for i in items) == 5


def test_tags_are_on_every_frame(tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1

    _, frames, _ = read(write_video(tmp_path / "x.mp4", range(5), prepare=prepare))
    assert {(f.color_primaries, f.color_trc, f.colorspace, f.color_range) for f in frames} == {(1, 1, 1, 1)}


def test_a_file_cut_short_is_reported(tmp_path: Path) -> None:
    """Matroska ends without an error: only the promised duration tells."""
    path = write_video(tmp_path / "x.mkv", range(0, 10000, 40), time_base=MS, codec="ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source, frames, _ = read(path)
    assert 60 < len(frames) < 190
    assert source.stats.missing_seconds > 2
    assert any("early" in text for text in source.stats.damage())


def test_a_cut_mp4_names_the_missing_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(50):
            frame = noise_frame((64, 48), seed=n)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source, frames, _ = read(path)
    assert 5 < len(frames) < 45
    assert source.stats.expected_frames == 50
    assert source.stats.damage()[0] == f"{len(frames)} of 50 frames"


def test_a_damaged_middle_is_counted_not_fatal(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "x.mkv", range(60), codec="ffv1", picture=lambda n: noise_frame((64, 48), seed=n)
    )
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 12000, 7):
        data[at] ^= 0x5A
    path.write_bytes(data)
    source, frames, _ = read(path)
    assert len(frames) > 20
    assert source.stats.damage()


@pytest.mark.parametrize(
    "name", ["bbb_anamorphic_800x640_sar64x45.mp4", "bee_360p.mp4", "keyboard_phone_rotated_360p.mp4"]
)
def test_real_clips_agree_with_plain_decoding(samples: Path, name: str) -> None:
    source, frames, packets = read(samples / name)
    with av.open(str(samples / name)) as container:
        plain = Counter(p.stream_index for p in container.demux() if p.size and p.stream.type != "video")
    assert [f.pts for f in frames] == decode_pts(samples / name)
    assert Counter(p.stream_index for p in packets) == plain
    assert source.stats.damage() == []
    assert source.notes == []


def times_of(frames: list[av.VideoFrame]) -> list[int]:
    return [round(f.pts * Fraction(f.time_base) * 25) for f in frames]


def test_b_frames_in_avi_come_at_ffmpegs_best_effort_times(tmp_path: Path) -> None:
    """Guards: AVI has decoding times only; a hole after frame 1, all others a frame late against the sound.

    FFmpeg's program shows each frame at the dts of the packet that completed it (guess_correct_pts).
    """
    path = write_video(tmp_path / "x.avi", range(30), options={"bf": "2", "b_strategy": "0", "g": "15"})
    source, frames, _ = read(path)
    assert times_of(frames) == list(range(2, 32))
    assert {f.duration for f in frames} == {1}
    assert (source.stats.adjusted_timestamps, source.stats.damage()) == (0, [])


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_files_whose_display_times_are_decoding_times_have_even_steps(name: str, tmp_path: Path) -> None:
    """Guards: VC-1 and SVQ3 in MP4, WMV with B-frames: pairs of frames were 0 to 2 ms apart."""
    good = write_video(tmp_path / "good.mkv", range(30), options={"bf": "2", "b_strategy": "0"})
    path = tmp_path / name
    with av.open(str(good)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for n, packet in enumerate(p for p in given.demux(video=0) if p.size):
            packet.pts = packet.dts = 40 * n
            packet.stream, packet.time_base = stream, MS
            out.mux(packet)
    source, frames, _ = read(path)
    times = times_of(frames)
    assert len(times) == 30
    assert {b - a for a, b in pairwise(times)} == {1}
    assert (source.stats.adjusted_timestamps, source.stats.damage()) == (0, [])
    assert frame_times(str(path), Options())[1] is False  # of segments: only their number is sure


def test_empty_chunks_of_avi_show_the_last_frame_again(tmp_path: Path) -> None:
    """Guards: "45 of 51 frames", exit code 3, for a capture whose dropped frames are chunks of 0 bytes."""
    at = [0, 2, 3, 4, 6, 9, 10, 11, 12, *range(20, 40)]
    path = write_video(tmp_path / "x.avi", at, codec="mpeg4")
    source, frames, _ = read(path)
    assert source.info_video.frames == 40
    assert times_of(frames) == at
    assert source.stats.damage() == []
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"idx1")])
    assert damage(path) == []  # their places in time tell, too
    path.write_bytes(data[: data.index(b"idx1") - 1200])
    assert damage(path)


def test_hidden_frames_are_not_missed(tmp_path: Path) -> None:
    """Guards: "90 of 95 frames" for VP8 with alt-ref frames, which are decoded but never shown."""
    shown = write_video(tmp_path / "shown.ivf", range(30), codec="libvpx", options={"b": "200k"})
    path = tmp_path / "x.ivf"
    with av.open(str(shown)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        number = 0
        for packet in (p for p in given.demux(video=0) if p.size):
            hidden = av.Packet(bytes([bytes(packet)[0] & ~0x10]) + bytes(packet)[1:])
            for copy in [packet, hidden] if packet.pts % 10 == 5 else [packet]:
                copy.stream, copy.pts, copy.dts = stream, number, number
                out.mux(copy)
                number += 1
    source, frames, _ = read(path)
    assert source.info_video.frames == 33
    assert len(frames) == 30
    assert source.stats.damage() == []


@pytest.mark.parametrize(
    ("codec", "data", "hidden"),
    [
        ("vp8", "10", False), ("vp8", "00", True), ("h264", "00", False),
        ("vp9", "8200", False), ("vp9", "8000", True), ("vp9", "8800", False), ("vp9", "80c1", False),
        ("vp9", "b100", False), ("vp9", "b000", True), ("vp9", "b400", False),
    ],
)  # fmt: skip
def test_what_a_header_says_about_showing(codec: str, data: str, hidden: bool) -> None:
    """RFC 6386, 9.1, and VP9, 6.2: show_frame; also profile 3, frames shown again, superframes."""
    assert is_hidden(codec, av.Packet(bytes.fromhex(data))) == hidden


def test_a_stream_begins_with_its_first_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a job's output was thrown away because its first frame lay before the container's start."""

    class LateStart:
        def __init__(self, container: Any) -> None:
            self._container = container
            self.start_time = container.start_time + 26_000

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

    monkeypatch.setattr(Source, "container", property(lambda self: LateStart(self._reader.container)))
    path = write_program(tmp_path / "p.ts", seconds=1, offset=6.4)
    assert read(path)[1][0].pts == 0


def test_a_stream_without_a_length_may_end_by_closing_the_connection(tmp_path: Path) -> None:
    """Guards: PyAV 19 says None, not 0, for the size of what has none."""
    reader = Reader(str(write_video(tmp_path / "x.ts", range(5))))

    class Endless:
        size, duration = None, None

    held, reader.container = reader.container, Endless()  # type: ignore[assignment]
    reader.address = replace(reader.address, live=True)
    reader._broke(av.OSError(5, "Input/output error"))
    assert (reader.stats.broken, reader.stats.decode_errors) == ("", 0)
    Endless.duration = 5_000_000
    reader._broke(av.OSError(5, "Input/output error"))
    assert reader.stats.broken == "broke off: Input/output error"
    reader.container = held
    reader.close()


def test_the_last_frame_of_a_cut_stream_is_shown_as_long_as_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: an MPEG-2 decoder that is flushed repeats a time: a frame was shown for a tick."""
    path = write_video(tmp_path / "x.mkv", range(5), codec="ffv1")
    decode = Reader._decode

    def repeating(self: Reader, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        frames = decode(self, packet)
        for frame in frames:
            if frame.pts == 160:
                frame.pts, frame.dts = 120, None
        return frames

    monkeypatch.setattr(Reader, "_decode", repeating)
    source, frames, _ = read(path)
    assert [(f.pts, f.duration) for f in frames] == [(40 * n, 40) for n in range(5)]
    assert source.stats.adjusted_timestamps == 0


def test_empty_chunks_at_the_end_of_avi_are_not_missed(tmp_path: Path) -> None:
    """A capture that ends with a still picture: "ends 2.0 s early" was said of what lies in the file."""
    path = write_video(tmp_path / "x.avi", range(25), codec="mpeg4")
    data, more = bytearray(path.read_bytes()), 50
    index = data.index(b"idx1")
    movie = data.index(b"movi") - 8
    for place in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):  # frames, length
        struct.pack_into("<I", data, place, 25 + more)
    for place, size in ((4, 24 * more), (movie + 4, 8 * more), (index + 4, 16 * more)):
        struct.pack_into("<I", data, place, struct.unpack_from("<I", data, place)[0] + size)
    entries = b"".join(struct.pack("<4s3I", b"00dc", 0, index - movie - 8 + 8 * n, 0) for n in range(more))
    end = index + 8 + 16 * 25
    path.write_bytes(data[:index] + b"00dc\0\0\0\0" * more + data[index:end] + entries + data[end:])
    source, frames, _ = read(path)
    assert (source.info_video.frames, source.info.duration, len(frames)) == (75, 3.0, 25)
    assert source.stats.damage() == []
