"""HDR10 goes from a decoded frame into the encoder's parameters and comes back equal."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from rich_clip import HDR, passage, write_hdr

from upscale.media.input.hdr import PARAMETER_OPTION, HdrMetadata
from upscale.media.input.sidedata import read
from upscale.media.input.source import Source
from upscale.options import Options


def test_side_data_structures() -> None:
    numbers = [34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450]
    packed = [value for n in numbers for value in (n, 50000)] + [1, 10000, 10_000_000, 10000]
    mastering = struct.pack("<20i2i", *packed, 1, 1)
    assert HdrMetadata.from_bytes(mastering, struct.pack("<2I", 1000, 400)) == HDR
    assert HdrMetadata.from_bytes(None, None) is None
    only_light = HdrMetadata.from_bytes(None, struct.pack("<2I", 7, 3))
    assert only_light == HdrMetadata(max_cll=7, max_fall=3)
    only_range = HdrMetadata.from_bytes(struct.pack("<20i2i", *packed, 0, 1), None)
    assert only_range == HdrMetadata(min_luminance=Fraction(1, 10000), max_luminance=Fraction(1000))


def test_frame_without_side_data() -> None:
    assert HdrMetadata.from_side_data(read(av.VideoFrame(16, 16, "yuv420p10le"))) is None


def test_parameters() -> None:
    integers = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    assert HDR.x265_params() == f"hdr10=1:repeat-headers=1:master-display={integers}:max-cll=1000,400"
    assert HDR.x264_params() == f"mastering-display={integers}:cll=1000,400"
    assert HDR.svtav1_params() == (
        "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.0001)"
        ":content-light=1000,400"
    )
    assert HdrMetadata(max_cll=5).x264_params() == "cll=5,0"


@pytest.mark.parametrize("codec", sorted(PARAMETER_OPTION))
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_hdr10_comes_back_equal(tmp_path: Path, codec: str, container: str) -> None:
    """Side data does not survive processing: every able encoder gets it as parameters."""
    source, out = write_hdr(tmp_path / "in.mkv"), tmp_path / f"out.{container}"
    plan, _ = passage(source, out, Options(codec=codec), size=(128, 128))
    assert plan.lost == []
    with Source(str(out)) as opened:
        video = opened.info.video
    assert video is not None
    assert (video.primaries, video.trc, video.matrix, video.color_range) == (9, 16, 9, 1)
    assert video.bit_depth == 10
    assert video.hdr is not None
    for name in ("red", "green", "blue", "white"):
        wanted, found = getattr(HDR, name), getattr(video.hdr, name)
        assert [float(v) for v in found] == pytest.approx([float(v) for v in wanted], abs=2e-5), name
    assert float(video.hdr.max_luminance or 0) == pytest.approx(1000, rel=1e-4)
    assert float(video.hdr.min_luminance or 0) == pytest.approx(0.0001, abs=1e-4)
    assert (video.hdr.max_cll, video.hdr.max_fall) == (1000, 400)


def test_encoder_that_cannot_carry_it_is_named(tmp_path: Path) -> None:
    plan, _ = passage(
        write_hdr(tmp_path / "in.mkv"), tmp_path / "out.mkv", Options(codec="ffv1"), size=(128, 128)
    )
    assert len(plan.warnings) == 1
    assert "HDR10" in plan.warnings[0]
    assert "libx265" in plan.warnings[0]
