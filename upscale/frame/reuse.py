"""Computes only what changed since an earlier frame: the rest of that one's output is copied.

Not only since the last one: a still picture that was compressed with B-frames alternates between a few
states, which differ in the last bit here and there, as often as it is refined; a cursor blinks between two.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from upscale.backends.base import Backend, Luma
from upscale.frame.changed_blocks import WORTHWHILE, Box, Changed, Crop, changed_blocks, cover
from upscale.model.complexity import complexity
from upscale.model.config import GeneratorConfig

#: Sides of crops in pixels: few, because runtimes prepare for each new shape, which costs time and memory.
#: Steps of a fifth of these bring no speed. Even, for `ReceptiveField.multiple`.
SIDES = (48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
#: How many times larger than needed a crop may be to avoid checking a new shape, …
_MAX_EXCESS = 1.3
#: … until that shape was requested so often.
_MAX_REQUESTS = 8
#: How many frames are kept to compare with: two groups of a P-frame and three B-frames, …
_MAX_HISTORY = 8
#: … or less if the luma planes of their outputs would take more bytes than this, but never less than …
_HISTORY_BYTES = 16 << 20
#: … one such group.
_MIN_HISTORY = 4
#: Older frames than the last are compared if at most this share of the blocks changed since it: states that
#: alternate differ in few.
_NEARLY_STILL = 0.1
#: After so many frames of which nothing could be reused, the video moves: …
_PATIENCE = 12
#: … then one frame in so many is compared, until something can be.
_RARELY = 6


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What must be known about a network to compute a part of its output.

    Attributes:
        border: how far the effect of an input pixel reaches, in pixels.
        multiple: crops must begin at a multiple of it: 1 or 2.
    """

    border: int
    multiple: int

    @classmethod
    def of(cls, config: GeneratorConfig) -> ReceptiveField:
        """The receptive field of a generator of this shape."""
        side = complexity(config).receptive_field
        return cls((side - config.unshuffle) // 2, config.multiple)


def history_length(size: int) -> int:
    """How many frames are kept whose output's luma takes `size` bytes."""
    return max(_MIN_HISTORY, min(_MAX_HISTORY, _HISTORY_BYTES // size))


class Backoff:
    """When comparing pays: every frame, or, while the video moves, one in a few. Safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._failures = 0

    def next_frame(self) -> tuple[bool, bool]:
        """Whether to compare the next frame with those before it, and whether to keep it for the next."""
        with self._lock:
            place = self._frames % _RARELY
            self._frames += 1
            moves = self._failures >= _PATIENCE
            return not moves or place == 0, not moves or place == _RARELY - 1

    def report(self, reused: bool) -> None:
        """Whether something of a frame that was compared could be reused."""
        with self._lock:
            self._failures = 0 if reused else self._failures + 1


class Reuse:
    """A backend's call that repeats an earlier output where the input's samples are those of that call.

    The result is the same, bit for bit, as the backend's for the whole plane. That a runtime computes a
    pixel equally in a crop and in the whole is checked here for each shape of crop before it is used.

    Calls may overlap: each is compared with those that began before it, and waits for the output of the one
    that is most similar.
    """

    def __init__(self, backend: Backend, reach: ReceptiveField) -> None:
        self._backend = backend
        self._reach = reach
        self._check = _ShapeCheck(backend, reach)
        self._lock = threading.Lock()
        self._past: list[_Call] = []  # the latest first
        self._pixels = 0
        self._computed = 0

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        """As `upscale.backends.base.Backend`; neither `luma` nor the result may be written to afterwards.

        The result can be the array that an earlier call returned.
        """
        return self.compute(luma, max_value, out)[0]

    def compute(
        self, luma: Luma, max_value: int, out: Luma | None, compare: bool = True
    ) -> tuple[Luma, bool]:
        """As a call; also tells whether anything was reused. Without `compare` nothing is."""
        call = _Call(luma, max_value)
        with self._lock:
            past = self._past if compare else []
            self._past = [call, *past][: history_length(luma.nbytes * self._backend.scale**2)]
        try:
            plan = self._plan(past, call) if past else None
            result = self._patched(*plan, call, out) if plan else self._backend(luma, max_value, out)
        except BaseException as error:  # whoever waits for this output must not wait forever
            call.output.set_exception(error)
            raise
        call.output.set_result(result)
        computed = luma.size if plan is None else sum(crop.target.area for crop in plan[1])
        with self._lock:
            self._pixels += luma.size
            self._computed += min(computed, luma.size)
        return result, plan is not None

    def repeated(self) -> None:
        """Count a call that the caller avoided: input and output are those of an earlier one."""
        with self._lock:
            self._pixels += self._past[0].luma.size if self._past else 0

    @property
    def counts(self) -> tuple[int, int]:
        """Pixels of all inputs so far, and how many of them the network had to compute."""
        with self._lock:
            return self._pixels, self._computed

    def _forget_before(self, call: _Call) -> None:
        """Free what is older than `call`: in moving video and after cuts nothing repeats."""
        with self._lock:
            newer = takewhile(lambda one: one is not call, self._past)
            self._past = [*newer, call]

    def _plan(self, past: list[_Call], call: _Call) -> tuple[_Call, list[Crop]] | None:
        """The call whose output is patched, and with what; None where everything is computed."""
        nearest = _nearest(past, call)
        if nearest is None:
            self._forget_before(call)
            return None
        before, changed = nearest
        shape = call.luma.shape
        crops = cover(changed, self._reach.border, *shape)
        if crops is None:
            return None
        fitted = [crop for crop in (self._fitted(c, *shape) for c in crops) if crop is not None]
        cost = sum(crop.source.area for crop in fitted)
        if len(fitted) < len(crops) or cost >= WORTHWHILE * call.luma.size:
            return None
        return before, fitted

    def _fitted(self, crop: Crop, height: int, width: int) -> Crop | None:
        """The crop with a source of a shape that is known to be exact; None if only the whole is."""
        for shape in self._check.shapes(crop.source, (height, width)):
            top, left = crop.source.top, crop.source.left
            source = Box(top, left, top + shape[0], left + shape[1]).inside(
                height, width, self._reach.multiple
            )
            if self._check.exact(source, shape, (height, width)):
                return Crop(source, crop.target)
        return None

    def _patched(self, before: _Call, crops: list[Crop], call: _Call, out: Luma | None) -> Luma:
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

    @property
    def kind(self) -> object:
        """Calls of different kinds are not compared."""
        return self.luma.shape, self.luma.dtype, self.max_value


def _nearest(past: list[_Call], call: _Call) -> tuple[_Call, Changed] | None:
    """The call from which `call` differs in the fewest blocks, and where; None if reuse does not pay.

    Where more than a little has moved since the last frame, older ones are not compared.
    """
    nearest: tuple[_Call, Changed] | None = None
    fewest = 0
    for before in past:
        if before.kind != call.kind:
            break
        changed = changed_blocks(before.luma, call.luma)
        number = int(np.count_nonzero(changed))
        if number > WORTHWHILE * changed.size:
            break
        if nearest is None or number < fewest:
            nearest, fewest = (before, changed), number
        if not number or number > _NEARLY_STILL * changed.size:
            break
    return nearest


class _ShapeCheck:
    """Which shapes of crops a runtime computes exactly as the whole plane.

    Runtimes choose their kernels by shape, and float sums depend on their order. In 16-bit code values a
    difference in the last bits of a float shows in some of thousands of pixels. Networks of 8-bit integers
    have no such bits.
    """

    def __init__(self, backend: Backend, reach: ReceptiveField) -> None:
        self._backend = backend
        self._reach = reach
        self._lock = threading.Lock()
        self._type = np.dtype(np.uint8 if backend.precision == "int8" else np.uint16)
        self._limit = 0xFF if self._type == np.uint8 else 0xFFFF
        self._picture: Luma = np.empty((0, 0), np.uint16)
        self._whole: Luma = self._picture
        self._known: dict[tuple[int, int], bool] = {}
        self._edges: set[tuple[bool, ...]] = set()
        self._requests: dict[tuple[int, int], int] = {}

    def shapes(self, source: Box, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Shapes that hold `source`, the one to be tried first first; never the whole of a plane of `size`.

        One that is known already and not much too large comes before a new one, which costs a check, unless
        the new one was requested often.
        """
        heights, widths = (_sides(length, self._reach.multiple) for length in size)
        row, column = bisect_left(heights, source.height), bisect_left(widths, source.width)
        best = heights[row], widths[column]
        near = self._near(source, best)
        if near is not None:
            yield near
        while best != (heights[-1], widths[-1]):
            yield best
            row, column = min(row + 1, len(heights) - 1), min(column + 1, len(widths) - 1)
            best = heights[row], widths[column]

    def _near(self, source: Box, best: tuple[int, int]) -> tuple[int, int] | None:
        """A known shape to be taken instead of `best`."""
        with self._lock:
            self._requests[best] = self._requests.get(best, 0) + 1
            if self._known.get(best) or self._requests[best] > _MAX_REQUESTS:
                return None
            height, width = source.height, source.width
            known = [s for s, exact in self._known.items() if exact and s[0] >= height and s[1] >= width]
            near = min(known, key=lambda s: s[0] * s[1], default=None)
            return near if near and near[0] * near[1] <= _MAX_EXCESS * best[0] * best[1] else None

    def exact(self, source: Box, shape: tuple[int, int], size: tuple[int, int]) -> bool:
        """Compare a crop of `shape` at `source` with the whole plane of `size`: once for each shape, and once
        for each combination of the plane's edges that a crop touches."""
        touched = source.top == 0, source.left == 0, source.bottom == size[0], source.right == size[1]
        with self._lock:
            if self._picture.shape != size:
                self._known.clear()
                self._edges.clear()
                # Away from black and white, where the network's output would be clipped.
                rng = np.random.default_rng(0)
                grey = rng.integers(self._limit * 3 // 10, self._limit * 7 // 10, size, np.uint16)
                self._picture = grey.astype(self._type)
                self._whole = self._backend(self._picture, self._limit)
            if self._known.get(shape, True) and (shape not in self._known or touched not in self._edges):
                self._known[shape] = self._equal(source)
                if self._known[shape]:
                    self._edges.add(touched)
            return self._known[shape]

    def _equal(self, source: Box) -> bool:
        scale = self._backend.scale
        inner = source.shrunk(self._reach.border, *self._picture.shape)
        part = self._backend(source.of(self._picture), self._limit)
        return np.array_equal(inner.of(part, scale, source), inner.of(self._whole, scale))


def _sides(length: int, multiple: int) -> list[int]:
    """Sides that a crop of a plane can have, the whole one last."""
    whole = -(-length // multiple) * multiple
    return [*SIDES[: bisect_left(SIDES, whole)], whole]
