"""Races variants of a network against each other in a process of their own.

There a runtime may crash (a wheel for another processor), and what it loads goes away with it:
PyTorch alone would double the memory of the job that only wants to know whether to use it.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale import backends
from upscale.backends.base import psnr_of_error
from upscale.backends.variants import FILES, Variant, parse
from upscale.errors import UpscaleError
from upscale.model.config import GeneratorConfig
from upscale.model.weights import KINDS, ModelFiles
from upscale.system.child import run_module
from upscale.system.cores import plan_threads

if TYPE_CHECKING:
    from upscale.backends.base import Backend, Luma
    from upscale.system.cores import ThreadPlan

#: Rounds of the race, and seconds of computing after which no further one begins, once there were enough.
_MIN_ROUNDS, _MAX_ROUNDS = 3, 12
_TRIAL_SECONDS = 0.6
#: The whole process, with a slow disk's time to import PyTorch.
_TIMEOUT = 60.0
#: Share of the processor that the race must have had; with less, something else was running.
_IDLE = 0.75
#: Devices that compute beside the processor, as the backends' descriptions name them.
_DEVICES = {"cuda", "rocm", "coreml", "directml", "mps"}
#: Windows counts a process's time in steps of 16 ms, which are longer than a round.
_COUNTS_CPU = time.get_clock_info("process_time").resolution < 1e-3


@dataclass(frozen=True, slots=True)
class Rule:
    """How far a variant may be from fp32 on the probe.

    Attributes:
        mean, largest: of the absolute difference, in code values of the video's depth.
        psnr: in dB at that depth.
    """

    mean: float
    largest: float = float("inf")
    psnr: float = 0.0

    def broken(self, expected: Luma, got: Luma, max_value: int) -> str | None:
        """In which way two pictures differ too much, or None."""
        if expected.shape != got.shape:
            return f"differs in shape, {got.shape} for {expected.shape},"
        error = np.abs(expected.astype(np.int32) - got)
        mean, largest = float(error.mean()), int(error.max())
        psnr = psnr_of_error(float(np.mean(error.astype(np.float64) ** 2)), max_value)
        if mean <= self.mean and largest <= self.largest and psnr >= self.psnr:
            return None
        return f"differs by {mean:.2f} code values on average, {largest} at most, {psnr:.1f} dB"


#: Precision → what it must keep to. fp32 differs between runtimes and devices in roundings only. int8 rounds
#: every layer: single pixels of steep edges move by several code values where nothing is seen, so its rule is
#: the mean and the exporter's 45 dB, an error below that of any encoder setting of ours (libx264 at CRF 19
#: leaves 39 to 44 dB on the samples). A kernel that saturates, as some do without VNNI, fails both.
RULES = {
    "fp32": Rule(mean=0.25, largest=1),
    "bf16": Rule(mean=1, largest=3),
    "fp16": Rule(mean=1, largest=3),
    "int8": Rule(mean=1, psnr=45),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial found; names are those of `Variant`.

    Attributes:
        times: milliseconds per frame of each variant that works and is exact enough, the least of all rounds:
            processor time over the cores that compute, which other load does not change; wall-clock time of
            what computes on another device.
        refused: in which way each other variant that works differs too much from fp32.
        spread: how far the median of a variant's rounds lies above its `times`, as a share of it.
        busy: other processes had part of the processor meanwhile.
    """

    times: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    busy: bool = False

    @classmethod
    def from_json(cls, entry: Any) -> Outcome:
        """The outcome that `dataclasses.asdict` turned into this, which may have more keys.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none.
        """
        times = {str(parse(name)): float(ms) for name, ms in entry["times"].items()}
        spread = {name: float(entry["spread"][name]) for name in times}
        refused = {str(name): str(why) for name, why in entry["refused"].items()}
        return cls(times, refused, spread, bool(entry["busy"]))


def measure_in_subprocess(
    model: ModelFiles, candidates: Sequence[Variant], size: tuple[int, int], bits: int, threads: int | None
) -> Outcome:
    """`measure` in a process of its own; empty if that process fails."""
    partner = model.partner
    task = {
        "model": _described(model),
        "partner": None if partner is None else _described(partner),
        "race": {"candidates": [str(v) for v in candidates], "size": size, "bits": bits, "threads": threads},
    }
    try:
        done = run_module("upscale.backends.trial", timeout=_TIMEOUT, input=json.dumps(task))
        done.check_returncode()
        return Outcome.from_json(json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError, AttributeError):
        return Outcome()


