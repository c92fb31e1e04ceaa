"""Do the files of one model give the same pictures? The check that an export must pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscale.backends import load
from upscale.backends.base import psnr_of_error
from upscale.errors import ModelError
from upscale.export.quantize import MIN_PSNR

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

#: Code values that a rounding may fall the other way by.
TOLERANCE = 1


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest difference to torch in float32, in code values, and int8's PSNR against it in dB (the lower
    one of TFLite and ONNX).

    Files that the model does not have are None.
    """

    onnx: int | None
    tflite: int | None
    int8_psnr: float | None


def check_exports(model: ModelFiles, pictures: Sequence[npt.NDArray[np.uint8]]) -> Parity:
    """Run every file of `model` on `pictures` ((H, W) uint8) at 8 and at 10 bit.

    Raises:
        ModelError: ONNX or TFLite differ from torch by more than `TOLERANCE` code values, int8 by
            more than `upscale.export.quantize.MIN_PSNR` allows, or a file cannot be used.
        BackendError: a runtime is not installed.
    """
    planes = [(picture, 255) for picture in pictures]
    # The two low bits that 8-bit pictures lack come from a pattern, so that all values occur.
    planes += [(p.astype(np.uint16) * 4 + np.arange(p.shape[1], dtype=np.uint16) % 4, 1023) for p in pictures]

    def run(name: str, precision: str, planes: Sequence[tuple[npt.NDArray, int]]) -> list[npt.NDArray]:
        with load(name, model, precision=precision, device="cpu") as backend:
            return [backend(plane, most) for plane, most in planes]

    expected = run("torch", "fp32", planes)
    worst: dict[str, int | None] = {"onnx": None, "tflite": None}
    psnrs = []
    for name in worst:
        if model.path(name) is not None:
            pairs = zip(expected, run(name, "fp32", planes), strict=True)
            difference = max(int(np.abs(a.astype(np.int32) - b).max()) for a, b in pairs)
            if difference > TOLERANCE:
                raise ModelError(f"{name} differs from torch by {difference} code values", path=model.name)
            worst[name] = difference
        if model.path(f"{name}_int8") is not None:
            pairs = zip(expected, run(name, "int8", planes[: len(pictures)]), strict=False)
            psnr = psnr_of_error(float(np.mean([np.mean((a - b.astype(float)) ** 2) for a, b in pairs])))
            if psnr < MIN_PSNR:
                raise ModelError(
                    f"int8 {name} is {psnr:.1f} dB from torch, under {MIN_PSNR:.0f} dB", path=model.name
                )
            psnrs.append(psnr)
    return Parity(worst["onnx"], worst["tflite"], min(psnrs, default=None))
