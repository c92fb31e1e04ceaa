"""How a backend shares the processor between frames in flight."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: More frames in flight cost memory (about 30 MB each at 640×360) and bring little.
MAX_WORKERS = 8


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
