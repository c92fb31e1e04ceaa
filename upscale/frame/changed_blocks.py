"""What changed from one picture to the next, and the crops that must be computed again for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from upscale.media.pixels.planes import Plane

#: Side of the blocks that are compared, in pixels: eight samples of 8 bit are one 64-bit word.
BLOCK = 8
#: Cost of a crop beyond its pixels, in pixels: the call into the runtime, finding and pasting it.
OVERHEAD = 1000
#: Boxes whose crops cost less are not searched for a cut.
_DIVISIBLE = 12 * OVERHEAD
#: Crops that cost more than this share of the picture do not pay.
WORTHWHILE = 0.75

Changed = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
P = TypeVar("P", bound=npt.NDArray)


@dataclass(frozen=True, slots=True)
class Box:
    """Rows top … bottom - 1 and columns left … right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def area(self) -> int:
        return self.height * self.width

    def grown(self, by: int, height: int, width: int) -> Box:
        """`by` more on every side, as far as a height × width picture goes."""
        return Box(
            max(0, self.top - by),
            max(0, self.left - by),
            min(height, self.bottom + by),
            min(width, self.right + by),
        )

    def moved(self, down: int, right: int) -> Box:
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def inside(self, height: int, width: int, multiple: int) -> Box:
        """Moved up and left by multiples of `multiple` until it ends with a height × width picture at most.

        A picture whose sides are no multiples is taken to be continued to the next one; a box of the
        result ends where the picture does.
        """
        down = min(0, -(-height // multiple) * multiple - self.bottom)
        right = min(0, -(-width // multiple) * multiple - self.right)
        moved = self.moved(down, right)
        return Box(moved.top, moved.left, min(height, moved.bottom), min(width, moved.right))

    def shrunk(self, by: int, height: int, width: int) -> Box:
        """`by` less on every side that is not the edge of a height × width picture."""
        return Box(
            self.top + by * (self.top > 0),
            self.left + by * (self.left > 0),
            self.bottom - by * (self.bottom < height),
            self.right - by * (self.right < width),
        )

    def of(self, plane: P, scale: int = 1, origin: Box | None = None) -> P:
        """A view of this part of a plane that is enlarged by `scale` and begins where `origin` does."""
        y, x = (origin.top, origin.left) if origin else (0, 0)
        rows = slice(scale * (self.top - y), scale * (self.bottom - y))
        return cast(P, plane[rows, scale * (self.left - x) : scale * (self.right - x)])


@dataclass(frozen=True, slots=True)
class Crop:
    """Attributes:
    source: the input of the network.
    target: the part of its output that is exact and needed, in pixels of the input.
    """

    source: Box
    target: Box


def changed_blocks(before: Plane, now: Plane) -> Changed:
    """Which blocks of two planes differ.

    Args:
        before, now: (H, W), same shape and dtype; samples contiguous in each row.

    Returns:
        (ceil(H / 8), ceil(W / 8)), True where any sample of the block differs.
    """
    height, width = now.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    if before is now:
        return np.zeros((rows, columns), np.bool_)
    step = 8 // now.itemsize
    words = width // step
    difference = np.bitwise_xor(
        before[:, : words * step].view(np.uint64), now[:, : words * step].view(np.uint64)
    )
    whole = height // BLOCK
    found = np.zeros((rows, columns * now.itemsize), np.bool_)
    blocks = np.bitwise_or.reduce(difference[: whole * BLOCK].reshape(whole, BLOCK, words), axis=1)
    np.not_equal(blocks, 0, out=found[:whole, :words])
    if whole < rows:
        found[whole, :words] = difference[whole * BLOCK :].any(axis=0)
    if words * step < width:
        rest = (before[:, words * step :] != now[:, words * step :]).any(axis=1)
        found[:, words] = np.logical_or.reduceat(rest, np.arange(0, height, BLOCK))
    return found if now.itemsize == 1 else found[:, ::2] | found[:, 1::2]


def cover(changed: Changed, border: int, height: int, width: int) -> list[Crop] | None:
    """Crops that hold everything that the changed blocks affect, and little else.

    Args:
        changed: of `changed_blocks`.
        border: how far the effect of a pixel reaches, in pixels.
        height, width: of the picture, in pixels.

    Returns:
        Crops whose source is their target and `border` more on every side, up to the picture's edge;
        empty if nothing changed; None if they would cost nearly as much as the whole picture.
    """
    if _least_area(changed, 2 * border) > WORTHWHILE * height * width:
        return None
    cutter = _Cutter(changed, 2 * border, height, width)
    waiting = cutter.start()
    found: list[Box] = []
    spent = 0
    while waiting:
        box = waiting.pop()
        cost = cutter.cost(box)
        parts, cost_of_parts = cutter.cut(box) if cost > _DIVISIBLE else (None, 0)
        if parts is not None and cost_of_parts < cost:
            waiting += parts
            continue
        found.append(box)
        spent += cost
        if spent > WORTHWHILE * height * width:
            return None
    targets = [_pixels(box).grown(border, height, width) for box in found]
    return [Crop(target.grown(border, height, width), target) for target in targets]


def _least_area(changed: Changed, reach: int) -> int:
    """Pixels that crops have at least: of blocks that lie wholly within `reach` pixels of a changed one."""
    steps = reach // BLOCK
    for _ in range(2):  # rows, then columns
        wide = changed.copy()
        for step in range(1, steps + 1):
            wide[step:] |= changed[:-step]
            wide[:-step] |= changed[step:]
        changed = wide.T
    return BLOCK * BLOCK * int(np.count_nonzero(changed))


class _Cutter:
    """Splits a map of changed blocks where that saves pixels; boxes are in blocks."""

    def __init__(self, changed: Changed, reach: int, height: int, width: int) -> None:
        """`reach` is how much larger than its box, on each side, a crop of a height × width picture is."""
        self._changed = changed
        self._reach = reach
        self._size = height, width

    def start(self) -> list[Box]:
        """The smallest box around everything that changed, if anything did."""
        rows = np.flatnonzero(self._changed.any(axis=1))
        if not rows.size:
            return []
        columns = np.flatnonzero(self._changed.any(axis=0))
        return [Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)]

    def cost(self, box: Box) -> int:
        """Pixels that the crop around `box` costs."""
        return _pixels(box).grown(self._reach, *self._size).area + OVERHEAD

    def cut(self, box: Box) -> tuple[list[Box] | None, int]:
        """The two boxes into which `box` is best divided, and their cost; None where it is full."""
        inside = box.of(self._changed)
        if np.count_nonzero(inside) > 0.7 * inside.size:
            return None, 0
        by_rows = self._cut(inside, (box.top, box.left), self._size)
        by_columns = self._cut(inside.T, (box.left, box.top), self._size[::-1])
        if by_columns is None or (by_rows is not None and by_rows[0] <= by_columns[0]):
            return (None, 0) if by_rows is None else (by_rows[1], by_rows[0])
        turned = [Box(b.left, b.top, b.right, b.bottom) for b in by_columns[1]]
        return turned, by_columns[0]

    def _cut(
        self, inside: Changed, origin: tuple[int, int], size: tuple[int, int]
    ) -> tuple[int, list[Box]] | None:
        """Cost and boxes of the best cut between two rows; `origin` and `size` are in the same order."""
        rows = np.flatnonzero(inside.any(axis=1))
        if rows.size < 2:
            return None
        filled = inside[rows]
        left = filled.argmax(axis=1)
        right = filled.shape[1] - filled[:, ::-1].argmax(axis=1)
        ends, begins = rows[:-1] + 1, rows[1:]
        left_above, right_above = np.minimum.accumulate(left)[:-1], np.maximum.accumulate(right)[:-1]
        left_below = np.minimum.accumulate(left[::-1])[-2::-1]
        right_below = np.maximum.accumulate(right[::-1])[-2::-1]
        (y, x), (height, width) = origin, size
        top, bottom = np.int64(0), np.int64(inside.shape[0])
        above = self._span(top, ends, y, height) * self._span(left_above, right_above, x, width)
        below = self._span(begins, bottom, y, height) * self._span(left_below, right_below, x, width)
        costs = above + below
        best = int(costs.argmin())
        upper = Box(y, x + int(left_above[best]), y + int(ends[best]), x + int(right_above[best]))
        lower = Box(
            y + int(begins[best]), x + int(left_below[best]), y + int(bottom), x + int(right_below[best])
        )
        return int(costs[best]) + 2 * OVERHEAD, [upper, lower]

    def _span(self, begin: Ints | np.int64, end: Ints | np.int64, offset: int, limit: int) -> Ints:
        """Pixels from block `begin` to before block `end`, and `reach` more on both sides."""
        first = np.maximum(0, BLOCK * (begin + offset) - self._reach)
        last = np.minimum(limit, BLOCK * (end + offset) + self._reach)
        return np.asarray(last - first)


def _pixels(box: Box) -> Box:
    return Box(BLOCK * box.top, BLOCK * box.left, BLOCK * box.bottom, BLOCK * box.right)
