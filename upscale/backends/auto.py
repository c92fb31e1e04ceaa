"""The fastest way to run a network on this machine, measured and remembered.

A race is repeated, at most `_MAX_RACES` times in all, if it was run while the machine was busy, or if a job
has computed much slower than it predicted (`watched`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale import backends
from upscale.backends import trial
from upscale.backends.trial import Outcome
from upscale.backends.variants import Variant, candidates, parse
from upscale.errors import BackendError, OutputError
from upscale.system.closing import Closing
from upscale.system.cores import cores, plan_threads, processor
from upscale.system.safe_file import write_whole

if TYPE_CHECKING:
    from upscale.backends.base import Backend, Luma
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
#: A faster variant is taken before a preferred one only if that takes longer by more than this share, or by
#: more than the rounds' spread where that is larger, up to a bound.
_TIE, _MAX_TIE = 0.05, 0.1
#: Races of one question until its answer counts whatever it was measured under.
_MAX_RACES = 3
#: How many times the predicted processor time a job may take, and frames after which that is judged.
_SLOW, _JUDGED = 1.6, 50

#: In this process: (weights, variant) → key in the cache, and predicted seconds of processor time per pixel.
_predicted: dict[tuple[str, Variant], tuple[str, float]] = {}
#: Why each choice of this process was made, until somebody asks.
_reasons: list[str] = []


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
        The variant, and the reason with milliseconds per frame (also in `pop_reasons`). If none works, the
        first one, whose `load` will say what is wrong. A single candidate in fp32 is taken unmeasured.

    Raises:
        UsageError: no such backend or precision, or one that this model or video cannot have.
        BackendError: no backend is installed that has a file of this model, or what was asked for changes
            the picture too much on this machine.
        ModelError: the model has no file for the backend.
    """
    more_devices = device is None and _has_devices()
    found = candidates(
        model, backends.available(),
        backend=backend, precision=precision, bits=bits, device=device, more_devices=more_devices,
    )  # fmt: skip
    if len(found) == 1 and found[0].precision == "fp32" and not (more_devices and found[0].backend == "onnx"):
        return found[0], "the only one that is installed and that this model has a file for"
    size = _trial_size(height, width)
    key = _key(model, found, _size_class(height, width), bits, device, threads)
    race, when = _raced(key, model, found, size, bits, threads)
    if not race.outcome.times:
        return found[0], "the trial of the backends failed"
    chosen = _fastest(race.outcome, found)
    plan = plan_threads(threads)
    if plan.per_call == 1:
        seconds = race.outcome.times[str(chosen)] / 1000 * plan.workers
        _predicted[_name(model), chosen] = key, seconds / (size[0] * size[1])
    reason = f"measured {when}: {race.describe()}"
    _reasons.append(f"{race.question}: {chosen}, {reason}")
    return chosen, reason


def _raced(
    key: str,
    model: ModelFiles,
    found: Sequence[Variant],
    size: tuple[int, int],
    bits: int,
    threads: int | None,
) -> tuple[Race, str]:
    """The race of these variants, remembered or run now, and when it was."""
    entries = _read_cache()
    race = _remembered(entries.get(key), found)
    if race is not None and (not race.doubtful or race.races >= _MAX_RACES):
        return race, "earlier on this machine"
    outcome = trial.measure_in_subprocess(model, found, size, bits, threads)
    if outcome.refused and not outcome.times:
        raise BackendError(f"not on this machine: {_refusals(outcome)}", path=model.name)
    if not outcome.times and race is not None:
        return race, "earlier on this machine"
    race = Race(f"{model.name}, {size[1]}x{size[0]}, {bits} bit", outcome).after(race)
    if outcome.times:
        _write_cache({**entries, key: race.to_json()})
    return race, "just now"


