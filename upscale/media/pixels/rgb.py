"""Frames as RGB pictures and back to luma, by the matrix and range that the frame names.

Not swscale's own conversion to RGB: it differs from the exact one by up to two code values, which measures of
quality would see, and takes gray frames for full range whatever they say. It only resizes chroma here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from upscale.media.pixels.planes import Plane, bit_depth, plane_view

if TYPE_CHECKING:
    import av

RGB = npt.NDArray[np.uint8]

#: Weights of red and blue in luma, by FFmpeg's number of the matrix; every other number is BT.601.
_BT601 = (0.299, 0.114)
_BT2020_CL = 10  # PyAV has no name for it
_MATRICES = {
    int(Colorspace.ITU709): (0.2126, 0.0722),
    int(Colorspace.BT2020): (0.2627, 0.0593),
    _BT2020_CL: (0.2627, 0.0593),
}


def to_rgb(frame: av.VideoFrame, *, tagged: bool = True) -> RGB:
    """A frame as (H, W, 3) uint8 RGB, chroma brought to luma's size by swscale's bicubic kernel.

    Args:
        frame: planar YUV or gray, 8 … 16 bit.
        tagged: honour the frame's matrix and range; False takes BT.601, limited range.
    """
    full = tagged and int(frame.color_range) == ColorRange.JPEG
    red, blue = _weights(frame, tagged)
    depth = bit_depth(frame.format)
    unit = 1 << (depth - 8)  # of 8-bit code values
    top = (1 << depth) - 1
    black, swing, colour = (0, top, top) if full else (16 * unit, 219 * unit, 224 * unit)
    y = (plane_view(frame, 0) - np.float32(black)) * np.float32(1 / swing)
    rgb = np.repeat(y[:, :, None], 3, axis=2)
    if len(frame.planes) >= 3:
        u, v = ((p - np.float32(128 * unit)) * np.float32(1 / colour) for p in _full_chroma(frame))
        rgb[:, :, 0] += np.float32(2 * (1 - red)) * v
        rgb[:, :, 2] += np.float32(2 * (1 - blue)) * u
        green = 1 - red - blue
        rgb[:, :, 1] -= np.float32(2 * (1 - blue) * blue / green) * u
        rgb[:, :, 1] -= np.float32(2 * (1 - red) * red / green) * v
    np.multiply(rgb, np.float32(255), out=rgb)
    np.rint(rgb, out=rgb)
    return np.clip(rgb, 0, 255, out=rgb).astype(np.uint8)


def to_luma(
    rgb: npt.NDArray[np.float32], frame: av.VideoFrame | None = None, *, tagged: bool = True
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB in 0…1 → (H, W) uint8 luma by `frame`'s matrix and range (None: BT.601, limited)."""
    red, blue = _BT601 if frame is None else _weights(frame, tagged)
    y = rgb @ np.array([red, 1 - red - blue, blue], np.float32)
    if frame is None or not tagged or int(frame.color_range) != ColorRange.JPEG:
        y = y * np.float32(219) + np.float32(16)
    else:
        y = y * np.float32(255)
    return np.clip(np.rint(y), 0, 255).astype(np.uint8)


def _weights(frame: av.VideoFrame, tagged: bool) -> tuple[float, float]:
    return _MATRICES.get(int(frame.colorspace), _BT601) if tagged else _BT601


def _full_chroma(frame: av.VideoFrame) -> tuple[Plane, Plane]:
    """Both chroma planes at luma's size, code values unchanged."""
    depth = bit_depth(frame.format)
    wanted = "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    if frame.format.name != wanted:
        frame = VideoReformatter().reformat(
            frame,
            format=wanted,
            interpolation="BICUBIC",
            src_colorspace=Colorspace.ITU709,  # the same on both sides: only the chroma's size changes
            dst_colorspace=Colorspace.ITU709,
            src_color_range="MPEG",
            dst_color_range="MPEG",
            threads=1,
        )
    return plane_view(frame, 1), plane_view(frame, 2)
