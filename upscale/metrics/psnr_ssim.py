"""How near one luma plane is to another: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscale.backends.base import psnr_of_error

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def psnr(reference: Plane, picture: Plane, *, border: int = 0, max_value: int = 255) -> float:
    """Peak signal-to-noise ratio in dB of two (H, W) planes; inf when equal.

    Args:
        border: pixels left out on every side.
        max_value: the peak, 255 for 8 bit.
    """
    a, b = (_inner(p, border).astype(np.float64) for p in (reference, picture))
    return psnr_of_error(float(np.mean((a - b) ** 2)), max_value)


def ssim(reference: Plane, picture: Plane, *, border: int = 0, max_value: int = 255) -> float:
    """Mean structural similarity of two (H, W) planes, -1…1 (Wang et al. 2004).

    Gaussian window of 11×11 with sigma 1.5, K1 = 0.01, K2 = 0.03, as in the authors' code: only
    windows that lie whole inside the picture count. Planes are at least 11 pixels on each side.
    """
    a, b = (_inner(p, border).astype(np.float64) for p in (reference, picture))
    c1, c2 = (0.01 * max_value) ** 2, (0.03 * max_value) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a**2
    var_b = _blur(b * b) - mean_b**2
    cov = _blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float(np.mean(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def _inner(plane: Plane, border: int) -> Plane:
    return plane[border : plane.shape[0] - border, border : plane.shape[1] - border]


def _blur(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()
    rows = sum(t * plane[k : plane.shape[0] - 10 + k] for k, t in enumerate(taps))
    return np.asarray(sum(t * rows[:, k : plane.shape[1] - 10 + k] for k, t in enumerate(taps)))
