"""How a sharp frame becomes a small one: downscaling by two with the kernels that users' tools have."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt

from upscale.media.pixels.planes import plane_view, write_plane

Plane = npt.NDArray[np.uint8]

#: Downscaling kernels by name: what cameras, editors and `ffmpeg -vf scale` leave behind. All but
#: "soft" are swscale's own; "soft" is a lens or a scaler that blurs more than the pixel grid asks for.
KERNELS = ("BICUBIC", "LANCZOS", "AREA", "BILINEAR", "soft")
#: Lenses softer than the pixel grid, and their standard deviation in pixels of the small picture.
LENSES = {"soft": 0.55, "softer": 0.7, "softest": 0.9}


def _taps(kind: str) -> npt.NDArray[np.float32]:
    """Symmetric filter for a factor of exactly 1/2; the output sample sits between the middle taps."""
    at = np.abs((np.arange(12) - 5.5) / 2)
    if kind == "matlab":  # Keys' cubic with a = -0.5
        inner, outer = 1.5 * at**3 - 2.5 * at**2 + 1, -0.5 * at**3 + 2.5 * at**2 - 4 * at + 2
        taps = np.where(at <= 1, inner, np.where(at < 2, outer, 0.0))
    else:
        taps = np.exp(-0.5 * (at / LENSES[kind]) ** 2)
    return (taps / taps.sum()).astype(np.float32)


_TAPS = {kind: _taps(kind) for kind in ("matlab", *LENSES)}


def halve(picture: Plane, kernel: str = "matlab") -> Plane:
    """Downscale a plane by two with anti-aliasing and mirrored borders.

    Args:
        picture: (2H, 2W) uint8.
        kernel: "matlab" or one of `LENSES`.

    Returns:
        (H, W) uint8, rounded to nearest. With "matlab" this is its ``imresize(x, 0.5)``, which the
        literature's test sets were made with.
    """
    taps = _TAPS[kernel]
    half = len(taps) // 2 - 1
    out = picture.astype(np.float32)
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (half, half)
        wide = np.pad(out, pad, mode="symmetric")
        n = out.shape[axis] // 2
        parts = [np.take(wide, range(k, k + 2 * n, 2), axis=axis) * t for k, t in enumerate(taps) if t]
        out = np.sum(parts, axis=0, dtype=np.float32)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def halve_frame(frame: av.VideoFrame, kernel: str = "BICUBIC") -> av.VideoFrame:
    """Downscale a yuv420p frame by two, chroma with it.

    Args:
        frame: sides are multiples of 4.
        kernel: one of `KERNELS` or `LENSES`, or "matlab" for the luma of the literature's sets.
    """
    width, height = frame.width // 2, frame.height // 2
    if kernel not in _TAPS:
        return frame.reformat(width, height, interpolation=kernel)
    small = frame.reformat(width, height, interpolation="BICUBIC")
    write_plane(small, 0, halve(np.ascontiguousarray(plane_view(frame, 0), dtype=np.uint8), kernel))
    return small
