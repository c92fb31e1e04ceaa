"""The TFLite backend: ai-edge-litert, or tflite_runtime on old devices."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.backends.base import (
    TRIAL_SIDE,
    Luma,
    crop_codes,
    fill_codes,
    fill_floats,
    find_multiple,
    padded_size,
    problem_of,
    to_codes,
)
from upscale.backends.tflite_blend import blend_tflite
from upscale.backends.variants import FILES
from upscale.errors import BackendError, ModelError, UpscaleError, first_line
from upscale.model.blend import blended
from upscale.model.weights import weights_folder
from upscale.system.child import run_module
from upscale.system.closing import Closing
from upscale.system.cores import plan_threads

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

_MISSING = "the tflite backend needs LiteRT: pip install '.[tflite]'"
#: Pixels of the idle interpreters that are kept beside one whole picture for each call at once. Changing the
#: size of one costs half as much as computing its pixels, so that sizes that come often have their own.
_SPARE_PIXELS = 4 * 256 * 256
_redirecting = threading.Lock()
#: Seconds for loading and one run on 16×16 pixels, with a slow disk's time to import the runtime.
_VET_TIMEOUT = 60.0
_vetted: set[tuple[str, int, int]] = set()


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
        precision: str = "fp32",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load `path` and run it once.

        Args:
            data: what to load instead of the file's bytes; errors name `path`.
            multiple: what the network needs both sides to be a multiple of; None finds out.
            precision: "fp32" or "int8", what the file computes in.
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
        self.precision = precision
        self.description = f"{version} cpu {precision}, {plan}"
        self._threads = plan.per_call
        self._path = path
        try:
            self._content = path.read_bytes() if data is None else data
        except OSError as e:
            raise ModelError(e.strerror or str(e), path=str(path)) from e
        # Interpreters keep state, so a call takes one for itself. The one used last is at the end.
        self._idle: list[_Interpreter] = []
        self._largest = 0
        self._lock = threading.Lock()
        self._closed = False
        self._idle.append(self._trial(multiple))
        self._multiple = self._idle[0].multiple

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        if self._closed:
            raise BackendError("the backend is closed")
        size = padded_size(luma, self._multiple)
        interpreter = self._take(size)
        try:
            interpreter.resize(size)
            interpreter.fill(luma, max_value)
            interpreter.invoke()
        except (ValueError, RuntimeError) as e:
            raise BackendError(f"LiteRT failed: {first_line(e)}") from e
        try:
            return interpreter.result(luma, max_value, self.scale, out)
        finally:
            self._keep(interpreter)

    def close(self) -> None:
        self._closed = True
        self._idle.clear()

    def _take(self, size: tuple[int, int]) -> _Interpreter:
        """An idle interpreter that is set to this size, or a new one."""
        with self._lock:
            fitting = [n for n, interpreter in enumerate(self._idle) if interpreter.size == size]
            if fitting:
                return self._idle.pop(fitting[-1])
        return self._interpreter()

    def _keep(self, interpreter: _Interpreter) -> None:
        """Put an interpreter back; the ones that were not used for longest go where there are too many."""
        with self._lock:
            self._idle.append(interpreter)
            self._largest = max(self._largest, interpreter.pixels)
            kept = sum(one.pixels for one in self._idle)
            while kept > self.workers * self._largest + _SPARE_PIXELS:
                kept -= self._idle.pop(0).pixels

    def _interpreter(self) -> _Interpreter:
        return _Interpreter(self._runtime, self._content, self._threads)

    def _trial(self, multiple: int | None) -> _Interpreter:
        """An interpreter that has shown on about 16×16 pixels that the network is what it must be."""
        try:
            with _quiet():
                interpreter = self._interpreter()
            problem = interpreter.problem()
            if problem is None:
                interpreter.multiple = multiple or find_multiple(interpreter.accepts)
                side = -(-TRIAL_SIDE // interpreter.multiple) * interpreter.multiple
                with _quiet():
                    output = interpreter.run(side)
        except (ValueError, RuntimeError, TypeError) as e:
            raise ModelError(f"LiteRT cannot load this model: {first_line(e)}", path=str(self._path)) from e
        if problem is None:
            problem = problem_of(output, side, self.scale)
        if problem is not None:
            raise ModelError(f"the network {problem}", path=str(self._path))
        return interpreter


class _Interpreter:
    """One interpreter and the size it is set to. Not for two threads at once.

    Networks take and give float32 in 0…1, or integers that are code values: uint8, or int8 from -128 on.
    """

    def __init__(self, runtime: Any, content: bytes, threads: int) -> None:
        self._interpreter = runtime.Interpreter(model_content=content, num_threads=threads)
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self.size: tuple[int, int] | None = None
        self._dtype = np.dtype(self._inputs[0]["dtype"])
        self._flip = 0x80 if self._dtype == np.int8 else 0
        self.multiple = 1

    @property
    def pixels(self) -> int:
        """Of the pictures that it is set to: what it holds in memory grows with them."""
        return self.size[0] * self.size[1] if self.size else 0

    def problem(self) -> str | None:
        """Why this cannot be a luma network, or None."""
        if len(self._inputs) != 1:
            return f"has {len(self._inputs)} inputs, not one"
        signature = list(self._inputs[0]["shape_signature"])
        if self._dtype not in (np.float32, np.int8, np.uint8) or len(signature) != 4 or signature[3] != 1:
            return f"takes {self._dtype} {signature}, not float32 (N, H, W, 1)"
        if signature[1] != -1 or signature[2] != -1:
            return f"has the fixed size {signature[2]}×{signature[1]}"
        if self._dtype != np.float32 and not all(map(self._holds_codes, (self._inputs[0], self._outputs[0]))):
            return f"takes or gives {self._dtype} that are not code values"
        return None

    def resize(self, size: tuple[int, int]) -> None:
        """Prepare for pictures of (height, width)."""
        if self.size != size:
            self.size = None
            self._interpreter.resize_tensor_input(self._inputs[0]["index"], [1, *size, 1])
            self._interpreter.allocate_tensors()
            self.size = size

    def fill(self, luma: Luma, max_value: int) -> None:
        """Write a picture, padded to the size that is set."""
        view = self._view(self._inputs[0])[0, :, :, 0]
        if self._dtype == np.float32:
            fill_floats(luma, max_value, view)
        else:
            fill_codes(luma, max_value, view.view(np.uint8), self._flip)

    def invoke(self) -> None:
        self._interpreter.invoke()

    def result(self, luma: Luma, max_value: int, scale: int, out: Luma | None) -> Luma:
        """The code values that came out, copied from the interpreter's memory; see `to_codes`."""
        view = self._picture()
        assert self.size is not None
        if view.shape != (scale * self.size[0], scale * self.size[1]):
            raise BackendError(f"the network turned {self.size} into {view.shape}")
        if self._dtype == np.float32:
            return to_codes(view, luma, max_value, scale, out)
        return crop_codes(view.view(np.uint8), luma, scale, out, self._flip)

    def run(self, side: int) -> Any:
        """(2·side, 2·side), the network's result for a ramp, of its own type; a copy."""
        self.resize((side, side))
        self.fill(np.linspace(0, 255, side * side).reshape(side, side).astype(np.uint8), 255)
        self.invoke()
        return self._picture().copy()

    def accepts(self, side: int) -> bool:
        """Whether the network doubles side×side pixels."""
        try:
            with _quiet():
                return bool(self.run(side).shape == (2 * side, 2 * side))
        except (ValueError, RuntimeError):
            return False

    def _picture(self) -> Any:
        """(2H, 2W): the output in the interpreter's own memory, which must be let go before it runs again."""
        output = self._view(self._outputs[0])
        if output.ndim != 4 or output.shape[0] != 1 or output.shape[3] != 1 or output.dtype != self._dtype:
            raise ValueError(f"the output is {output.dtype} {output.shape}, not {self._dtype} (1, 2H, 2W, 1)")
        return output[0, :, :, 0]

    def _view(self, details: dict[str, Any]) -> Any:
        return self._interpreter.tensor(details["index"])()

    def _holds_codes(self, details: dict[str, Any]) -> bool:
        """Whether a tensor's real values are code values / 255."""
        scale, zero = details["quantization"]
        return abs(scale * 255 - 1) < 1e-3 and zero == (-128 if self._flip else 0)


