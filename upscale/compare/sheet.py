"""The labelled picture: a row for each crop, a column for each way of enlarging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscale.compare.crops import Crop
from upscale.compare.lettering import CELL_HEIGHT, draw_text, fit
from upscale.media.pixels.rgb import RGB

#: Width of a tile that crops are enlarged to, in whole steps; wider crops stay as they are.
TILE = 320
_GAP = 6
_SIZE = 2
_LINE = CELL_HEIGHT * _SIZE + 4
_PAPER, _INK, _FAINT = 24, (255, 255, 255), (170, 170, 170)
_BOXES = ((255, 210, 0), (0, 220, 255), (255, 90, 200), (120, 255, 90))


@dataclass(frozen=True, slots=True)
class Row:
    """One moment: its pictures by method, all of one size, and where to look."""

    time: float
    pictures: dict[str, RGB]
    crops: list[Crop]


def make_sheet(rows: list[Row], notes: dict[str, str]) -> RGB:
    """Draw the sheet.

    Args:
        rows: all with the same methods, in the columns' order.
        notes: a line under a method's name, such as its figures; may lack some.

    Returns:
        (H, W, 3) uint8.
    """
    names = list(rows[0].pictures)
    zoom = zoom_of(max(c.width for row in rows for c in row.crops))
    tile = max(c.width for row in rows for c in row.crops) * zoom
    strips = [_header(names, notes, tile)]
    for row in rows:
        strips += [_strip(row, number, zoom, tile) for number in range(len(row.crops))]
    width = max(s.shape[1] for s in strips)
    padded = [np.pad(s, ((0, _GAP), (0, width - s.shape[1]), (0, 0)), constant_values=_PAPER) for s in strips]
    return np.concatenate(padded)


def zoom_of(width: int) -> int:
    """How often each pixel of a crop of that width is repeated."""
    return max(1, TILE // width)


def enlarge(picture: npt.NDArray[np.uint8], zoom: int) -> npt.NDArray[np.uint8]:
    """Repeat pixels: nothing is smoothed away that is to be looked at."""
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def _header(names: list[str], notes: dict[str, str], tile: int) -> RGB:
    lines = 2 if notes else 1
    strip = _paper(_LINE * lines + _GAP, TILE + _GAP + len(names) * (tile + _GAP))
    for column, name in enumerate(names):
        x = _left(column, tile)
        draw_text(strip, x, _GAP, fit(name, tile, _SIZE), _SIZE, _INK)
        draw_text(strip, x, _GAP + _LINE, fit(notes.get(name, ""), tile, 1), 1, _FAINT)
    return strip


def _strip(row: Row, number: int, zoom: int, tile: int) -> RGB:
    """One crop of one moment; the whole picture with its boxes stands left of the first one."""
    crop = row.crops[number]
    strip = _paper(max(crop.height * zoom, 2 * _LINE), TILE + _GAP + len(row.pictures) * (tile + _GAP))
    for column, picture in enumerate(row.pictures.values()):
        part = enlarge(crop.cut(picture), zoom)
        x = _left(column, tile)
        strip[: part.shape[0], x : x + part.shape[1]] = part
    colour = _BOXES[number % len(_BOXES)]
    if number == 0:
        whole = _overview(next(reversed(row.pictures.values())), row.crops)
        shown = whole[: strip.shape[0] - _LINE]
        strip[_LINE : _LINE + shown.shape[0], : shown.shape[1]] = shown
    text = f"{row.time:.2f} s" if number == 0 else ""
    draw_text(strip, 2, 2, fit(f"{text}  {crop.x},{crop.y}".strip(), TILE), _SIZE, colour)
    return strip


def _overview(picture: RGB, crops: list[Crop]) -> RGB:
    """The whole picture, made `TILE` pixels wide by averaging blocks, with the crops outlined."""
    step = max(1, -(-picture.shape[1] // TILE))
    rows, columns = picture.shape[0] // step, picture.shape[1] // step
    blocks = picture[: rows * step, : columns * step].reshape(rows, step, columns, step, 3)
    small = blocks.mean((1, 3), dtype=np.float32).astype(np.uint8)
    for number, crop in enumerate(crops):
        top, left = crop.y // step, crop.x // step
        bottom, right = min(rows - 1, top + crop.height // step), min(columns - 1, left + crop.width // step)
        colour = _BOXES[number % len(_BOXES)]
        small[top : bottom + 1, [left, right]] = colour
        small[[top, bottom], left : right + 1] = colour
    return small


def _left(column: int, tile: int) -> int:
    return TILE + _GAP + column * (tile + _GAP)


def _paper(height: int, width: int) -> RGB:
    return np.full((height, width, 3), _PAPER, np.uint8)
