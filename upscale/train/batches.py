"""Random training batches, reproducible from (seed, step) alone."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscale.train.dataset import CROP, Records

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Batch:
    """Augmented pairs.

    Attributes:
        low, high: (N, 1, P, P) and (N, 1, 2P, 2P) float32 code values / 255.
        low_chroma, high_chroma: (N, 2, P/2, P/2) and (N, 2, P, P) float32 code values / 255, of the
            decoded and of the true picture.
        low_before, high_before: luma of the frame before, as `low` and `high`; may be empty.
        gain, offset: (N, 1, 1, 1); luma of `low` and `high` was multiplied and shifted by these.
    """

    low: Tensor
    high: Tensor
    low_chroma: Tensor
    high_chroma: Tensor
    low_before: Tensor
    high_before: Tensor
    gain: Tensor
    offset: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f).to(device) for f in self.__slots__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How batches are drawn.

    Attributes:
        batch: crops of this process per step.
        patch: side of the low-resolution patches, a multiple of 2.
        mix: share of each of the crops' versions, summing to 1.
        levels: share of crops with another gain, offset or range.
        native: share of crops of clips as they are; None draws from all alike.
        first: number of this process's first crop in the whole step's batch.
        chroma, before: whether chroma and the frame before are needed; else those tensors are empty.
    """

    seed: int
    batch: int
    patch: int
    mix: Sequence[float]
    levels: float = 0.0
    native: float | None = None
    first: int = 0
    chroma: bool = True
    before: bool = False


@dataclass(frozen=True, slots=True)
class Pools:
    """Indices of the crops of clips as they are, and of all others; the share that the first ones get."""

    native: Indices
    others: Indices
    share: float

    @classmethod
    def of(cls, crops: Records, share: float | None) -> Pools | None:
        """None where all crops are drawn alike."""
        if share is None:
            return None
        native = np.asarray(crops["native"])
        return cls(np.flatnonzero(native), np.flatnonzero(~native), share)

    def draw(self, rng: np.random.Generator) -> int:
        """A crop's index: with probability `share` a native one's, unless one pool is empty."""
        pool = self.native if rng.random() < self.share else self.others
        if not len(pool):
            pool = self.others if pool is self.native else self.native
        return int(pool[rng.integers(len(pool))])


def make_batch(crops: Records, step: int, how: Sampler, pools: Pools | None = None) -> Batch:
    """One augmented batch; the same arguments always give the same batch.

    Crop k of a step does not depend on how many processes share it.

    Args:
        pools: of these crops and `how.native`; None finds them.
    """
    pools = pools or Pools.of(crops, how.native)
    n, p = how.batch, how.patch
    low, high = np.empty((n, 1, p, p), np.uint8), np.empty((n, 1, 2 * p, 2 * p), np.uint8)
    depth = n if how.chroma else 0
    low_chroma = np.empty((depth, 2, p // 2, p // 2), np.uint8)
    high_chroma = np.empty((depth, 2, p, p), np.uint8)
    pairs = n if how.before else 0
    low_before = np.empty((pairs, 1, p, p), np.uint8)
    high_before = np.empty((pairs, 1, 2 * p, 2 * p), np.uint8)
    gains = np.empty((n, 2), np.float32)
    for i in range(n):
        rng = np.random.default_rng((how.seed, step, how.first + i))
        which = pools.draw(rng) if pools else int(rng.integers(len(crops)))
        version = int(rng.choice(len(how.mix), p=how.mix))
        y, x = (2 * int(v) for v in rng.integers(0, (CROP // 2 - p) // 2 + 1, 2))
        turns, mirrored = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
        gains[i] = _levels(rng, how.levels)

        def cut(plane: np.ndarray, scale: float, turns: int = turns, mirrored: bool = mirrored,
                y: int = y, x: int = x) -> np.ndarray:  # fmt: skip
            side, top, left = int(p * scale), int(y * scale), int(x * scale)
            part = np.rot90(plane[..., top : top + side, left : left + side], turns, (-2, -1))
            return part[..., ::-1] if mirrored else part

        low[i, 0] = cut(crops["degraded"][which, version], 1)
        high[i, 0] = cut(crops["sharp"][which], 2)
        if how.chroma:
            low_chroma[i] = cut(crops["degraded_chroma"][which, version], 0.5)
            high_chroma[i] = cut(crops["sharp_chroma"][which], 1)
        if how.before:
            low_before[i, 0] = cut(crops["degraded_before"][which, version], 1)
            high_before[i, 0] = cut(crops["sharp_before"][which], 2)
    gain, offset = torch.from_numpy(gains)[:, :, None, None, None].unbind(1)

    def scaled(codes: np.ndarray) -> Tensor:
        return torch.from_numpy(codes).float().div_(255)

    def levelled(luma: np.ndarray) -> Tensor:
        return scaled(luma) * gain + offset if len(luma) else scaled(luma)

    return Batch(
        low=levelled(low),
        high=levelled(high),
        low_chroma=scaled(low_chroma),
        high_chroma=scaled(high_chroma),
        low_before=levelled(low_before),
        high_before=levelled(high_before),
        gain=gain,
        offset=offset,
    )


def _levels(rng: np.random.Generator, share: float) -> tuple[float, float]:
    """(gain, offset): full range, or a small change of contrast and brightness, or none."""
    u = rng.random()
    if u < share / 3:
        return 255 / 219, -16 / 219
    if u < share:
        return float(rng.uniform(0.85, 1.1)), float(rng.uniform(-0.03, 0.03))
    return 1.0, 0.0


def prefetch(crops: Records, how: Sampler, *, first: int, last: int, depth: int = 8) -> Iterator[Batch]:
    """Batches of steps first … last-1, made ahead in one thread while torch computes."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(depth)
    stop = threading.Event()
    pools = Pools.of(crops, how.native)

    def put(item: Batch | BaseException) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.2)
                return

    def produce() -> None:
        try:
            for step in range(first, last):
                if stop.is_set():
                    return
                put(make_batch(crops, step, how, pools))
        except BaseException as e:
            put(e)

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