@dataclass(frozen=True, slots=True)
class Race:
    """One entry of the cache.

    Attributes:
        question: model, size of the frames and bit depth, human-readable.
        races: how often it was run.
        slow: a job was slower than predicted since then.
    """

    question: str
    outcome: Outcome
    races: int = 1
    slow: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether the answer should be checked again."""
        return self.slow or self.outcome.busy

    def after(self, earlier: Race | None) -> Race:
        """This race as a repetition of another: the least times of both, unless those were too good."""
        if earlier is None:
            return self
        outcome = self.outcome
        if not earlier.slow:
            times, spread = dict(outcome.times), dict(outcome.spread)
            for name, ms in earlier.outcome.times.items():
                if name in times and ms < times[name]:
                    times[name], spread[name] = ms, earlier.outcome.spread[name]
            outcome = replace(outcome, times=times, spread=spread)
        return replace(self, outcome=outcome, races=earlier.races + 1)

    def describe(self) -> str:
        """The times, fastest first, what was refused, and whether the answer is in doubt."""
        ordered = sorted(self.outcome.times.items(), key=lambda item: item[1])
        text = ", ".join(f"{name} {ms:.1f} ms" for name, ms in ordered) + " per frame"
        doubt = "a job was slower" if self.slow else "the machine was busy"
        again = f"{doubt}: raced again next time" if self.doubtful and self.races < _MAX_RACES else ""
        return "; ".join(filter(None, (text, _refusals(self.outcome), again)))

    def to_json(self) -> dict[str, Any]:
        return {
            "question": self.question, "races": self.races, "slow": self.slow, **asdict(self.outcome)
        }  # fmt: skip

    @classmethod
    def from_json(cls, entry: Any) -> Race | None:
        """What `to_json` returned; None for anything else."""
        try:
            outcome = Outcome.from_json(entry)
            return cls(str(entry["question"]), outcome, int(entry["races"]), bool(entry["slow"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def races() -> list[Race]:
    """Every race that is remembered on this machine."""
    return [race for entry in _read_cache().values() if (race := Race.from_json(entry)) is not None]


def pop_reasons() -> list[str]:
    """Why this process has chosen what it chose since the last call, a line each."""
    found = _reasons.copy()
    _reasons.clear()
    return found


class Watched(Closing):
    """A backend whose processor time is compared with what its race predicted; see `watched`."""

    def __init__(self, backend: Backend, key: str, predicted: float) -> None:
        self.name, self.description = backend.name, backend.description
        self.precision, self.scale = backend.precision, backend.scale
        self._backend = backend
        self._key, self._predicted = key, predicted
        self._lock = threading.Lock()
        self._calls, self._seconds, self._pixels = 0, 0.0, 0

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        begun = time.thread_time()
        result = self._backend(luma, max_value, out)
        seconds = time.thread_time() - begun
        if luma.size >= _MAX_TRIAL_PIXELS // 2:  # small parts cost more per pixel
            with self._lock:
                self._calls += 1
                self._seconds += seconds
                self._pixels += luma.size
        return result

    def close(self) -> None:
        self._backend.close()
        if self._calls >= _JUDGED and self._seconds > _SLOW * self._predicted * self._pixels:
            entries = _read_cache()
            if (race := Race.from_json(entries.get(self._key))) is not None and not race.slow:
                _write_cache({**entries, self._key: replace(race, slow=True).to_json()})


def watched(backend: Backend, model: ModelFiles, variant: Variant) -> Backend:
    """A loaded backend that is raced again next time if it computes much slower than `choose` predicted.

    As it is, where `choose` has not measured the variant in this process, or calls use several threads.
    """
    predicted = _predicted.get((_name(model), variant))
    return backend if predicted is None else Watched(backend, *predicted)


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


def _fastest(outcome: Outcome, preferred: Sequence[Variant]) -> Variant:
    """The first preferred one of those that are about as fast as the fastest."""
    best = min(outcome.times, key=outcome.times.__getitem__)
    for variant in preferred:
        name = str(variant)
        if name in outcome.times:
            tie = max(_TIE, min(_MAX_TIE, outcome.spread[best], outcome.spread[name]))
            if outcome.times[name] <= outcome.times[best] * (1 + tie):
                return variant
    return parse(best)


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


def _name(model: ModelFiles) -> str:
    """Which weights these are."""
    return f"{sorted(model.sha256.items())} {model.strength}"


def _remembered(entry: Any, found: Sequence[Variant]) -> Race | None:
    """The cached race, if it is one of these variants."""
    race = Race.from_json(entry)
    known = {(v.backend, v.precision) for v in found}
    if race is None or not race.outcome.times:
        return None
    return race if all((v.backend, v.precision) in known for v in map(parse, race.outcome.times)) else None


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
