"""Colour tags and display matrix are kept; a change of pixel format does not touch code values."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from rich_clip import passage, write_rich

from upscale.media.input.probe import probe
from upscale.media.input.source import Source
from upscale.media.output.picture import is_identity, scaled, to_format
from upscale.options import Options

ONE, UNIT = 1 << 16, 1 << 30
IDENTITY = (ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT)
#: A 64x48 picture turned, with the translation that moves it back into view.
QUARTER = (0, ONE, 0, -ONE, 0, 0, 48 << 16, 0, UNIT)
HALF = (-ONE, 0, 0, 0, -ONE, 0, 64 << 16, 48 << 16, UNIT)
BT709, BT601, BT2020, LIMITED, FULL = 1, 6, 9, 1, 2


def planes(frame: av.VideoFrame) -> list[int]:
    """The first sample of each plane."""
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [int(np.frombuffer(plane, dtype)[0]) for plane in frame.planes]


def frame_of(values: tuple[int, int, int], color_range: int, matrix: int) -> av.VideoFrame:
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.pts, frame.time_base, frame.duration = 7, Fraction(1, 25), 2
    frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = color_range, matrix, 1, 1
    return frame


@pytest.mark.parametrize("color_range", [0, LIMITED, FULL])
@pytest.mark.parametrize("matrix", [2, BT709, BT601, BT2020])
def test_deeper_format_keeps_colour_and_range(color_range: int, matrix: int) -> None:
    """Unless told, swscale takes the range of the target for limited and compresses full range."""
    frame = to_format(frame_of((173, 42, 26), color_range, matrix), "yuv422p10le")
    assert frame.format.name == "yuv422p10le"
    expected = np.array([173, 42, 26]) * 4
    if color_range == FULL:  # full range spans 0…1023 instead of 0…1020
        expected = np.round(np.array([173, 42, 26]) * 1023 / 255)
    assert np.abs(np.array(planes(frame)) - expected).max() <= 2
    assert (frame.pts, frame.time_base, frame.duration) == (7, Fraction(1, 25), 2)
    assert (frame.color_range, frame.colorspace) == (color_range, matrix)


def test_full_range_is_compressed_where_nothing_can_tell_it() -> None:
    frame = to_format(frame_of((255, 128, 128), FULL, BT601), "yuv420p", limited=True)
    assert planes(frame) == [235, 128, 128]
    assert frame.color_range == LIMITED
    same = frame_of((235, 128, 128), LIMITED, BT601)
    assert to_format(same, "yuv420p", limited=True) is same


def test_same_format_is_the_same_frame() -> None:
    frame = frame_of((16, 128, 128), LIMITED, BT709)
    assert to_format(frame, "yuv420p") is frame


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"])
@pytest.mark.parametrize("tags", [(LIMITED, 1, 1, BT709), (LIMITED, 9, 18, BT2020), (LIMITED, 6, 6, BT601)])
def test_tags_come_back_from_every_encoder(
    tmp_path: Path, codec: str, tags: tuple[int, int, int, int]
) -> None:
    """prores_ks reads them from the frames, the others from the context."""

    def prepare(stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = tags

    source = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None, prepare=prepare)
    out = tmp_path / ("out.mov" if codec == "prores_ks" else "out.mkv")
    passage(source, out, Options(codec=codec))
    with Source(str(out)) as opened:
        video = opened.info.video
    assert video is not None
    assert (video.color_range, video.primaries, video.trc, video.matrix) == tags


def test_full_range_into_avi_stays_white(tmp_path: Path) -> None:
    """MPEG-4 in avi cannot say "full range": untouched code values would be shown too contrasty."""

    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.color_range = FULL

    source = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None, prepare=prepare)
    plan, _ = passage(source, tmp_path / "out.avi")
    assert plan.encoder.limited
    luma = []
    for path in (source, tmp_path / "out.avi"):
        with av.open(str(path)) as container:
            luma.append(planes(next(container.decode(video=0)))[0])
    assert luma[1] == pytest.approx(16 + luma[0] * 219 / 255, abs=1.5)


def test_full_range_is_kept(tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.color_range = FULL

    source = write_rich(tmp_path / "in.mkv", audio=(), subtitle=None, prepare=prepare)
    passage(source, tmp_path / "out.mp4")
    with Source(str(tmp_path / "out.mp4")) as opened:
        assert opened.info.video is not None
        assert opened.info.video.color_range == FULL


def test_identity() -> None:
    assert is_identity(IDENTITY)
    assert not is_identity(QUARTER)


def test_translation_follows_the_displayed_axes() -> None:
    """A quarter turn moves x by the stored height, so by the vertical factor."""
    assert scaled(QUARTER, (64, 48), (128, 144)) == (0, ONE, 0, -ONE, 0, 0, 144 << 16, 0, UNIT)
    assert scaled(HALF, (64, 48), (128, 144)) == (-ONE, 0, 0, 0, -ONE, 0, 128 << 16, 144 << 16, UNIT)


def test_rotation_and_flip_part_is_untouched() -> None:
    flip = (-ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT)
    assert scaled(flip, (64, 48), (1280, 960)) == flip


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_comes_back(tmp_path: Path, target: str, degrees: int) -> None:
    """Re-encoding drops it silently."""
    source = write_rich(
        tmp_path / "in.mp4", audio=(), subtitle=None, prepare=lambda v: v.set_display_rotation(-degrees)
    )
    before = probe(str(source)).video
    out = tmp_path / f"out.{target}"
    passage(source, out)
    after = probe(str(out)).video
    assert before is not None
    assert after is not None
    assert before.rotation == after.rotation == degrees
