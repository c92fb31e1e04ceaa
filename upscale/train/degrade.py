"""How a sharp picture becomes what users feed in: downscaled by two, then perhaps through a codec."""

from __future__ import annotations

import io

import av
import numpy as np
import numpy.typing as npt

from upscale.planes import plane_view

Plane = npt.NDArray[np.uint8]


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic with a = -0.5, the one that MATLAB's imresize uses."""
    x = np.abs(x)
    return np.where(
        x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0)
    )


def _lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _halving_taps(kind: str) -> npt.NDArray[np.float32]:
    """Symmetric filter for a factor of exactly 1/2; the output sample sits between the middle taps."""
    at = (np.arange(12) - 5.5) / 2
    if kind == "bicubic":
        taps = _cubic(at)
    elif kind == "lanczos":
        taps = _lanczos(at)
    elif kind == "area":
        taps = np.where(np.abs(at) < 0.5, 1.0, 0.0)
    else:  # "soft": a lens or a scaler that blurs a little more than the pixel grid asks for
        taps = np.exp(-0.5 * (at / 0.55) ** 2)
    return (taps / taps.sum()).astype(np.float32)


#: Downscaling kernels by name: what cameras, editors and `ffmpeg -vf scale` leave behind.
KERNELS = {kind: _halving_taps(kind) for kind in ("bicubic", "lanczos", "area", "soft")}


def halve(picture: Plane, kernel: str = "bicubic") -> Plane:
    """Downscale by two with anti-aliasing and mirrored borders.

    Args:
        picture: (2H, 2W) uint8.
        kernel: one of `KERNELS`.

    Returns:
        (H, W) uint8, rounded to nearest. With "bicubic" this is MATLAB's ``imresize(x, 0.5)``.
    """
    taps = KERNELS[kernel]
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


def through_x264(pictures: list[Plane], crf: float, preset: str = "veryfast") -> list[Plane]:
    """Encode a short moving sequence with libx264 and decode it again.

    Args:
        pictures: equally large (H, W) uint8 luma planes with even sides.

    Returns:
        The decoded planes, in order: the first an I frame, the others P and B as x264 decides.
    """
    height, width = pictures[0].shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": preset})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        chroma = np.full((height // 2, width), 128, np.uint8)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.concatenate([picture, chroma]), format="yuv420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as back:
        return [plane_view(frame, 0).astype(np.uint8) for frame in back.decode(video=0)]
