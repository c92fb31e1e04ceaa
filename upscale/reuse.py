"""Computes only what changed since the last frame: the rest of its output is copied."""

from __future__ import annotations

import threading
from bisect import bisect_left
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from upscale.backends.base import Backend, Luma
from upscale.model.complexity import complexity
from upscale.model.config import GeneratorConfig
from upscale.tiles import WORTHWHILE, Box, Crop, changed_blocks, cover

#: Sides of crops in pixels: few, because runtimes prepare for each new shape. Even, for `Reach.multiple`.
SIDES = (48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536)


@dataclass(frozen=True, slots=True)
class Reach:
    """What must be known of a network to compute a part of its output.

    Attributes:
        border: how far the effect of an input pixel reaches, in pixels.
        multiple: crops must begin at a multiple of it: 1 or 2.
    """

    border: int
    multiple: int

    @classmethod
    def of(cls, config: GeneratorConfig) -> Reach:
        """The reach of a generator of this shape."""
        side = complexity(config).receptive_field
        return cls((side - config.unshuffle) // 2, config.unshuffle)


class Reuse:
    """A backend's call that repeats its last output where the input's samples are those of the last call.

    The result is the same, bit for bit, as the backend's for the whole plane. That a runtime computes a
    pixel alike in a crop and in the whole is checked here for each shape of crop before it is used.

    Calls may overlap: each is compared with the one that began before it, and waits for that one's output
    only where it needs it.
    """

    def __init__(self, backend: Backend, reach: Reach) -> None:
        self._backend = backend
        self._reach = reach
        self._check = _Check(backend, reach)
        self._lock = threading.Lock()
        self._last: _Call | None = None
        self._pixels = 0
        self._computed = 0

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        """As `upscale.backends.base.Backend`; neither `luma` nor the result may be written to afterwards.

        The result can be the array that an earlier call returned.
        """
        call = _Call(luma, max_value)
        with self._lock:
            before, self._last = self._last, call
        try:
            crops = self._crops(before, call) if before is not None else None
            if before is None or crops is None:
                result = self._backend(luma, max_value, out)
            else:
                result = self._patched(before, call, crops, out)
        except BaseException as error:  # whoever waits for this output must not wait forever
            call.output.set_exception(error)
            raise
        call.output.set_result(result)
        computed = luma.size if crops is None else sum(crop.target.area for crop in crops)
        with self._lock:
            self._pixels += luma.size
            self._computed += min(computed, luma.size)
        return result

    @property
    def counts(self) -> tuple[int, int]:
        """Pixels of all inputs so far, and how many of them the network had to compute."""
        with self._lock:
            return self._pixels, self._computed

    def _crops(self, before: _Call, call: _Call) -> list[Crop] | None:
        """What must be computed again; None is everything."""
        if not before.comparable(call):
            return None
        shape = call.luma.shape
        crops = cover(changed_blocks(before.luma, call.luma), self._reach.border, *shape)
        if not crops:
            return crops
        fitted = [crop for crop in (self._fitted(c, *shape) for c in crops) if crop is not None]
        cost = sum(crop.source.area for crop in fitted)
        return fitted if len(fitted) == len(crops) and cost < WORTHWHILE * call.luma.size else None

    def _fitted(self, crop: Crop, height: int, width: int) -> Crop | None:
        """The crop with a source that has one of the shapes that are known to be exact; None without one."""
        heights, widths = _sides(height, self._reach.multiple), _sides(width, self._reach.multiple)
        source = crop.source
        row, column = bisect_left(heights, source.height), bisect_left(widths, source.width)
        while True:
            shape = heights[min(row, len(heights) - 1)], widths[min(column, len(widths) - 1)]
            if shape == (heights[-1], widths[-1]):
                return None
            if self._check.exact(shape, (height, width)):
                top, left = min(source.top, heights[-1] - shape[0]), min(source.left, widths[-1] - shape[1])
                bottom, right = min(height, top + shape[0]), min(width, left + shape[1])
                return Crop(Box(top, left, bottom, right), crop.target)
            row, column = row + 1, column + 1

    def _patched(self, before: _Call, call: _Call, crops: list[Crop], out: Luma | None) -> Luma:
        """The output of `before` with what `crops` give pasted into it."""
        scale = self._backend.scale
        parts = [self._backend(crop.source.of(call.luma), call.max_value) for crop in crops]
        past = before.output.result()
        if not crops and out is None:
            return past
        result = np.empty_like(past) if out is None else out
        np.copyto(result, past)
        for crop, part in zip(crops, parts, strict=True):
            crop.target.of(result, scale)[...] = crop.target.of(part, scale, crop.source)
        return result


@dataclass(frozen=True, slots=True)
class _Call:
    """One call: what went in, and in the end what came out."""

    luma: Luma
    max_value: int
    output: Future[Luma] = field(default_factory=Future)

    def comparable(self, later: _Call) -> bool:
        return (self.luma.shape, self.luma.dtype, self.max_value) == (
            later.luma.shape,
            later.luma.dtype,
            later.max_value,
        )


class _Check:
    """Whether a runtime computes crops of a shape exactly as the whole plane.

    Runtimes choose their kernels by shape, and float sums depend on their order. 16-bit code values show a
    difference in the last bits of a float sooner or later: over thousands of pixels they cannot miss it.
    """

    def __init__(self, backend: Backend, reach: Reach) -> None:
        self._backend = backend
        self._reach = reach
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int], bool] = {}
        self._picture = np.empty((0, 0), np.uint16)
        self._whole: Luma = self._picture

    def exact(self, shape: tuple[int, int], size: tuple[int, int]) -> bool:
        """Compare crops of `shape` at both ends and in the middle of a plane of `size`, once for each."""
        with self._lock:
            if self._picture.shape != size:
                self._known.clear()
                # Away from black and white, where the network's output would be clipped.
                self._picture = np.random.default_rng(0).integers(20000, 45000, size, np.uint16)
                self._whole = self._backend(self._picture, 0xFFFF)
            if shape not in self._known:
                self._known[shape] = all(self._equal(place, shape) for place in self._places(shape))
            return self._known[shape]

    def _places(self, shape: tuple[int, int]) -> list[tuple[int, int]]:
        multiple = self._reach.multiple
        free = [-(-n // multiple) * multiple - s for n, s in zip(self._picture.shape, shape, strict=True)]
        y, x = free[0] // 2 // multiple * multiple, free[1] // 2 // multiple * multiple
        return list(dict.fromkeys([(0, 0), (y, x), (free[0], free[1])]))

    def _equal(self, place: tuple[int, int], shape: tuple[int, int]) -> bool:
        height, width = self._picture.shape
        scale = self._backend.scale
        source = Box(*place, min(height, place[0] + shape[0]), min(width, place[1] + shape[1]))
        inner = source.shrunk(self._reach.border, height, width)
        part = self._backend(source.of(self._picture), 0xFFFF)
        return np.array_equal(inner.of(part, scale, source), inner.of(self._whole, scale))


def _sides(length: int, multiple: int) -> list[int]:
    """Sides that a crop of a plane can have, the whole one last."""
    whole = -(-length // multiple) * multiple
    return [*SIDES[: bisect_left(SIDES, whole)], whole]
