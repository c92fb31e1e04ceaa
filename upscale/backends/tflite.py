"""The TFLite backend: ai-edge-litert, or tflite_runtime on old devices."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.backends.base import Closing, Luma
from upscale.backends.luma import Floats, to_codes, to_network
from upscale.backends.tflite_blend import blend_tflite
from upscale.backends.threads import plan_threads
from upscale.errors import BackendError, ModelError
from upscale.model.blend import blended

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

_MISSING = "the tflite backend needs LiteRT: pip install 'upscale[tflite]'"
_TRIAL = 16
_redirecting = threading.Lock()


class TfliteBackend(Closing):
    """Interpreters of one model: one per call in flight. See `upscale.backends.base.Backend`."""

    name = "tflite"
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
        """Load `path` and run it once.

        Args:
            data: what to load instead of the file's bytes; errors name `path`.
            multiple: what the network needs both sides to be a multiple of; None finds out.
            device: "cpu" or None.
            threads: processor threads in all; None is every core.

        Raises:
            BackendError: LiteRT is not installed, or `device` is another.
            ModelError: the file is damaged, or is not a ×2 luma network.
        """
        if device not in (None, "cpu"):
            raise BackendError(f"the tflite backend has no device {device!r}; it has cpu")
        self._runtime, version = _runtime()
        plan = plan_threads(threads)
        self.workers = plan.workers
        self.description = f"{version} cpu, {plan}"
        self._threads = plan.per_call
        self._path = path
        try:
            self._content = path.read_bytes() if data is None else data
        except OSError as e:
            raise ModelError(e.strerror or str(e), path=str(path)) from e
        # Interpreters keep state, so a call takes one for itself; the last one used is warmest.
        self._idle: list[_Interpreter] = []
        self._closed = False
        self._idle.append(self._trial(multiple))
        self._multiple = self._idle[0].multiple

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        if self._closed:
            raise BackendError("the backend is closed")
        floats = to_network(luma, max_value, self._multiple)
        try:
            interpreter = self._idle.pop()  # atomic
        except IndexError:
            interpreter = self._interpreter()
        try:
            output = interpreter.run(floats)
        except (ValueError, RuntimeError) as e:
            raise BackendError(f"LiteRT failed: {_first_line(e)}") from e
        self._idle.append(interpreter)
        return to_codes(output, luma, max_value, self.scale, out)

    def close(self) -> None:
        self._closed = True
        self._idle.clear()

    def _interpreter(self) -> _Interpreter:
        return _Interpreter(self._runtime, self._content, self._threads)

    def _trial(self, multiple: int | None) -> _Interpreter:
        """An interpreter that has shown on about 16×16 pixels that the network is what it must be."""
        try:
            with _quiet():
                interpreter = self._interpreter()
            problem = interpreter.problem()
            if problem is None:
                interpreter.multiple = multiple or interpreter.find_multiple()
                side = -(-_TRIAL // interpreter.multiple) * interpreter.multiple
                with _quiet():
                    output = interpreter.run(_ramp(side))
        except (ValueError, RuntimeError, TypeError) as e:
            raise ModelError(f"LiteRT cannot load this model: {_first_line(e)}", path=str(self._path)) from e
        if problem is None and output.shape != (self.scale * side, self.scale * side):
            problem = f"makes {output.shape[1]}×{output.shape[0]} of {side}×{side}: not ×{self.scale}"
        if problem is None and not np.isfinite(output).all():
            problem = "gives numbers that are not finite"
        if problem is not None:
            raise ModelError(f"the network {problem}", path=str(self._path))
        return interpreter


class _Interpreter:
    """One interpreter and the size it is set to. Not for two threads at once."""

    def __init__(self, runtime: Any, content: bytes, threads: int) -> None:
        self._interpreter = runtime.Interpreter(model_content=content, num_threads=threads)
        self._input = self._interpreter.get_input_details()
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._size: tuple[int, int] | None = None
        self.multiple = 1

    def problem(self) -> str | None:
        """Why this cannot be a luma network, or None."""
        if len(self._input) != 1:
            return f"has {len(self._input)} inputs, not one"
        details = self._input[0]
        signature, kind = list(details["shape_signature"]), np.dtype(details["dtype"])
        if kind != np.float32 or len(signature) != 4 or signature[3] != 1:
            return f"takes {kind} {signature}, not float32 (N, H, W, 1)"
        if signature[1] != -1 or signature[2] != -1:
            return f"has the fixed size {signature[2]}×{signature[1]}"
        return None

    def run(self, floats: Floats) -> Floats:
        """(H, W) → a new (2H, 2W), both float32 in 0…1."""
        index = self._input[0]["index"]
        if self._size != floats.shape:
            self._size = None
            self._interpreter.resize_tensor_input(index, [1, *floats.shape, 1])
            self._interpreter.allocate_tensors()
            self._size = (floats.shape[0], floats.shape[1])
        self._interpreter.set_tensor(index, floats[None, :, :, None])
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._output)
        if output.ndim != 4 or output.shape[0] != 1 or output.shape[3] != 1 or output.dtype != np.float32:
            raise ValueError(f"the output is {output.dtype} {output.shape}, not float32 (1, 2H, 2W, 1)")
        picture: Floats = output[0, :, :, 0]
        return picture

    def find_multiple(self) -> int:
        """The smallest step of sizes that a foreign network accepts."""
        for multiple in (1, 2, 4):
            side = _TRIAL + multiple
            try:
                with _quiet():
                    if self.run(_ramp(side)).shape == (2 * side, 2 * side):
                        return multiple
            except (ValueError, RuntimeError):
                continue
        return 8


def load(model: ModelFiles, *, device: str | None = None, threads: int | None = None) -> TfliteBackend:
    """Open the TFLite file of `model`: fp32, or what kind the user's own file is.

    Raises:
        BackendError: LiteRT is not installed, or `device` is not the CPU.
        UsageError: the partner that it is to be blended with is another network.
        ModelError: the model has no TFLite file, or a damaged one.
    """
    path = model.tflite or model.tflite_int8
    if path is None:
        raise ModelError("the tflite backend needs a .tflite file", path=model.name)
    multiple = model.config.unshuffle if model.config else None
    data = blended(model, "tflite" if model.tflite else "tflite_int8", blend_tflite)
    return TfliteBackend(path, data=data, multiple=multiple, device=device, threads=threads)


def _runtime() -> tuple[Any, str]:
    """The module with `Interpreter`, and its name and version."""
    from importlib import import_module, metadata

    for module, package in (
        ("ai_edge_litert.interpreter", "ai-edge-litert"),
        ("tflite_runtime.interpreter", "tflite-runtime"),
    ):
        try:
            return import_module(module), f"{package} {metadata.version(package)}"
        except ImportError:  # PackageNotFoundError is one
            continue
    raise BackendError(_MISSING)


def _ramp(side: int) -> Floats:
    return np.linspace(0, 1, side * side, dtype=np.float32).reshape(side, side)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the runtime writes to file descriptor 2 off the user's terminal.

    It announces its delegate there, once per process, and offers no switch. Only used while a model
    is loaded, before any progress is shown.
    """
    with _redirecting:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
