"""PNG files through FFmpeg's encoder; they appear under their name only when whole."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from upscale.system.safe_file import write_whole


def encode_png(rgb: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) or (H, W) uint8 → the bytes of a PNG file."""
    import av

    kind = "gray" if rgb.ndim == 2 else "rgb24"
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt = kind
    encoder.time_base = Fraction(1, 25)
    packets = encoder.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=kind))
    return b"".join(bytes(p) for p in [*packets, *encoder.encode(None)])


def save_png(path: str, rgb: npt.NDArray[np.uint8], *, overwrite: bool = True) -> None:
    """Write a picture atomically.

    Raises:
        OutputError: the disk is full, the folder cannot be written, or the name is taken and must stay.
    """
    write_whole(path, encode_png(rgb), overwrite=overwrite)
