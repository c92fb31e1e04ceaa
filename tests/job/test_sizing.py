"""How large the output becomes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from upscale.errors import UsageError
from upscale.job.sizing import even, target_size
from upscale.media.input.probe import VideoInfo
from upscale.media.output.picture import target_sar
from upscale.options import Options


def video(width: int, height: int, **changes: object) -> VideoInfo:
    info = VideoInfo(
        index=0, codec="h264", width=width, height=height, pix_fmt="yuv420p", bit_depth=8, has_alpha=False,
        chroma_shift=(1, 1), rate=Fraction(25), time_base=Fraction(1, 25), frames=0, sar=Fraction(1),
        sar_set=False, display_matrix=None, rotation=0, color_range=1, primaries=1, trc=1, matrix=1,
        chroma_location=1, hdr=None, interlaced=False, duration=None,
    )  # fmt: skip
    return replace(info, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 360), (1280, 720)),
        ((480, 360), (960, 720)),
        ((360, 640), (720, 1280)),
        ((854, 480), (1280, 720)),
        ((321, 181), (1276, 720)),
        ((718, 1278), (720, 1282)),
        ((16, 16), (720, 720)),
        ((64, 1024), (720, 11520)),
    ],
)
def test_short_side_becomes_720(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert target_size(video(*size), Options()) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(target="1080p"), (1920, 1080)),
        (Options(target="2160p"), (3840, 2160)),
        (Options(scale=1.5), (960, 540)),
        (Options(scale=4), (2560, 1440)),
        (Options(width=1000), (1000, 562)),
        (Options(height=400), (712, 400)),
        (Options(width=1000, height=1000), (1000, 1000)),
    ],
)
def test_sizes_that_are_named(options: Options, expected: tuple[int, int]) -> None:
    assert target_size(video(640, 360), options) == expected


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((1280, 720), Options(), "already 1280x720: name a larger size with --target, --scale, --width"),
        ((720, 1280), Options(), "already 720x1280"),
        ((1280, 720), Options(target="720p"), "already 1280x720"),
        ((640, 360), Options(width=640), "already 640x360"),
        ((640, 360), Options(width=1280, height=200), "already 640x360, and 1280x200"),
        ((640, 360), Options(target="720p", scale=2), "only one of"),
        ((640, 360), Options(scale=2, width=1280), "only one of"),
        ((640, 360), Options(target="721p"), "choose from 720p, 1080p, 1440p, 2160p"),
        ((640, 360), Options(scale=1), "scale must be larger than 1"),
        ((640, 360), Options(scale=float("nan")), "scale must be larger than 1"),
        ((640, 360), Options(scale=float("inf")), "scale must be larger than 1"),
        ((640, 360), Options(width=0), "width must be between"),
        ((640, 360), Options(height=99999), "height must be between"),
        ((640, 360), Options(scale=40), "too large"),
        ((640, 360), Options(width=1281), "width must be even"),
        ((640, 360), Options(height=721), "height must be even"),
    ],
)
def test_refusals_name_the_way_out(size: tuple[int, int], options: Options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        target_size(video(*size), options)


def test_odd_sides_only_matter_where_chroma_is_subsampled() -> None:
    full = video(640, 360, pix_fmt="yuv444p", chroma_shift=(0, 0))
    assert target_size(full, Options(width=1281, height=721)) == (1281, 721)


def test_rotation_and_pixel_shape_do_not_change_the_stored_size() -> None:
    info = video(480, 360, rotation=90, sar=Fraction(4, 3), sar_set=True)
    assert target_size(info, Options()) == (960, 720)


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 2), (2, 2), (3, 2), (3.5, 4), (1281, 1280), (1281.5, 1282)]
)
def test_even(length: float, expected: int) -> None:
    assert even(Fraction(length)) == expected


def test_display_aspect_is_kept_exactly() -> None:
    info = video(321, 181, sar=Fraction(4, 3), sar_set=True)
    sar = target_sar(info, (1276, 720))
    assert sar is not None
    assert sar * Fraction(1276, 720) == Fraction(4, 3) * Fraction(321, 181)
    assert target_sar(video(640, 360, sar_set=True), (1280, 720)) == 1


def test_an_untagged_picture_stays_untagged_when_only_rounding_changed_it() -> None:
    assert target_sar(video(854, 480), (1280, 720)) is None
    # Stretched on purpose: shown as before.
    assert target_sar(video(640, 360), (1280, 1280)) == Fraction(16, 9)
