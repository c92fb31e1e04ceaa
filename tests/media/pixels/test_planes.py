"""Frames as arrays."""

from __future__ import annotations

import av
import numpy as np
import pytest

from upscale.media.pixels.planes import bit_depth, gray_frame, max_value, plane_view, write_plane


@pytest.mark.parametrize(
    ("pix_fmt", "dtype", "largest", "chroma"),
    [
        ("yuv420p", np.uint8, 255, (23, 33)),
        ("yuv422p10le", np.uint16, 1023, (45, 33)),
        ("yuv444p12le", np.uint16, 4095, (45, 65)),
        ("yuv420p16le", np.uint16, 65535, (23, 33)),
    ],
)
def test_views_of_odd_sizes_and_depths(pix_fmt: str, dtype: type, largest: int, chroma: tuple) -> None:
    frame = av.VideoFrame(65, 45, pix_fmt)
    luma, u = plane_view(frame, 0), plane_view(frame, 1)
    assert (luma.shape, u.shape) == ((45, 65), chroma)
    assert luma.dtype == u.dtype == dtype
    assert max_value(frame) == largest
    assert bit_depth(frame.format) == largest.bit_length()


def test_view_shares_the_frames_memory() -> None:
    frame = av.VideoFrame(65, 45, "gray10le")
    plane_view(frame)[...] = 0
    plane_view(frame)[44, 64] = 1000
    assert plane_view(frame)[44, 64] == 1000
    assert not plane_view(frame).flags.owndata
    assert frame.to_ndarray()[44, 64] == 1000


def test_view_agrees_with_pyav() -> None:
    frame = av.VideoFrame.from_ndarray(np.arange(48 * 66, dtype=np.uint8).reshape(48, 66), format="gray")
    assert np.array_equal(plane_view(frame), frame.to_ndarray())


@pytest.mark.parametrize("pix_fmt", ["gray10be", "yuv420p10be"])
def test_big_endian_is_refused(pix_fmt: str) -> None:
    with pytest.raises(ValueError, match=pix_fmt):
        plane_view(av.VideoFrame(64, 48, pix_fmt))


@pytest.mark.parametrize(("pix_fmt", "limit"), [("gray10le", 1023), ("gray12le", 4095), ("gray16le", 65535)])
def test_writing_clips_to_the_depth(pix_fmt: str, limit: int) -> None:
    """Samples beyond the depth abort the process inside libx264."""
    frame = av.VideoFrame(8, 4, pix_fmt)
    write_plane(frame, 0, np.full((4, 8), 65535, np.uint16))
    assert (plane_view(frame) == limit).all()


def test_gray_frame_is_a_copy() -> None:
    values = np.arange(32, dtype=np.uint16).reshape(4, 8)
    frame = gray_frame(values, 10)
    values[...] = 7
    assert frame.format.name == "gray10le"
    assert np.array_equal(plane_view(frame), np.arange(32).reshape(4, 8))
