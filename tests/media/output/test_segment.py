"""Segments of a long job: encoded apart, joined without loss into what one run would have written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from rich_clip import TIMES, enlarged, video_times, write_rich

from upscale.errors import OutputError
from upscale.media.input.source import Source
from upscale.media.output.plan import Plan, make_plan
from upscale.media.output.segment import SegmentWriter, can_be_joined, extradata, open_segment, packets
from upscale.media.output.sink import Sink
from upscale.media.output.times import PacketTimes, restamp
from upscale.options import Options

SIZE = (128, 96)


def segments(source: Source, plan: Plan, folder: Path) -> list[tuple[str, PacketTimes]]:
    """Three frames in each."""
    frames = [enlarged(f, SIZE) for f in source if isinstance(f, av.VideoFrame)]
    made = []
    for start in range(0, len(frames), 3):
        writer = SegmentWriter(str(folder / f"{start}.mkv"), plan, source.info_video)
        for frame in frames[start : start + 3]:
            writer.frame(frame)
        made.append((writer.path, writer.finish()))
    return made


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
def test_joined_segments(codec: str, target: str, tmp_path: Path) -> None:
    """All frames at their times; MP4 and MOV with their index in front, as in one run."""
    if (codec, target) == ("libsvtav1", "mov"):
        pytest.skip("MOV holds no AV1")
    path = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None)
    output = tmp_path / f"out.{target}"
    options = Options(codec=codec)
    with Source(str(path), options) as source:
        plan = make_plan(source.info, str(output), options, SIZE, source.frame_format)
        assert can_be_joined(plan)
        parts = segments(source, plan, tmp_path)
    assert {extradata(name) for name, _ in parts} == {extradata(parts[0][0])}
    with Source(str(path), options) as source:
        with open_segment(parts[0][0]) as first:
            sink = Sink(source, str(output), plan, options, encoded=first.streams.video[0])
        with sink:
            times = restamp((t for _, t in parts), max(t.reorder for _, t in parts))
            for name, _ in parts:
                for packet in packets(name):
                    sink.encoded_packet(packet, next(times))
            assert sink.finish().frames == len(TIMES)
    assert [t for t, _ in video_times(output)] == [Fraction(t, 1000) for t in TIMES]
    if target != "mkv":
        data = output.read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_an_aborted_segment_leaves_nothing(tmp_path: Path) -> None:
    path = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None)
    with Source(str(path), Options()) as source:
        plan = make_plan(source.info, "out.mkv", Options(), SIZE, source.frame_format)
        writer = SegmentWriter(str(tmp_path / "s.mkv"), plan, source.info_video)
        writer.abort()
        writer.abort()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def test_links_and_other_files_are_no_segments(tmp_path: Path) -> None:
    (tmp_path / "link.mkv").symlink_to(tmp_path / "in.mkv")
    (tmp_path / "bad.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    with pytest.raises(OutputError, match="a segment is a link"), open_segment(str(tmp_path / "link.mkv")):
        pass
    with pytest.raises(OutputError, match="a segment cannot be read"):
        extradata(str(tmp_path / "bad.mkv"))


@pytest.mark.parametrize(
    ("output", "codec", "possible"),
    [
        ("out.mp4", None, True),
        ("out.avi", "libx264", False),
        ("out.ts", "mpeg4", False),
        ("out.gif", None, False),
    ],
)
def test_what_cannot_go_through_matroska(
    output: str, codec: str | None, possible: bool, tmp_path: Path
) -> None:
    path = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None)
    with Source(str(path), Options()) as source:
        frame_format = "rgb24" if output.endswith("gif") else source.frame_format
        plan = make_plan(source.info, output, Options(codec=codec), SIZE, frame_format)
    assert can_be_joined(plan) == possible


def test_few_frames_of_x265_have_true_decoding_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x265, issue 781: below three frames dts is what lay on the heap; a muxer refuses it, now and then."""
    path, options = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None), Options(codec="libx265")
    with Source(str(path), options) as source:
        plan = make_plan(source.info, str(tmp_path / "out.mkv"), options, SIZE, source.frame_format)
        frames = [enlarged(f, SIZE) for f in source if isinstance(f, av.VideoFrame)]
        for count in (1, 2):
            writer = SegmentWriter(str(tmp_path / f"{count}.mkv"), plan, source.info_video)
            real = writer._encoder._stream.encode

            class Chance:
                """A stream whose encoder's heap was not empty."""

                def encode(self, frame: av.VideoFrame | None, real: Any = real) -> list[av.Packet]:
                    packets = real(frame)
                    for packet in packets:
                        packet.dts = 9187201950435738372
                    return packets

            monkeypatch.setattr(writer._encoder, "_stream", Chance())
            for frame in frames[:count]:
                writer.frame(frame)
            writer.finish()
            assert writer._dts == writer._pts
            with open_segment(writer.path) as container:
                assert len([p for p in container.demux(video=0) if p.size]) == count
