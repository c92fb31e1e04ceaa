"""Code values ↔ the network's floats, with padding: the same arithmetic for every backend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscale.backends.base import Luma

Floats = npt.NDArray[np.float32]


def to_network(luma: Luma, max_value: int, multiple: int) -> Floats:
    """Code values → contiguous float32 in 0…1, both sides padded to `multiple` by edge replication.

    Args:
        luma: (H, W) uint8 or uint16, H, W ≥ 1, any strides.

    Raises:
        ValueError: another shape or dtype.
    """
    if luma.ndim != 2 or 0 in luma.shape or luma.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a luma plane must be (H, W) uint8 or uint16, not {luma.shape} {luma.dtype}")
    height, width = luma.shape
    padded = np.empty((-(-height // multiple) * multiple, -(-width // multiple) * multiple), np.float32)
    np.multiply(luma, np.float32(1 / max_value), out=padded[:height, :width])
    padded[:height, width:] = padded[:height, width - 1 : width]
    padded[height:] = padded[height - 1]
    return padded


def to_codes(output: Floats, luma: Luma, max_value: int, scale: int, out: Luma | None = None) -> Luma:
    """The network's output → code values of `luma`'s dtype: scaled, rounded, clipped, padding cropped.

    Args:
        output: at least (scale·H, scale·W) float32; overwritten.
        luma: the (H, W) plane that went in.
        out: where the result goes; None makes a new array.

    Returns:
        `out`, or (scale·H, scale·W), C-contiguous.
    """
    height, width = luma.shape
    values = output[: scale * height, : scale * width]
    np.multiply(values, np.float32(max_value), out=values)
    np.rint(values, out=values)
    np.clip(values, np.float32(0), np.float32(max_value), out=values)
    codes: Luma = np.empty(values.shape, luma.dtype) if out is None else out
    # A NaN survives clip and becomes some integer: no warning here, and never above max_value.
    with np.errstate(invalid="ignore"):
        np.copyto(codes, values, casting="unsafe")
    if max_value < np.iinfo(luma.dtype).max:
        np.minimum(codes, luma.dtype.type(max_value), out=codes)
    return codes
