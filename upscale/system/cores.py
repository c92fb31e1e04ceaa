"""The processor: its name, its cores, and how a backend shares them between frames in flight."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass

#: More frames in flight cost memory (about 30 MB each at 640×360) and bring little.
MAX_WORKERS = 8


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, such as "AMD EPYC 7B13", or only its architecture where the system has none."""
    with (
        contextlib.suppress(OSError),
        open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file,
    ):
        for line in file:
            if line.startswith(("model name", "Model", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """Attributes:
    workers: calls of the backend that compute at the same time.
    per_call: the runtime's threads within one call.
    """

    workers: int
    per_call: int

    def __str__(self) -> str:
        frames = f"{self.workers} frame{'s' * (self.workers > 1)} at a time"
        return f"{frames}, {self.per_call} thread{'s' * (self.per_call > 1)} each"


def plan_threads(threads: int | None) -> ThreadPlan:
    """Divide `threads` (None: all cores) into frames in flight and threads per frame.

    One thread per frame gives more frames per second than all threads on one frame, because nothing
    waits at the end of each layer.
    """
    total = max(1, threads if threads is not None else cores())
    workers = min(total, MAX_WORKERS)
    return ThreadPlan(workers, total // workers)
