"""The onnxruntime backend: the default, and the only runtime in the base install."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upscale.backends.base import Closing, Luma
from upscale.backends.luma import Floats, to_codes, to_network
from upscale.backends.onnx_blend import blend_onnx
from upscale.backends.onnx_file import read_onnx
from upscale.backends.threads import plan_threads
from upscale.errors import BackendError, ModelError
from upscale.model.blend import blended

if TYPE_CHECKING:
    import onnxruntime

    from upscale.model.weights import ModelFiles

#: Values of `device`, and onnxruntime's name for each. The CPU also takes what a device cannot.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
_SILENT = 4  # Only fatal errors: the rest arrives as exceptions.
_TRIAL = 16


class OnnxBackend(Closing):
    """One onnxruntime session, shared by all calling threads. See `upscale.backends.base.Backend`."""

    name = "onnx"
    scale = 2

    def __init__(
        self,
        path: Path,
        *,
        data: bytes | None = None,
        multiple: int | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load `path` and run it once on 16×16 pixels.

        Args:
            data: what to load instead of the file's bytes, already checked; errors name `path`.
            multiple: what the network needs both sides to be a multiple of; None finds out.
            device: one of `PROVIDERS`; None is the CPU.
            threads: processor threads in all; None is every core.

        Raises:
            BackendError: no such device here.
            ModelError: the file is damaged or unsafe, or is not a ×2 luma network.
        """
        if data is None:
            data = read_onnx(path)
        plan = plan_threads(threads)
        self.workers = plan.workers
        self._path = path
        self._session: onnxruntime.InferenceSession | None = None
        try:
            self._session = _session(data, device, plan.per_call)
        except BackendError:
            raise
        except Exception as e:  # onnxruntime's exceptions have no common base but this
            raise ModelError(f"onnxruntime cannot load this model: {_first_line(e)}", path=str(path)) from e
        self._input = self._check_input()
        self._multiple = multiple or self._find_multiple()
        self._trial(-(-_TRIAL // self._multiple) * self._multiple)
        from onnxruntime import __version__

        self.description = f"onnxruntime {__version__} {device or 'cpu'}, {plan}"

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        floats = to_network(luma, max_value, self._multiple)
        try:
            output = self._run(floats)
        except Exception as e:
            raise BackendError(f"onnxruntime failed: {_first_line(e)}") from e
        if output.shape != (self.scale * floats.shape[0], self.scale * floats.shape[1]):
            raise BackendError(f"the network made {output.shape} of {floats.shape}")
        return to_codes(output, luma, max_value, self.scale, out)

    def close(self) -> None:
        self._session = None

    def _run(self, floats: Floats) -> Floats:
        """(H, W) → (2H, 2W), both float32 in 0…1."""
        if self._session is None:
            raise BackendError("the backend is closed")
        output = self._session.run(None, {self._input: floats[None, None]})[0]
        if output.ndim != 4 or output.shape[:2] != (1, 1) or output.dtype != np.float32:
            raise ModelError(
                f"the network's output is {output.dtype} {output.shape}, not float32 (1, 1, 2H, 2W)",
                path=str(self._path),
            )
        picture: Floats = output[0, 0]
        return picture

    def _check_input(self) -> str:
        """The input's name, once it is known to be float32 (N, 1, H, W) with H and W free."""
        assert self._session is not None
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"the network has {len(inputs)} inputs, not one", path=str(self._path))
        shape, kind = inputs[0].shape, inputs[0].type
        if kind != "tensor(float)" or len(shape) != 4:
            raise ModelError(
                f"the network's input is {kind} {shape}, not float (N, 1, H, W)", path=str(self._path)
            )
        if isinstance(shape[1], int) and shape[1] != 1:
            raise ModelError(f"the network wants {shape[1]} channels, not luma alone", path=str(self._path))
        if isinstance(shape[2], int) or isinstance(shape[3], int):
            raise ModelError(f"the network's size is fixed at {shape[2]}×{shape[3]}", path=str(self._path))
        return str(inputs[0].name)

    def _trial(self, side: int) -> None:
        """Run side×side pixels.

        Raises:
            ModelError: it fails, or the output is not twice as large or not finite.
        """
        ramp = np.linspace(0, 1, side * side, dtype=np.float32).reshape(side, side)
        try:
            output = self._run(ramp)
        except ModelError:
            raise
        except Exception as e:
            raise ModelError(
                f"the network fails on {side}×{side} pixels: {_first_line(e)}", path=str(self._path)
            ) from e
        if output.shape != (self.scale * side, self.scale * side):
            raise ModelError(
                f"the network makes {output.shape[1]}×{output.shape[0]} of {side}×{side}: not ×{self.scale}",
                path=str(self._path),
            )
        if not math.isfinite(float(output.sum(dtype=np.float64))):
            raise ModelError("the network's output is not finite", path=str(self._path))

    def _find_multiple(self) -> int:
        """The smallest step of sizes that a foreign network accepts."""
        for multiple in (1, 2, 4):
            try:
                self._trial(_TRIAL + multiple)
                return multiple
            except ModelError:
                continue
        return 8


def load(model: ModelFiles, *, device: str | None = None, threads: int | None = None) -> OnnxBackend:
    """Open the ONNX file of `model`.

    Raises:
        BackendError: onnxruntime is not installed, or has no such device.
        UsageError: the partner that it is to be blended with is another network.
        ModelError: the model has no ONNX file, or a damaged one.
    """
    if model.onnx is None:
        raise ModelError("the onnx backend needs an .onnx file", path=model.name)
    multiple = model.config.unshuffle if model.config else None
    data = blended(model, "onnx", blend_onnx, read_onnx)
    return OnnxBackend(model.onnx, data=data, multiple=multiple, device=device, threads=threads)


def _session(data: bytes, device: str | None, threads: int) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as e:
        raise BackendError("the onnx backend needs onnxruntime: pip install onnxruntime") from e

    onnxruntime.set_default_logger_severity(_SILENT)
    provider = PROVIDERS.get(device or "cpu")
    present = onnxruntime.get_available_providers()
    if provider not in present:
        names = ", ".join(name for name, value in PROVIDERS.items() if value in present)
        raise BackendError(f"onnxruntime has no device {device!r} here; it has {names}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that wait for the next layer must not burn the cores that decoder and encoder need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = list(dict.fromkeys([provider, "CPUExecutionProvider"]))
    return onnxruntime.InferenceSession(data, options, providers=providers)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
