"""The fastest way to run a network on this machine, measured once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale import backends
from upscale.backends import trial
from upscale.backends.trial import Outcome
from upscale.backends.variants import Variant, candidates, parse
from upscale.errors import BackendError, OutputError
from upscale.system.cores import cores, processor
from upscale.system.safe_file import write_whole

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

#: Backend → packages whose versions its speed depends on; several are onnxruntime for other devices.
_PACKAGES = {
    "onnx": (
        "onnxruntime",
        "onnxruntime-openvino",
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-rocm",
        "onnxruntime-silicon",
    ),
    "torch": ("torch",),
    "tflite": ("ai-edge-litert", "tflite-runtime"),
}
#: Trials use at most this many pixels: beyond, time grows with the pixels in every backend alike.
_MAX_TRIAL_PIXELS = 480 * 270
#: A faster variant is taken before a preferred one only if by more than this factor.
_MARGIN = 0.95


def choose(
    model: ModelFiles,
    height: int,
    width: int,
    *,
    backend: str = "auto",
    precision: str = "auto",
    bits: int = 8,
    device: str | None = None,
    threads: int | None = None,
) -> tuple[Variant, str]:
    """The fastest variant that is installed, is what was asked for, and is exact enough.

    The first call on a machine runs a few frames in each (about a second, and the time to start the
    runtimes in a process of their own); later calls read the answer from the cache. A variant that
    differs from fp32 by more than `upscale.backends.trial.RULES` allows is never taken.

    Args:
        height, width: the frames' size in pixels.
        backend: one of `upscale.backends.NAMES`, or "auto" for all of them.
        precision: one of `upscale.backends.variants.PRECISIONS`, or "auto" for all of them.
        bits: of the video's samples.
        device: where to compute; None is the processor and whatever else each runtime finds.

    Returns:
        The variant, and the reason with milliseconds per frame. If none works, the first one, whose
        `load` will say what is wrong. A single candidate in fp32 is taken unmeasured.

    Raises:
        UsageError: no such backend or precision, or one that this model or video cannot have.
        BackendError: no backend is installed that has a file of this model, or what was asked for makes
            other pictures on this machine.
        ModelError: the model has no file for the backend.
    """
    more_devices = device is None and _has_devices()
    found = candidates(
        model, backends.available(),
        backend=backend, precision=precision, bits=bits, device=device, more_devices=more_devices,
    )  # fmt: skip
    if len(found) == 1 and found[0].precision == "fp32" and not (more_devices and found[0].backend == "onnx"):
        return found[0], "the only one that is installed and that this model has a file for"
    key = _key(model, found, _size_class(height, width), bits, device, threads)
    entries = _read_cache()
    outcome = _valid(entries.get(key), found)
    measured = "measured earlier on this machine"
    if outcome is None:
        measured = "measured just now"
        outcome = trial.measure_in_subprocess(model, found, _trial_size(height, width), bits, threads)
        if outcome.refused and not outcome.times:
            raise BackendError(f"not on this machine: {_refusals(outcome)}", path=model.name)
        if not outcome.times:
            return found[0], "the trial of the backends failed"
        _write_cache({**entries, key: {"times": outcome.times, "refused": outcome.refused}})
    return _fastest(outcome.times, found), f"{measured}: {_describe(outcome)}"


def cache_path() -> Path:
    """Where the measurements are kept: ``backends.json`` in the user's cache folder.

    ``UPSCALE_CACHE_DIR`` names another folder.
    """
    chosen = os.environ.get("UPSCALE_CACHE_DIR")
    if chosen:
        return Path(chosen) / "backends.json"
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "upscale" / "backends.json"


def _fastest(times: dict[str, float], preferred: Sequence[Variant]) -> Variant:
    """The first preferred one of those that are about as fast as the fastest."""
    limit = min(times.values()) / _MARGIN
    for variant in preferred:
        if times.get(str(variant), float("inf")) <= limit:
            return variant
    return parse(min(times, key=times.__getitem__))


def _describe(outcome: Outcome) -> str:
    ordered = sorted(outcome.times.items(), key=lambda item: item[1])
    text = ", ".join(f"{name} {ms:.1f} ms" for name, ms in ordered) + " per frame"
    return "; ".join(filter(None, (text, _refusals(outcome))))


def _refusals(outcome: Outcome) -> str:
    return "; ".join(f"{name} {why} from fp32, too much" for name, why in outcome.refused.items())


def _has_devices() -> bool:
    """Whether onnxruntime may have more devices than the processor, which only the trial can ask it."""
    return sys.platform == "darwin" or any(_version(package) for package in _PACKAGES["onnx"][1:])


def _trial_size(height: int, width: int) -> tuple[int, int]:
    shrink = min(1.0, (_MAX_TRIAL_PIXELS / (height * width)) ** 0.5)
    rows = max(1, min(round(height * shrink), _MAX_TRIAL_PIXELS))
    return rows, max(1, min(round(width * shrink), _MAX_TRIAL_PIXELS // rows))


def _size_class(height: int, width: int) -> int:
    """Sizes within a factor of two share one measurement."""
    return min(height * width, _MAX_TRIAL_PIXELS).bit_length()


def _key(
    model: ModelFiles,
    found: Sequence[Variant],
    size_class: int,
    bits: int,
    device: str | None,
    threads: int | None,
) -> str:
    """A hash of everything that the measurement depends on."""
    packages = ["upscale", *(p for name in dict.fromkeys(v.backend for v in found) for p in _PACKAGES[name])]
    versions = {package: version for package in packages if (version := _version(package))}
    parts = [platform.machine(), processor(), cores(), sys.version_info[:2], versions]
    parts += [sorted(model.sha256.items()), [str(variant) for variant in found], model.partner is not None]
    parts += [size_class, bits, device, threads]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _valid(entry: Any, found: Sequence[Variant]) -> Outcome | None:
    """The cached outcome, if it is what a trial of these variants returns."""
    try:
        times, refused = entry["times"], entry["refused"]
        for name, ms in times.items():
            variant = parse(name)
            known = any((v.backend, v.precision) == (variant.backend, variant.precision) for v in found)
            if not known or not isinstance(ms, float):
                return None
        return Outcome(dict(times), {str(k): str(why) for k, why in refused.items()}) if times else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _read_cache() -> dict[str, Any]:
    try:
        entries = json.loads(cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write_cache(entries: dict[str, Any]) -> None:
    """Replace the cache in one step; a folder that cannot be written only costs the next measurement."""
    path = cache_path()
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(entries, indent=1))
