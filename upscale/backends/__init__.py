"""Runtimes that run the network: one small file per product, loaded where used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from upscale.backends.variants import FILES, missing_file
from upscale.errors import BackendError, UsageError

if TYPE_CHECKING:
    from upscale.backends.base import Backend
    from upscale.model.weights import ModelFiles

#: Backend → (module with its `load`, packages of which one must be installed, how to get them).
_BACKENDS = {
    "onnx": ("upscale.backends.onnx", ("onnxruntime",), "pip install onnxruntime"),
    "torch": ("upscale.backends.pytorch", ("torch",), "pip install '.[torch]'"),
    "tflite": (
        "upscale.backends.tflite",
        ("ai_edge_litert", "tflite_runtime"),
        "pip install '.[tflite]'",
    ),
}

NAMES = tuple(_BACKENDS)


def available() -> dict[str, str | None]:
    """Each backend → None if its runtime is installed, else how to install it. Imports none of them."""
    return {
        name: None if any(_installed(package) for package in packages) else install
        for name, (_, packages, install) in _BACKENDS.items()
    }


def load(
    name: str,
    model: ModelFiles,
    *,
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Backend:
    """Open `model` in the runtime `name`.

    Args:
        precision: one of `upscale.backends.variants.PRECISIONS`; None is the most exact that the model has a
            file for. `upscale.backends.auto.choose` finds the fastest that is exact enough.
        device: where to compute; each backend names its own. None lets it choose.
        threads: processor threads in all, shared by the calls in flight. None is every core.

    Raises:
        UsageError: `name` is not in `NAMES`, or the partner to blend with is another network.
        BackendError: the runtime is not installed, or lacks the device or the precision.
        ModelError: the model has no file for this runtime, or a damaged one.
    """
    if name not in _BACKENDS:
        raise UsageError(f"no backend {name!r}; there are {', '.join(NAMES)}")
    if precision is None:
        precision = next((p for b, p in FILES if b == name and model.path(FILES[b, p]) is not None), "fp32")
    if (name, precision) not in FILES:
        raise BackendError(f"the {name} backend has no {precision}")
    if model.path(FILES[name, precision]) is None:
        raise missing_file(model, name, precision)
    module = importlib.import_module(_BACKENDS[name][0])
    backend: Backend = module.load(model, precision, device, threads)
    return backend


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
