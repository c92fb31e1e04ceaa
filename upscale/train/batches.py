"""Random training batches, reproducible from (seed, step) alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscale.train.dataset import CROP, VERSIONS, CropSet


def make_batch(
    crops: CropSet, *, step: int, seed: int, batch: int, patch: int, mix: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """One augmented batch; the same arguments always give the same batch.

    Args:
        patch: side of the low-resolution patches.
        mix: share of each of `VERSIONS`, summing to 1.

    Returns:
        (batch, 1, patch, patch) and (batch, 1, 2·patch, 2·patch), uint8.
    """
    rng = np.random.default_rng((seed, step))
    low = np.empty((batch, 1, patch, patch), np.uint8)
    high = np.empty((batch, 1, 2 * patch, 2 * patch), np.uint8)
    room = CROP // 2 - patch
    for i, which in enumerate(rng.integers(0, len(crops), batch)):
        version = int(rng.choice(len(VERSIONS), p=mix))
        y, x = rng.integers(0, room + 1, 2)
        a = crops.degraded[which, version, y : y + patch, x : x + patch]
        b = crops.sharp[which, 2 * y : 2 * (y + patch), 2 * x : 2 * (x + patch)]
        turns, mirrored = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
        a, b = np.rot90(a, turns), np.rot90(b, turns)
        low[i, 0], high[i, 0] = (a[:, ::-1], b[:, ::-1]) if mirrored else (a, b)
    return torch.from_numpy(low), torch.from_numpy(high)


def prefetch(
    crops: CropSet, *, first: int, last: int, depth: int = 8, **how: Any
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of steps first … last-1, made ahead in one thread while torch computes."""
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException] = queue.Queue(depth)
    stop = threading.Event()

    def produce() -> None:
        try:
            for step in range(first, last):
                item = make_batch(crops, step=step, **how)
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
        except BaseException as e:
            ready.put(e)

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            got = ready.get()
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        stop.set()
        thread.join()
