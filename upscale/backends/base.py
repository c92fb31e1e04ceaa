"""The contract between the pipeline and a runtime, and the arithmetic that all runtimes share.

Code values ↔ what a network takes and gives, with padding: the same for every backend, so that they differ
in nothing but their networks' roundings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError

Luma = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


class Backend(Protocol):
    """One loaded network: a callable and a context manager.

    Safe to call from several threads at once. Attributes:
        name: "onnx", "torch" or "tflite".
        description: human-readable, e.g. "onnxruntime 1.31.1 cpu int8, 2 frames at a time, 1 thread each".
        precision: what it computes in, one of `upscale.backends.variants.PRECISIONS`.
        scale: the network's factor (2).
    """

    name: str
    description: str
    precision: str
    scale: int

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        """Upscale one luma plane.

        Args:
            luma: (H, W) uint8 or uint16 code values in 0…max_value; rows may be strided.
            max_value: the largest code value: 255 for 8 bit, 1023 for 10 bit, ….
            out: where to write the result, (scale·H, scale·W) of luma's dtype, rows may be strided:
                a frame's own plane saves a copy. None makes a new array.

        Returns:
            `out`, or a new C-contiguous array of that shape, in 0…max_value: the network's output
            times max_value, rounded to nearest, clipped. Any H, W ≥ 1: the backend pads (edge
            replication) and crops by itself.

        Raises:
            BackendError: the runtime failed, or the network is int8 and max_value not 255.
            ValueError: luma or out is no such array.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Backend: ...

    def __exit__(self, *exc: object) -> None: ...


def padded_size(luma: Luma, multiple: int) -> tuple[int, int]:
    """Height and width, rounded up to what the network needs.

    Args:
        luma: (H, W) uint8 or uint16, H, W ≥ 1, any strides.

    Raises:
        ValueError: another shape or dtype.
    """
    if luma.ndim != 2 or 0 in luma.shape or luma.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a luma plane must be (H, W) uint8 or uint16, not {luma.shape} {luma.dtype}")
    height, width = luma.shape
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def to_network(luma: Luma, max_value: int, multiple: int) -> Floats:
    """Code values → contiguous float32 in 0…1, both sides padded to `multiple` by edge replication.

    Raises:
        ValueError: as `padded_size`.
    """
    padded = np.empty(padded_size(luma, multiple), np.float32)
    fill_floats(luma, max_value, padded)
    return padded


def fill_floats(luma: Luma, max_value: int, padded: Floats) -> None:
    """Write what `to_network` returns into an array of `padded_size`."""
    np.multiply(luma, np.float32(1 / max_value), out=padded[: luma.shape[0], : luma.shape[1]])
    _pad(luma, padded)


def fill_codes(luma: Luma, max_value: int, padded: Codes, flip: int = 0) -> None:
    """Code values of 8 bits for an integer network, into an array of `padded_size`.

    Args:
        flip: bits to flip: 0x80 gives the bytes of int8 that begin at -128.

    Raises:
        BackendError: the samples have more than 8 bits.
    """
    if max_value != 255:
        raise BackendError("an int8 network holds 8 bits per sample")
    inner = padded[: luma.shape[0], : luma.shape[1]]
    np.bitwise_xor(luma, luma.dtype.type(flip), out=inner, casting="unsafe")
    _pad(luma, padded)


def to_codes(output: Floats, luma: Luma, max_value: int, scale: int, out: Luma | None = None) -> Luma:
    """The network's output → code values of `luma`'s dtype: scaled, rounded, clipped, padding cropped.

    Args:
        output: at least (scale·H, scale·W) float32; overwritten.
        luma: the (H, W) plane that went in.
        out: where to write them, see `result_array`.

    Returns:
        (scale·H, scale·W): `out`, or a new C-contiguous array.
    """
    codes = result_array(luma, scale, out)
    values = output[: codes.shape[0], : codes.shape[1]]
    np.multiply(values, np.float32(max_value), out=values)
    np.rint(values, out=values)
    np.clip(values, np.float32(0), np.float32(max_value), out=values)
    # A NaN survives clip and becomes some integer: no warning here, and never above max_value.
    with np.errstate(invalid="ignore"):
        np.copyto(codes, values, casting="unsafe")
    if max_value < np.iinfo(luma.dtype).max:
        np.minimum(codes, luma.dtype.type(max_value), out=codes)
    return codes


def crop_codes(output: Codes, luma: Luma, scale: int, out: Luma | None = None, flip: int = 0) -> Luma:
    """An integer network's output → code values of `luma`'s dtype, padding cropped.

    Args:
        output: at least (scale·H, scale·W); its memory may belong to the runtime.
        out, flip: as in `to_codes` and `fill_codes`.
    """
    codes = result_array(luma, scale, out)
    np.bitwise_xor(output[: codes.shape[0], : codes.shape[1]], np.uint8(flip), out=codes)
    return codes


def result_array(luma: Luma, scale: int, out: Luma | None) -> Luma:
    """`out` once it is known to fit, or a new C-contiguous array, (scale·H, scale·W) of `luma`'s dtype.

    Raises:
        ValueError: `out` has another shape or dtype, or cannot be written to.
    """
    shape = (scale * luma.shape[0], scale * luma.shape[1])
    if out is None:
        made: Luma = np.empty(shape, luma.dtype)
        return made
    if out.shape != shape or out.dtype != luma.dtype or not out.flags.writeable:
        raise ValueError(f"out must be a writeable {shape} {luma.dtype} array, not {out.shape} {out.dtype}")
    return out


def _pad(luma: Luma, padded: npt.NDArray) -> None:
    """Replicate the last column and row of what was written."""
    height, width = luma.shape
    padded[:height, width:] = padded[:height, width - 1 : width]
    padded[height:] = padded[height - 1]


#: Side of the small picture that a network must double before it is trusted.
TRIAL_SIDE = 16


def problem_of(output: npt.NDArray, side: int, scale: int) -> str | None:
    """Why an (H, W) result of side×side pixels cannot be their enlargement; None if it can."""
    if output.shape != (scale * side, scale * side):
        return f"turns {side}×{side} into {output.shape[1]}×{output.shape[0]}: not ×{scale}"
    if not np.isfinite(output).all():
        return "gives numbers that are not finite"
    return None


def find_multiple(accepts: Callable[[int], bool]) -> int:
    """The smallest step of sizes with which a foreign network can do; `accepts` tries side×side pixels."""
    return next((multiple for multiple in (1, 2, 4) if accepts(TRIAL_SIDE + multiple)), 8)


def psnr_of_error(square_error: float, max_value: int = 255) -> float:
    """Peak signal-to-noise ratio in dB of a mean square error in code values; inf for 0."""
    return float(10 * np.log10(max_value**2 / square_error)) if square_error else float("inf")
