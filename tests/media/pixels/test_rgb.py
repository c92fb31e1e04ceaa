"""RGB of frames: known colours, matrices, ranges, depths, and the way back to luma."""

from __future__ import annotations

import numpy as np
import pytest
from clips import flat_frame

from upscale.media.pixels.rgb import to_luma, to_rgb


@pytest.mark.parametrize(
    ("matrix", "full", "values"),
    [
        (1, False, (63, 102, 240)),
        (5, False, (81, 90, 240)),
        (2, False, (81, 90, 240)),
        (5, True, (76, 85, 255)),
    ],
)
def test_red(matrix: int, full: bool, values: tuple[int, int, int]) -> None:
    """The code values of pure red in BT.709 and BT.601; untagged is BT.601."""
    frame = flat_frame((16, 8), values)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    rgb = to_rgb(frame)
    assert rgb.shape == (8, 16, 3)
    assert np.abs(rgb.astype(int) - (255, 0, 0)).max() <= 2
    assert (to_luma(rgb.astype(np.float32) / 255, frame) == values[0]).all()


def test_untagged_reading() -> None:
    """`tagged=False` is BT.601, limited range, whatever the frame says."""
    frame = flat_frame((16, 8), (81, 90, 240))
    plain = to_rgb(frame)
    frame.colorspace, frame.color_range = 1, 2
    assert (to_rgb(frame, tagged=False) == plain).all()
    assert (to_rgb(frame) != plain).any()


def test_depth_and_gray() -> None:
    deep = to_rgb(flat_frame((16, 8), (324, 360, 960), "yuv420p10le"))
    assert (deep == to_rgb(flat_frame((16, 8), (81, 90, 240)))).all()
    assert (to_rgb(flat_frame((16, 8), (126,), "gray")) == 128).all()
