"""Where to look: the regions in which enlarged pictures differ most, and that hold most detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscale.errors import UsageError

_STEP = 8


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of the enlarged picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The rectangle of an (H, W, …) array, as a view."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]


def parse_crop(text: str) -> Crop:
    """``x,y,w,h``.

    Raises:
        UsageError: not four whole numbers, or an empty rectangle.
    """
    try:
        crop = Crop(*(int(part) for part in text.split(",")))
    except (ValueError, TypeError):
        raise UsageError(f"{text!r} is not a crop: give x,y,width,height in pixels of the result") from None
    if min(crop.x, crop.y) < 0 or min(crop.width, crop.height) < 8:
        raise UsageError(f"{text!r} is not a crop: it must be inside the picture, and at least 8x8 pixels")
    return crop


def check_crop(crop: Crop, size: tuple[int, int]) -> None:
    """Refuse a crop that leaves the picture.

    Raises:
        UsageError: it does.
    """
    if crop.x + crop.width > size[0] or crop.y + crop.height > size[1]:
        raise UsageError(
            f"the crop {crop.x},{crop.y},{crop.width},{crop.height} leaves the result, {size[0]}x{size[1]}"
        )


def choose_crops(lumas: Sequence[npt.NDArray[np.uint8]], size: tuple[int, int], count: int = 2) -> list[Crop]:
    """Rectangles that do not overlap: in turn where the pictures differ most, and where most detail is.

    Args:
        lumas: (H, W) of one moment, enlarged in different ways; the last one tells where detail is.
        size: (width, height) of the rectangles; cut to the picture's.
    """
    height, width = lumas[0].shape
    w, h = min(size[0], width), min(size[1], height)
    mean = np.mean(lumas, axis=0, dtype=np.float32)
    differs = sum((np.abs(p - mean) for p in lumas), np.zeros_like(mean))
    detail = _gradient(lumas[-1].astype(np.float32))
    maps = [_window_sums(m, w, h) for m in (differs, detail)]
    crops: list[Crop] = []
    for turn in range(count):
        sums = maps[turn % 2]
        free = np.ones_like(sums, bool)
        for c in crops:
            top, left = max(0, -(-(c.y - h + 1) // _STEP)), max(0, -(-(c.x - w + 1) // _STEP))
            free[top : (c.y + c.height - 1) // _STEP + 1, left : (c.x + c.width - 1) // _STEP + 1] = False
        if not free.any():
            break
        row, column = np.unravel_index(int(np.where(free, sums, -1).argmax()), sums.shape)
        crops.append(Crop(int(column) * _STEP, int(row) * _STEP, w, h))
    return crops


def _gradient(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    detail = np.zeros_like(luma)
    detail[:, 1:] += np.abs(np.diff(luma, axis=1))
    detail[1:] += np.abs(np.diff(luma, axis=0))
    return detail


def _window_sums(values: npt.NDArray[np.float32], w: int, h: int) -> npt.NDArray[np.float64]:
    """Sums over every w×h window that begins at multiples of `_STEP`."""
    total = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    return np.asarray(sums[::_STEP, ::_STEP])
