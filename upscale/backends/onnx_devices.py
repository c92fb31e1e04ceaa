"""Where onnxruntime can compute: its execution providers, and how each is opened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from upscale.errors import BackendError

if TYPE_CHECKING:
    from upscale.system.cores import ThreadPlan

#: Values of `device`, and onnxruntime's name for each. The CPU also takes what a device cannot.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "acl": "ACLExecutionProvider",
}
#: Precisions that a device makes of the fp32 file by itself, besides fp32.
_LOWER = {"openvino": ("bf16",)}


def present() -> list[str]:
    """The devices of the onnxruntime that is installed, by our names.

    Raises:
        BackendError: none is installed.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise BackendError("the onnx backend needs onnxruntime: pip install onnxruntime") from e
    there = onnxruntime.get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider in there]


def others(precision: str) -> list[str]:
    """The devices besides the CPU that a candidate of this precision can be tried on."""
    try:
        devices = [name for name in present() if name != "cpu"]
    except BackendError:
        return []
    return [d for d in devices if precision in ("fp32", "int8", *_LOWER.get(d, ()))]


def provider(device: str | None, precision: str, plan: ThreadPlan) -> tuple[str, dict[str, Any]]:
    """onnxruntime's name and options for a device (None is the CPU).

    Raises:
        BackendError: it has no such device here, or not in this precision.
    """
    device = device or "cpu"
    if device not in present():
        raise BackendError(f"onnxruntime has no device {device!r} here; it has {', '.join(present())}")
    if precision not in ("fp32", "int8", *_LOWER.get(device, ())):
        raise BackendError(f"the onnx backend has no {precision} on {device}")
    options: dict[str, Any] = {}
    if device == "openvino":
        hint = "bf16" if precision == "bf16" else "f32"
        options = {
            "device_type": "CPU",
            "num_of_threads": str(plan.workers * plan.per_call),
            "num_streams": str(plan.workers),
            "load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": hint}}),
        }
    elif device == "cuda":
        options = {"use_tf32": "0"}  # it keeps 10 bits of a product: too few for 10-bit video
    return PROVIDERS[device], options
