"""What one network can be run as: a runtime, a precision and a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upscale.errors import BackendError, ModelError, UsageError
from upscale.model.weights import SUFFIXES

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

#: Values of `precision`, the exact one first. "bf16" and "fp16" are torch's, on hardware that has them.
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

#: (backend, precision) → the kind of file that it runs. Of two that are equally fast, the first is taken:
#: fp32 is exact, and onnxruntime starts a second sooner than torch.
FILES = {
    ("onnx", "fp32"): "onnx",
    ("tflite", "fp32"): "tflite",
    ("torch", "fp32"): "safetensors",
    ("onnx", "int8"): "onnx_int8",
    ("tflite", "int8"): "tflite_int8",
    ("torch", "bf16"): "safetensors",
    ("torch", "fp16"): "safetensors",
    ("onnx", "bf16"): "onnx",
}
#: What no processor has in that runtime, but perhaps a device.
_ELSEWHERE = {("onnx", "bf16")}
#: What cannot be interpolated between two files.
_UNBLENDED = {("onnx", "int8")}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a network.

    Attributes:
        backend: one of `upscale.backends.NAMES`.
        precision: one of `PRECISIONS`.
        device: as `upscale.backends.load` takes it.
    """

    backend: str
    precision: str
    device: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.backend, self.device, self.precision)))


def parse(text: str) -> Variant:
    """The variant that `str` turned into this text.

    Raises:
        ValueError: it is none.
    """
    backend, *device, precision = text.split(" ")
    if (backend, precision) not in FILES or len(device) > 1:
        raise ValueError(f"not a variant: {text!r}")
    return Variant(backend, precision, *device)


def candidates(
    model: ModelFiles,
    missing: dict[str, str | None],
    *,
    backend: str = "auto",
    precision: str = "auto",
    bits: int = 8,
    device: str | None = None,
    more_devices: bool = False,
) -> list[Variant]:
    """The variants of `model` that are installed and what was asked for, the preferred one first.

    Whether the hardware has them shows only when they are loaded.

    Args:
        missing: what `upscale.backends.available` returns.
        backend, precision: a name, or "auto" for all of them.
        bits: of the video's samples. int8 holds 8: with more it is never a candidate.
        more_devices: onnxruntime may have others than the processor, to be tried where `device` is None.

    Raises:
        UsageError: no such backend or precision, or one that this model or video cannot have.
        BackendError: no backend that could run the model is installed.
        ModelError: the model has no file for the backend.
    """
    known = dict.fromkeys(name for name, _ in FILES)
    if backend not in (*known, "auto"):
        raise UsageError(f"no backend {backend!r}; there are {', '.join((*known, 'auto'))}")
    if precision not in (*PRECISIONS, "auto"):
        raise UsageError(f"no precision {precision!r}; there are {', '.join((*PRECISIONS, 'auto'))}")
    asked = [(b, p) for b, p in FILES if backend in (b, "auto") and precision in (p, "auto")]
    if precision == "auto" and not more_devices and device in (None, "cpu"):
        asked = [pair for pair in asked if pair not in _ELSEWHERE]
    held = [(b, p) for b, p in asked if model.path(FILES[b, p]) is not None]
    if model.partner is not None:
        held = [pair for pair in held if pair not in _UNBLENDED]
    deep = [(b, p) for b, p in held if bits <= 8 or p != "int8"]
    if held and not deep:
        raise UsageError(f"int8 holds 8 bits per sample and this video has {bits}", path=model.name)
    found = [Variant(b, p, device) for b, p in deep if missing[b] is None]
    if not found:
        raise _nothing(model, missing, backend, precision, [b for b, _ in deep])
    return found


def _nothing(
    model: ModelFiles, missing: dict[str, str | None], backend: str, precision: str, runnable: list[str]
) -> Exception:
    """Why there is no candidate."""
    if runnable and backend == "auto":
        return BackendError(
            f"no installed backend can run {model.name}: pip install '.[all]'", path=model.name
        )
    if runnable:
        return BackendError(f"the {backend} backend is not installed: {missing[backend]}", path=model.name)
    if precision == "auto" and backend != "auto":
        return missing_file(model, backend, "fp32")
    if precision == "auto":
        return ModelError("has no weights file that a runtime could load", path=model.name)
    where = "no backend can" if backend == "auto" else f"the {backend} backend cannot"
    return UsageError(f"{where} run this model in {precision}", path=model.name)


def missing_file(model: ModelFiles, backend: str, precision: str) -> ModelError:
    """The error of a model without the file that this backend runs in this precision."""
    suffix = SUFFIXES[FILES[backend, precision]]
    article = "an" if backend == "onnx" else "a"
    return ModelError(f"the {backend} backend needs {article} {suffix} file", path=model.name)
