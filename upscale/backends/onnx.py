"""The onnxruntime backend: the default, and the only runtime in the base install."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.backends.base import (
    TRIAL_SIDE,
    Codes,
    Floats,
    Luma,
    crop_codes,
    fill_codes,
    fill_floats,
    find_multiple,
    padded_size,
    problem_of,
    to_codes,
)
from upscale.backends.onnx_devices import PROVIDERS, provider
from upscale.backends.onnx_file import blend_onnx, read_onnx
from upscale.backends.variants import FILES
from upscale.errors import BackendError, ModelError, first_line
from upscale.model.blend import blended
from upscale.system.closing import Closing
from upscale.system.cores import plan_threads

if TYPE_CHECKING:
    import onnxruntime

    from upscale.model.weights import ModelFiles

_SILENT = 4  # Only fatal errors: the rest arrives as exceptions.
_TYPES: dict[str, np.dtype] = {"tensor(float)": np.dtype(np.float32), "tensor(uint8)": np.dtype(np.uint8)}


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
        precision: str = "fp32",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load `path` and run it once on 16×16 pixels.

        Args:
            data: what to load instead of the file's bytes, already checked; errors name `path`.
            multiple: what the network needs both sides to be a multiple of; None finds out.
            precision: "fp32", "int8" for a file of integers, "bf16" on devices that compute fp32 so.
            device: one of `upscale.backends.onnx_devices.PROVIDERS`; None is the CPU.
            threads: processor threads in all; None is every core.

        Raises:
            BackendError: no such device here, or not in this precision.
            ModelError: the file is damaged or unsafe, or is not a ×2 luma network.
        """
        if data is None:
            data = read_onnx(path)
        plan = plan_threads(threads)
        self.workers = plan.workers
        self.precision = precision
        self._path = path
        self._session: onnxruntime.InferenceSession | None = None
        try:
            self._session = open_session(data, provider(device, precision, plan), plan.per_call)
        except BackendError:
            raise
        except Exception as e:  # onnxruntime's exceptions have no common base but this
            raise ModelError(f"onnxruntime cannot load this model: {first_line(e)}", path=str(path)) from e
        self._input, self._dtype = self._check_input()
        self._multiple = multiple or find_multiple(self._accepts)
        self._trial(-(-TRIAL_SIDE // self._multiple) * self._multiple)
        from onnxruntime import __version__

        self.description = f"onnxruntime {__version__} {device or 'cpu'} {precision}, {plan}"

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        padded = np.empty(padded_size(luma, self._multiple), self._dtype)
        if self._dtype == np.uint8:
            fill_codes(luma, max_value, padded)
        else:
            fill_floats(luma, max_value, padded)
        try:
            output = self._run(padded)
        except Exception as e:
            raise BackendError(f"onnxruntime failed: {first_line(e)}") from e
        if output.shape != (self.scale * padded.shape[0], self.scale * padded.shape[1]):
            raise BackendError(f"the network turned {padded.shape} into {output.shape}")
        if self._dtype == np.uint8:
            return crop_codes(output, luma, self.scale, out)
        return to_codes(output, luma, max_value, self.scale, out)

    def close(self) -> None:
        self._session = None

    def _run(self, picture: Floats | Codes) -> Any:
        """(H, W) → (2H, 2W), both float32 in 0…1 or both uint8."""
        if self._session is None:
            raise BackendError("the backend is closed")
        output = self._session.run(None, {self._input: picture[None, None]})[0]
        if output.ndim != 4 or output.shape[:2] != (1, 1) or output.dtype != self._dtype:
            raise ModelError(
                f"the network's output is {output.dtype} {output.shape}, not {self._dtype} (1, 1, 2H, 2W)",
                path=str(self._path),
            )
        return output[0, 0]

    def _check_input(self) -> tuple[str, np.dtype]:
        """The input's name and type, once it is known to be luma (N, 1, H, W) with H and W free."""
        assert self._session is not None
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"the network has {len(inputs)} inputs, not one", path=str(self._path))
        shape, kind = inputs[0].shape, inputs[0].type
        if kind not in _TYPES or len(shape) != 4:
            raise ModelError(
                f"the network's input is {kind} {shape}, not float (N, 1, H, W)", path=str(self._path)
            )
        if isinstance(shape[1], int) and shape[1] != 1:
            raise ModelError(f"the network wants {shape[1]} channels, not luma alone", path=str(self._path))
        if isinstance(shape[2], int) or isinstance(shape[3], int):
            raise ModelError(f"the network's size is fixed at {shape[2]}×{shape[3]}", path=str(self._path))
        return str(inputs[0].name), _TYPES[kind]

    def _trial(self, side: int) -> None:
        """Run side×side pixels.

        Raises:
            ModelError: it fails, or the output is not twice as large or not finite.
        """
        ramp = np.linspace(0, 255 if self._dtype == np.uint8 else 1, side * side).reshape(side, side)
        try:
            output = self._run(ramp.astype(self._dtype))
        except ModelError:
            raise
        except Exception as e:
            raise ModelError(
                f"the network fails on {side}×{side} pixels: {first_line(e)}", path=str(self._path)
            ) from e
        if problem := problem_of(output, side, self.scale):
            raise ModelError(f"the network {problem}", path=str(self._path))

    def _accepts(self, side: int) -> bool:
        try:
            self._trial(side)
        except ModelError:
            return False
        return True


def load(model: ModelFiles, precision: str, device: str | None, threads: int | None) -> OnnxBackend:
    """Open the ONNX file of `model`, which has it: see `upscale.backends.load`."""
    kind = FILES[OnnxBackend.name, precision]
    path = model.path(kind)
    assert path is not None
    multiple = model.config.multiple if model.config else None
    data = blended(model, kind, blend_onnx, read_onnx)
    return OnnxBackend(
        path, data=data, multiple=multiple, precision=precision, device=device, threads=threads
    )


def open_session(
    data: bytes, provider: tuple[str, dict[str, Any]] = (PROVIDERS["cpu"], {}), threads: int = 1
) -> onnxruntime.InferenceSession:
    """A session on an ONNX file's bytes, which `read_onnx` has checked.

    Args:
        provider: onnxruntime's name and options of the device.
        threads: of one call.

    Raises:
        BackendError: onnxruntime is not installed, or the device does not start.
        Exception: whatever onnxruntime raises about the file; its exceptions have no common base.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise BackendError("the onnx backend needs onnxruntime: pip install onnxruntime") from e

    onnxruntime.set_default_logger_severity(_SILENT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that wait for the next layer must not burn the cores that decoder and encoder need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    names = list(dict.fromkeys([provider[0], "CPUExecutionProvider"]))
    settings = [provider[1], {}][: len(names)]
    session = onnxruntime.InferenceSession(data, options, providers=names, provider_options=settings)
    if session.get_providers()[0] != provider[0]:
        raise BackendError(f"onnxruntime cannot start its {provider[0]} here")
    return session