def measure(
    model: ModelFiles, candidates: Sequence[Variant], size: tuple[int, int], bits: int, threads: int | None
) -> Outcome:
    """Run each candidate with all cores busy, and those devices that onnxruntime has besides.

    Args:
        size: (height, width) of the frames.
        bits: of their samples.
    """
    picture, most = probe(bits), (1 << bits) - 1
    repeats = -(-size[0] // picture.shape[0]), -(-size[1] // picture.shape[1])
    frame: Any = np.tile(picture, repeats)[: size[0], : size[1]]
    workers = plan_threads(threads).workers
    refused: dict[str, str] = {}
    working: dict[str, Backend] = {}
    expected = _exact(model, picture, most, threads)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        for variant in _with_devices(candidates):
            with contextlib.suppress(UpscaleError):
                backend = _load(variant, model, threads)
                stack.callback(backend.close)
                got = backend(picture, most)
                if expected is not None and (why := RULES[variant.precision].broken(expected, got, most)):
                    refused[str(variant)] = why
                    continue
                _round(backend, frame, most, pool, workers)  # allocates, chooses kernels
                working[str(variant)] = backend
        return replace(_race(working, frame, most, pool, plan_threads(threads)), refused=refused)


def probe(bits: int = 8) -> Luma:
    """(270, 480) uint8, or uint16 for more than 8 bits: luma of three real clips side by side.

    A bee on a flower, a face in front of a room, and a keyboard, 360p H.264 (`samples/README.md`). The bits
    that the clips lack come from a pattern, so that all code values occur.
    """
    with np.load(Path(__file__).with_name("probe.npz")) as stored:
        luma = stored["luma"].astype(np.uint8)
    if bits <= 8:
        return luma
    pattern = np.arange(luma.shape[1], dtype=np.uint32) * 40503 % (1 << (bits - 8))
    return ((luma.astype(np.uint32) << (bits - 8)) + pattern).astype(np.uint16)


def _exact(model: ModelFiles, picture: Luma, most: int, threads: int | None) -> Luma | None:
    """The model's result for the picture in fp32; None if it has no such file that runs here."""
    for (name, precision), kind in FILES.items():
        if precision == "fp32" and model.path(kind) is not None:
            variant = Variant(name, precision, "cpu")
            with contextlib.suppress(UpscaleError), _load(variant, model, threads) as backend:
                return backend(picture, most)
    return None


def _load(variant: Variant, model: ModelFiles, threads: int | None) -> Backend:
    return backends.load(
        variant.backend, model, precision=variant.precision, device=variant.device, threads=threads
    )


def _with_devices(candidates: Sequence[Variant]) -> list[Variant]:
    """The candidates, and those of onnxruntime on every other device that this build of it has."""
    from upscale.backends.onnx_devices import others

    more = [
        Variant(v.backend, v.precision, device)
        for v in candidates
        if v.backend == "onnx" and v.device is None
        for device in others(v.precision)
    ]
    return [*candidates, *more]


def _race(
    working: Mapping[str, Backend], frame: Luma, most: int, pool: ThreadPoolExecutor, plan: ThreadPlan
) -> Outcome:
    """Short rounds of all in turn, so that other load hits all alike."""
    rounds: dict[str, list[float]] = {name: [] for name in working}
    shares = []
    threads = plan.workers * plan.per_call
    begun = time.perf_counter()
    for number in range(_MAX_ROUNDS):
        if number >= _MIN_ROUNDS and time.perf_counter() - begun > _TRIAL_SECONDS:
            break
        for name, backend in working.items():
            wall, cpu = _round(backend, frame, most, pool, plan.workers)
            if _COUNTS_CPU and not _DEVICES & {*backend.description.split()}:
                shares.append(cpu / (wall * threads))
                wall = cpu / threads
            rounds[name].append(1000 * wall / plan.workers)
    times = {name: min(values) for name, values in rounds.items()}
    spread = {name: statistics.median(rounds[name]) / best - 1 for name, best in times.items()}
    return Outcome(times, spread=spread, busy=bool(shares) and statistics.median(shares) < _IDLE)


def _round(
    backend: Backend, frame: Luma, most: int, pool: ThreadPoolExecutor, workers: int
) -> tuple[float, float]:
    """Seconds of wall-clock and of processor time for `workers` frames in flight at once."""
    wall, cpu = time.perf_counter(), time.process_time()
    list(pool.map(lambda _: backend(frame, most), range(workers)))
    return time.perf_counter() - wall, time.process_time() - cpu


def _described(model: ModelFiles) -> dict[str, Any]:
    """A model as JSON."""
    paths = {kind: str(path.resolve()) for kind in KINDS if (path := model.path(kind))}
    config = asdict(model.config) if model.config else None
    return {"name": model.name, "config": config, "strength": model.strength, "paths": paths}


def _model(described: dict[str, Any], partner: ModelFiles | None) -> ModelFiles:
    """The model that `_described` turned into this."""
    config, strength = described["config"], described["strength"]
    paths: dict[str, Any] = {kind: Path(path) for kind, path in described["paths"].items()}
    shape = GeneratorConfig(**config) if config else None
    return ModelFiles(described["name"], shape, strength=strength, partner=partner, **paths)


def _main() -> None:
    """Read a task of `measure_in_subprocess` from stdin, write the outcome to stdout."""
    task: dict[str, Any] = json.load(sys.stdin)
    race = task["race"]
    partner = _model(task["partner"], None) if task["partner"] else None
    candidates = [parse(name) for name in race["candidates"]]
    size = race["size"][0], race["size"][1]
    model = _model(task["model"], partner)
    outcome = measure(model, candidates, size, race["bits"], race["threads"])
    sys.stdout.write("\n" + json.dumps(asdict(outcome)) + "\n")


if __name__ == "__main__":
    _main()
