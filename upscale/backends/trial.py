"""Races backends against each other in a process of their own.

There a runtime may crash (a wheel for another processor), and what it loads goes away with it:
PyTorch alone would double the memory of the job that only wants to know whether to use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale import backends
from upscale.backends.threads import plan_threads
from upscale.errors import UpscaleError
from upscale.model.config import GeneratorConfig
from upscale.model.weights import KINDS, ModelFiles

if TYPE_CHECKING:
    from upscale.backends.base import Backend

#: Seconds of computing after which no further round begins.
_TRIAL_SECONDS = 0.3
_MAX_ROUNDS = 8
#: The whole process, with a slow disk's time to import PyTorch.
_TIMEOUT = 60.0


def measure_apart(
    model: ModelFiles,
    candidates: Sequence[str],
    size: tuple[int, int],
    device: str | None,
    threads: int | None,
) -> dict[str, float]:
    """`measure` in a process of its own; empty if that process fails."""
    task = {
        "model": {"name": model.name, "config": asdict(model.config) if model.config else None},
        "paths": {kind: str(path.resolve()) for kind in KINDS if (path := model.path(kind))},
        "race": {"candidates": list(candidates), "size": size, "device": device, "threads": threads},
    }
    # -P and this path make the child import this very package, and nothing from the current folder.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "upscale.backends.trial"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            env=environment,
            check=True,
        )
        times = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    return {str(name): float(ms) for name, ms in times.items()}


def measure(
    model: ModelFiles,
    candidates: Sequence[str],
    size: tuple[int, int],
    device: str | None,
    threads: int | None,
) -> dict[str, float]:
    """Milliseconds per frame of each candidate that works, with all cores busy.

    Args:
        size: (height, width) of the frames.
    """
    frame = np.random.default_rng(0).integers(16, 236, size, dtype=np.uint8)
    workers = plan_threads(threads).workers
    working: dict[str, Backend] = {}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        for name in candidates:
            with contextlib.suppress(UpscaleError):
                backend = backends.load(name, model, device=device, threads=threads)
                stack.callback(backend.close)
                _round(backend, frame, pool, workers)  # allocates, chooses kernels
                working[name] = backend
        return _race(working, frame, pool, workers)


def _race(
    working: Mapping[str, Backend], frame: np.ndarray, pool: ThreadPoolExecutor, workers: int
) -> dict[str, float]:
    """Milliseconds per frame: the best of rounds in turn, so that other load hits all alike."""
    times = dict.fromkeys(working, float("inf"))
    begun = time.perf_counter()
    for _ in range(_MAX_ROUNDS):
        for name, backend in working.items():
            times[name] = min(times[name], 1000 * _round(backend, frame, pool, workers) / workers)
        if time.perf_counter() - begun > _TRIAL_SECONDS:
            break
    return times


def _round(backend: Backend, frame: np.ndarray, pool: ThreadPoolExecutor, workers: int) -> float:
    """Seconds for `workers` frames in flight at once."""
    before = time.perf_counter()
    list(pool.map(lambda _: backend(frame), range(workers)))
    return time.perf_counter() - before


def _main() -> None:
    """Read a task of `measure_apart` from stdin, write the times to stdout."""
    task: dict[str, Any] = json.load(sys.stdin)
    config, race = task["model"]["config"], task["race"]
    paths: dict[str, Any] = {kind: Path(path) for kind, path in task["paths"].items()}
    model = ModelFiles(task["model"]["name"], GeneratorConfig(**config) if config else None, **paths)
    times = measure(model, race["candidates"], tuple(race["size"]), race["device"], race["threads"])
    sys.stdout.write("\n" + json.dumps(times) + "\n")


if __name__ == "__main__":
    _main()
