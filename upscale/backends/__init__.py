"""Runtimes that run the network: one small file per product, loaded where used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.backends.base import Backend
    from upscale.model.weights import ModelFiles

#: Backend → (module with its `load`, packages of which one must be installed, how to get them).
_BACKENDS = {
    "onnx": ("upscale.backends.onnx", ("onnxruntime",), "pip install onnxruntime"),
    "torch": ("upscale.backends.pytorch", ("torch",), "pip install 'upscale[torch]'"),
    "tflite": (
        "upscale.backends.tflite",
        ("ai_edge_litert", "tflite_runtime"),
        "pip install 'upscale[tflite]'",
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
        UsageError: `name` is not in `NAMES`, or the backend has no such precision.
        BackendError: the runtime is not installed, or lacks the device, or the device the precision.
        ModelError: the model has no file for this runtime, or a damaged one.
    """
    if name not in _BACKENDS:
        raise UsageError(f"no backend {name!r}; there are {', '.join(NAMES)}")
    module = importlib.import_module(_BACKENDS[name][0])
    backend: Backend = module.load(model, precision=precision, device=device, threads=threads)
    return backend


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
