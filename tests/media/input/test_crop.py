"""Cropping that the container asks for is done before the network (`upscale.media.input.crop`)."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import pytest
from clips import flat_frame, write_video

from upscale import Options, upscale_file
from upscale.media.input import crop as crop_module
from upscale.media.input.crop import Crop, Cropper, matroska_crops, mp4_crops
from upscale.media.input.source import Source
from upscale.media.pixels.planes import plane_view

SIZE = (64, 48)


def letterbox(n: int) -> av.VideoFrame:
    """Black but for a gray part: 8 rows above, 16 below, 4 columns on the left, 12 on the right."""
    frame = flat_frame(SIZE, (16, 128, 128))
    plane_view(frame, 0)[8:32, 4:52] = 100 + 5 * n
    return frame


def mkv(path: Path, top: int, bottom: int) -> Path:
    """PixelCropTop and PixelCropBottom in the Video element of a finished file, in the place of padding."""
    write_video(path, range(5), size=SIZE, picture=letterbox)
    data = path.read_bytes()
    at = data.index(b"\xe0\x8a\xb0")  # Video, 10 bytes, PixelWidth
    padding = data.index(b"\xec\x01", at)  # Void, with a size of 8 bytes
    end = padding + 9 + int.from_bytes(data[padding + 2 : padding + 9])
    video = data[at + 2 : at + 8] + b"\x54\xbb\x81" + bytes([top]) + b"\x54\xaa\x81" + bytes([bottom])
    start = b"\xe0" + bytes([0x80 | len(video)]) + video
    rest = end - at - len(start) - 2
    path.write_bytes(data[:at] + start + b"\xec" + bytes([0x80 | rest]) + bytes(rest) + data[end:])
    return path


def mp4(path: Path, width: int, height: int, x: int, y: int) -> Path:
    """A clap box at the end of the sample entry of a finished file."""
    write_video(path, range(5), size=SIZE, picture=letterbox, options={"qp": "0"})
    data = bytearray(path.read_bytes())
    assert data.index(b"mdat") < data.index(b"moov")
    clap = struct.pack(">I4s4IiIiI", 40, b"clap", width, 1, height, 1, x, 1, y, 1)
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + struct.unpack_from(">I", data, entry)[0]
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(name, data.index(b"moov")) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(clap))
    path.write_bytes(data[:end] + clap + data[end:])
    return path


def shown(path: Path) -> tuple[tuple[int, int], list[tuple[int, int]], set[int]]:
    """Size as described, times, and values of luma of all frames."""
    with Source(str(path)) as source:
        size = source.info_video.width, source.info_video.height
        frames = [f for f in source if isinstance(f, av.VideoFrame)]
        assert {(f.width, f.height) for f in frames} == {size}
        assert source.stats.damage() == []
    values = {int(v) for f in frames for v in plane_view(f).ravel()}
    return size, [(f.pts, f.duration) for f in frames], values


def test_matroska_pixel_crop(tmp_path: Path) -> None:
    """Guards: bars that a file declares as cropped were enlarged and shown (RFC 9559, 5.1.4.1.28)."""
    size, times, _ = shown(mkv(tmp_path / "x.mkv", 8, 16))
    assert size == (64, 24)
    assert times == [(40 * n, 40) for n in range(5)]
    with open(tmp_path / "x.mkv", "rb") as file:
        assert matroska_crops(file) == [Crop(8, 16)]


def test_mp4_clean_aperture(tmp_path: Path) -> None:
    """The same for ISO 14496-12's clap: 48x24 whose centre lies 4 to the left and 4 above the picture's."""
    size, times, values = shown(mp4(tmp_path / "x.mp4", 48, 24, -4, -4))
    assert size == (48, 24)
    assert len(times) == 5
    assert values == {100 + 5 * n for n in range(5)}
    with open(tmp_path / "x.mp4", "rb") as file:
        assert mp4_crops(file) == [Crop(8, 16, 4, 12)]


def test_the_output_has_the_shape_of_what_is_shown(tmp_path: Path) -> None:
    path = mp4(tmp_path / "x.mp4", 48, 24, -4, -4)
    result = upscale_file(str(path), str(tmp_path / "out.mp4"), Options(model="lanczos", scale=2))
    assert result.size == (96, 48)
    with av.open(str(tmp_path / "out.mp4")) as container:
        first = next(container.decode(video=0))
    assert (first.width, first.height) == (96, 48)
    assert plane_view(first).min() > 80


def test_black_bars_that_nothing_declares_stay(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", range(5), size=SIZE, picture=letterbox)
    assert shown(path)[0] == SIZE


@pytest.mark.parametrize(
    "aperture", [(0, 24, 0, 0), (80, 24, 0, 0), (48, 24, 40, 0), (48, 24, 0, -40), (64, 48, 0, 0)]
)
def test_nonsense_and_nothing_crop_nothing(aperture: tuple[int, int, int, int], tmp_path: Path) -> None:
    assert shown(mp4(tmp_path / "x.mp4", *aperture))[0] == SIZE


def test_pyav_19_hands_it_on_by_itself() -> None:
    class Context:
        coded_side_data = {"frame_cropping": struct.pack("<4I", 1, 2, 3, 4)}  # noqa: RUF012

    assert crop_module.container_crop(None, "matroska,webm", 0, Context()) == Crop(1, 2, 3, 4)
    assert crop_module.container_crop(None, "matroska,webm", 0, object()) is None


def test_times_and_chroma_are_kept() -> None:
    frame = flat_frame(SIZE, (16, 60, 200))
    frame.pts, frame.duration = 7, 3
    out = Cropper(Crop(8, 16, 4, 12))(frame)
    assert (out.pts, out.duration, out.width, out.height) == (7, 3, 48, 24)
    assert [int(plane_view(out, n)[0, 0]) for n in (1, 2)] == [60, 200]
    assert Cropper(Crop(left=40, right=40))(frame) is frame


@pytest.mark.parametrize("content", [b"", b"\x1a", b"\x1a\x45\xdf\xa3\xff", bytes(100), b"\xff" * 64])
def test_anything_at_all(content: bytes) -> None:
    assert matroska_crops(io.BytesIO(content)) == []
    assert mp4_crops(io.BytesIO(content)) == []
