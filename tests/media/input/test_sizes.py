"""Videos whose size changes: one size for all frames, and bars (`upscale.media.input.sizes`, `bitstream`)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from clips import flat_frame, write_video

from upscale import Options, upscale_file
from upscale.media.input.bitstream import size_header
from upscale.media.input.convert import Converter, color_tags
from upscale.media.input.source import Source
from upscale.media.pixels.planes import plane_view

SIZES = ((64, 48), (96, 64), (48, 96))


def join(path: Path, sizes: tuple[tuple[int, int], ...] = SIZES, codec: str = "libvpx") -> Path:
    """Five frames of each size in one stream, as a call records it whose phone is turned."""
    with av.open(str(path), "w") as out:
        stream: Any = None
        for number, size in enumerate(sizes):
            part = write_video(path.with_name(f"{number}.webm"), range(5), size=size, codec=codec)
            with av.open(str(part)) as given:
                stream = stream or out.add_stream_from_template(given.streams.video[0])
                for packet in (p for p in given.demux(video=0) if p.size):
                    packet.pts = packet.dts = packet.pts + 200 * number
                    packet.stream = stream
                    out.mux(packet)
    return path


def read(path: Path, **options: Any) -> tuple[tuple[int, int], list[av.VideoFrame], list[str]]:
    with Source(str(path), Options(**options)) as source:
        frames = [f for f in source if isinstance(f, av.VideoFrame)]
        return (source.info_video.width, source.info_video.height), frames, source.notes


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_the_largest_size_of_the_file_decides(codec: str, tmp_path: Path) -> None:
    """Guards: everything was squeezed into the first size, and only the first change was named."""
    size, frames, notes = read(join(tmp_path / "x.webm", codec=codec))
    assert size == (96, 64)
    assert {(f.width, f.height) for f in frames} == {size}
    assert [round(f.pts * Fraction(f.time_base) * 25) for f in frames] == list(range(15))
    assert notes == [
        "the picture begins as 64x48 at 0.00 s: scaled to 84x64, with bars to 96x64",
        "the picture changes to 96x64 at 0.20 s",
        "the picture changes to 48x96 at 0.40 s: scaled to 32x64, with bars to 96x64",
    ]


def test_bars_instead_of_stretching(tmp_path: Path) -> None:
    _, frames, _ = read(join(tmp_path / "x.webm"))
    luma = plane_view(frames[12])
    assert (luma[:, :30] == 16).all()
    assert (luma[:, 66:] == 16).all()
    assert (luma[:, 34:62] > 20).all()
    assert (plane_view(frames[7]) > 20).all()


def test_width_and_height_decide_where_the_user_names_both(tmp_path: Path) -> None:
    path = join(tmp_path / "x.webm")
    assert read(path, width=96, height=192)[0] == (48, 96)
    assert read(path, width=128, height=96)[0] == (64, 48)
    result = upscale_file(
        str(path), str(tmp_path / "out.mkv"), Options(model="lanczos", width=96, height=192)
    )
    assert result.size == (96, 192)
    assert sum("the picture" in w for w in result.warnings) == 3


def test_what_lies_behind_the_part_does_not_count(tmp_path: Path) -> None:
    path = join(tmp_path / "x.webm", ((64, 48), *[(64, 48)] * 6, (96, 64)))
    assert read(path, stop=0.2)[0] == (64, 48)
    assert read(path)[0] == (96, 64)


def test_changes_without_end_are_not_listed_for_ever(tmp_path: Path) -> None:
    notes = read(join(tmp_path / "x.webm", ((64, 48), (96, 64)) * 12))[2]
    assert len(notes) == 20
    assert notes[-1].endswith("; further changes are not listed")


def test_a_transport_stream_with_other_parameter_sets(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{size[0]}.ts", range(at, at + 10), size=size, options={"bf": "0"})
        for at, size in ((0, (64, 48)), (10, (96, 64)))
    ]
    (tmp_path / "x.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
    size, frames, _ = read(tmp_path / "x.ts")
    assert (size, len(frames)) == ((96, 64), 20)


@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        ("libx264", "ts"), ("libx265", "ts"), ("mpeg2video", "ts"), ("mpeg2video", "mkv"),
        ("mpeg1video", "mkv"), ("libvpx", "webm"), ("libvpx-vp9", "webm"), ("libsvtav1", "mkv"),
    ],
)  # fmt: skip
def test_headers_tell_sizes_apart(codec: str, ending: str, tmp_path: Path) -> None:
    def header(size: tuple[int, int], luma: int) -> bytes:
        path = tmp_path / f"x.{ending}"
        flat = [flat_frame(size, (luma, 128, 128)) for _ in range(40)]
        write_video(path, range(40), size=size, codec=codec, picture=lambda n: flat[n])
        with av.open(str(path)) as container:
            packet = next(container.demux(video=0))
            return size_header(container.streams.video[0].codec_context, packet)

    assert header((128, 96), 20) == header((128, 96), 200) != b""
    assert header((128, 96), 20) != header((96, 128), 20)


@pytest.mark.parametrize(("codec", "ending"), [("libx264", "mkv"), ("mpeg4", "avi"), ("ffv1", "mkv")])
def test_where_the_size_stands_once_nothing_is_looked_up(codec: str, ending: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"x.{ending}", range(3), codec=codec)
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
        assert size_header(container.streams.video[0].codec_context, packet) == b""


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p", "gray"])
@pytest.mark.parametrize("size", [(32, 64), (64, 32), (31, 47), (200, 10), (1, 1)])
def test_any_shape_fits(pix_fmt: str, size: tuple[int, int]) -> None:
    first, other = av.VideoFrame(64, 48, pix_fmt), av.VideoFrame(*size, pix_fmt)
    other.pts, other.time_base = 5, Fraction(1, 25)
    with av.open("/dev/null", "w", format="null") as container:
        tags = color_tags(first, container.add_stream("rawvideo", rate=25).codec_context)
    out = Converter(first, tags)(other)
    assert (out.width, out.height, out.format.name, out.pts) == (64, 48, pix_fmt, 5)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1", b"\x0a", b"\x0a\xff", b"\xff" * 20, bytes(20)])
@pytest.mark.parametrize("codec", ["vp8", "vp9", "mpeg2video", "av1", "h264", "hevc"])
def test_anything_at_all(codec: str, data: bytes) -> None:
    context = av.CodecContext.create(codec, "r")
    for extradata in (None, bytes(30)):
        context.extradata = extradata
        size_header(context, av.Packet(data))
