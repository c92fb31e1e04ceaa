"""What frames carry besides their picture is read and counted (`upscale.media.input.sidedata`)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import pytest
from clips import write_video

from upscale.media.input import sidedata
from upscale.media.input.source import Source

_HDR = (
    "hdr10=1:repeat-headers=1:keyint=5:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)


def test_every_kind_is_counted_by_its_name(tmp_path: Path) -> None:
    """Guards: what came after the first frames, or was of an unforeseen kind, was dropped unnamed."""
    path = write_video(
        tmp_path / "x.mkv", range(10), codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": _HDR}
    )
    with Source(str(path)) as source:
        assert list(source)
        found = source.stats.side_data
    assert found["MASTERING_DISPLAY_METADATA"] >= 2
    assert found["CONTENT_LIGHT_LEVEL"] >= 2


def test_plain_frames_carry_nothing() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    assert (sidedata.kinds(frame), sidedata.read(frame)) == (frozenset(), {})
    assert not sidedata.has_side_data(frame)


def test_a_kind_that_pyav_has_no_name_for_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV raises ValueError for a number that its enum does not have (multi-view HEVC, and what comes)."""

    class Strange:
        @property
        def side_data(self) -> Any:
            raise ValueError("99 is not a valid Type")

    monkeypatch.setattr(sidedata, "carrier", lambda frame: Strange())
    frame = av.VideoFrame(16, 16, "yuv420p")
    assert sidedata.kinds(frame) == {"UNKNOWN"}
    assert sidedata.read(frame) == {}


@pytest.mark.parametrize(
    ("kind", "flags", "mode"),
    [(1, 0, "left_right"), (1, 1, "right_left"), (2, 0, "top_bottom"), (0, 0, None)],
)
def test_stereo_modes(kind: int, flags: int, mode: str | None) -> None:
    assert sidedata.stereo_mode({"STEREO3D": struct.pack("<2i", kind, flags)}) == mode
    assert sidedata.stereo_mode({}) is None


def test_the_display_matrix_is_nine_numbers() -> None:
    numbers = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    assert sidedata.display_matrix({"DISPLAYMATRIX": struct.pack("<9i", *numbers)}) == numbers
    assert sidedata.display_matrix({}) is None


@pytest.mark.parametrize(("rpu", "full", "profile"), [(0, 1, 5), (0, 0, None), (1, 0, 8), (7, 0, None)])
def test_dolby_vision_profiles(rpu: int, full: int, profile: int | None) -> None:
    data = struct.pack("<Q", 16) + bytes(8) + bytes([0, 0, 0, 0, rpu, 0, 0, 0, 0, 0, full])
    assert sidedata.dolby_vision_profile({"DOVI_METADATA": data}) == profile
    assert sidedata.dolby_vision_profile({}) is None
