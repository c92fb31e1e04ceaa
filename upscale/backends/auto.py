"""The fastest backend of this machine, measured once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale import backends
from upscale.backends import trial
from upscale.backends.threads import cores
from upscale.errors import BackendError

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

#: Backend → the files it runs, and the packages whose versions its speed depends on.
_NEEDS = {
    "onnx": ("onnx", ("onnxruntime",)),
    "torch": ("safetensors", ("torch",)),
    "tflite": ("tflite", ("ai-edge-litert", "tflite-runtime")),
}
#: Trials use at most this many pixels: beyond, time grows with the pixels in every backend alike.
_MAX_TRIAL_PIXELS = 480 * 270
#: Fastest first only if by more than this factor: onnxruntime starts sooner than the others.
_MARGIN = 0.95


def choose(
    model: ModelFiles, height: int, width: int, *, device: str | None = None, threads: int | None = None
) -> tuple[str, str]:
    """The fastest backend that is installed, has a file of `model` and, if asked, has `device`.

    The first call on a machine runs a few frames in each (half a second, and the time to start
    the runtimes in a process of their own); later calls read the answer from the cache.

    Args:
        height, width: the frames' size in pixels.

    Returns:
        The backend's name, and the reason with milliseconds per frame. If no backend works, the
        first one, whose `load` will say what is wrong.

    Raises:
        BackendError: no backend is installed that has a file of this model.
    """
    candidates = _candidates(model)
    if not candidates:
        raise BackendError(
            f"no installed backend can run {model.name}: pip install 'upscale[all]'", path=model.name
        )
    if len(candidates) == 1:
        return candidates[0], "the only backend that is installed and has a file of this model"
    key = _key(model, candidates, _size_class(height, width), device, threads)
    entries = _read_cache()
    times = _valid(entries.get(key), candidates)
    measured = "measured earlier on this machine"
    if times is None:
        measured = "measured just now"
        times = trial.measure_apart(model, candidates, _trial_size(height, width), device, threads)
        if not times:
            return candidates[0], "the trial of the backends failed"
        _write_cache({**entries, key: times})
    return _fastest(times), f"{measured}: {_describe(times)}"


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


def _candidates(model: ModelFiles) -> list[str]:
    missing = backends.available()
    return [name for name, (kind, _) in _NEEDS.items() if missing[name] is None and model.path(kind)]


def _fastest(times: dict[str, float]) -> str:
    best = min(times, key=times.__getitem__)
    if best != "onnx" and "onnx" in times and times[best] > _MARGIN * times["onnx"]:
        return "onnx"
    return best


def _describe(times: dict[str, float]) -> str:
    ordered = sorted(times.items(), key=lambda item: item[1])
    return ", ".join(f"{name} {ms:.1f} ms" for name, ms in ordered) + " per frame"


def _trial_size(height: int, width: int) -> tuple[int, int]:
    shrink = min(1.0, (_MAX_TRIAL_PIXELS / (height * width)) ** 0.5)
    rows = max(1, min(round(height * shrink), _MAX_TRIAL_PIXELS))
    return rows, max(1, min(round(width * shrink), _MAX_TRIAL_PIXELS // rows))


def _size_class(height: int, width: int) -> int:
    """Sizes within a factor of two share one measurement."""
    return min(height * width, _MAX_TRIAL_PIXELS).bit_length()


def _key(
    model: ModelFiles, candidates: list[str], size_class: int, device: str | None, threads: int | None
) -> str:
    """A hash of everything that the measurement depends on."""
    versions = {}
    for package in ("upscale", *(p for name in candidates for p in _NEEDS[name][1])):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    parts = [_processor(), cores(), sys.version_info[:2], versions, sorted(model.sha256.items())]
    parts += [candidates, size_class, device, threads]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()}"


def _valid(entry: Any, candidates: list[str]) -> dict[str, float] | None:
    """The cached times if they are what `_measure` returns."""
    if not isinstance(entry, dict) or not entry:
        return None
    if not all(name in candidates and isinstance(ms, float) for name, ms in entry.items()):
        return None
    return entry


def _read_cache() -> dict[str, Any]:
    try:
        entries = json.loads(cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write_cache(entries: dict[str, Any]) -> None:
    """Replace the cache in one step; a folder that cannot be written only costs the next measurement."""
    path = cache_path()
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".backends.", suffix=".part", delete=False
        ) as file:
            temporary = file.name
            json.dump(entries, file, indent=1)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
