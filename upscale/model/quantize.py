"""Makes the int8 TFLite file from the float one.

The 3×3 convolutions compute in int8 with ranges calibrated on real pictures; the anchor, its
addition and both shuffles stay float. So only the residual, a small correction, is rounded to 8
bit, not the picture itself, which costs 2.4 to 3.3 dB against the float network and saves no time.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError, ModelError

#: What an int8 file must reach against the float one, in dB.
MIN_PSNR = 45.0
_SIGNATURE = "serving_default"
_CONVOLUTIONS = r"convs\.\d+"


@dataclass(frozen=True, slots=True)
class Quantized:
    """Attributes:
    recipe: "static" (int8 weights and activations) or "dynamic" (int8 weights; activations are
        rounded at run time, per picture).
    psnr: of the rounded 8-bit output against the float network's, in dB, over pictures that the
        calibration has not seen where there is more than one.
    """

    recipe: str
    psnr: float


def quantize_int8(source: Path, target: Path, pictures: Sequence[npt.NDArray[np.uint8]]) -> Quantized:
    """Write the int8 form of the TFLite file `source`, as `export_tflite` made it, to `target`.

    Args:
        pictures: real luma, (H, W) uint8, sides multiples of the generator's `unshuffle`. Every
            fourth one is kept for measuring.

    Raises:
        BackendError: ai-edge-quantizer is not installed.
        ModelError: no recipe reaches `MIN_PSNR`.
        ValueError: no pictures.
    """
    if not pictures:
        raise ValueError("calibration needs at least one picture")
    held_out = list(pictures[3::4]) or list(pictures)
    seen = [p for i, p in enumerate(pictures) if i % 4 != 3]
    content = source.read_bytes()
    expected = [_run(content, p) for p in held_out]
    results = []
    for recipe in ("static", "dynamic"):
        quantized = _quantize(content, recipe, seen)
        psnr = _psnr(expected, [_run(quantized, p) for p in held_out])
        if psnr >= MIN_PSNR:
            target.write_bytes(quantized)
            return Quantized(recipe, psnr)
        results.append(f"{recipe} {psnr:.1f} dB")
    raise ModelError(f"int8 loses too much: {', '.join(results)}, under {MIN_PSNR:.0f} dB", path=str(source))


def _quantize(content: bytes, recipe: str, pictures: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    try:
        from ai_edge_quantizer import qtyping, quantizer
    except ImportError as e:
        raise BackendError("int8 export needs ai-edge-quantizer: pip install 'upscale[train]'") from e

    conv = qtyping.TFLOperationName.CONV_2D
    # It prints a report and a progress bar, and warns of the debugging interpreter that it uses.
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        job = quantizer.Quantizer(content)
        ranges = None
        if recipe == "static":
            job.add_static_config(_CONVOLUTIONS, conv, activation_num_bits=8, weight_num_bits=8)
            ranges = job.calibrate({_SIGNATURE: [{"luma": _floats(p)} for p in pictures]}, num_threads=1)
        else:
            job.add_dynamic_config(_CONVOLUTIONS, conv, num_bits=8)
        result = job.quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


def _floats(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(H, W) code values → (1, H, W, 1) in 0…1."""
    return (picture.astype(np.float32) / np.float32(255))[None, :, :, None]


def _run(content: bytes, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Code values, rounded and clipped, that a TFLite network makes of one picture."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as e:
        raise BackendError("int8 export needs ai-edge-litert: pip install 'upscale[train]'") from e

    interpreter: Any = Interpreter(model_content=content, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    values = _floats(picture)
    interpreter.resize_tensor_input(index, values.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, values)
    interpreter.invoke()
    output: npt.NDArray[np.float32] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return np.clip(np.rint(output * 255), 0, 255).astype(np.float32)


def _psnr(expected: list[npt.NDArray[np.float32]], got: list[npt.NDArray[np.float32]]) -> float:
    errors = [float(np.mean((a - b) ** 2)) for a, b in zip(expected, got, strict=True)]
    mean = sum(errors) / len(errors)
    return float(10 * np.log10(255**2 / mean)) if mean else float("inf")