def load(model: ModelFiles, precision: str, device: str | None, threads: int | None) -> TfliteBackend:
    """Open the TFLite file of `model`, which has it: see `upscale.backends.load`."""
    kind = FILES[TfliteBackend.name, precision]
    path = model.path(kind)
    assert path is not None
    multiple = model.config.multiple if model.config else None
    vet_tflite(path)
    data = blended(model, kind, blend_tflite)
    return TfliteBackend(
        path, data=data, multiple=multiple, precision=precision, device=device, threads=threads
    )


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


def vet_tflite(path: Path) -> None:
    """Load and run a file in a child process, unless it is bundled (its hash is known) or was tried before.

    LiteRT trusts what a file says of itself: a damaged or hostile one can end the process that loads it, and
    no check of ours replaces its own reading. In a child process only the trial dies.

    Raises:
        ModelError: it is no ×2 luma network, or the process that loaded it crashed or did not end.
    """
    path = path.resolve()
    if path.parent == weights_folder().resolve():
        return
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(error.strerror or str(error), path=str(path)) from error
    mark = str(path), found.st_size, found.st_mtime_ns
    if mark in _vetted:
        return
    try:
        done = run_module("upscale.backends.tflite", str(path), timeout=_VET_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ModelError("the network does not finish", path=str(path)) from None
    except OSError as error:
        raise ModelError(f"cannot be tried: {error.strerror}", path=str(path)) from error
    if done.returncode:
        why = done.stdout.strip() or "damaged: LiteRT crashes when it loads this model"
        raise ModelError(why, path=str(path))
    _vetted.add(mark)


def _main(path: str) -> int:
    try:
        TfliteBackend(Path(path), threads=1).close()
    except UpscaleError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
