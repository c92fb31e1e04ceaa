"""Labelled pictures as one PNG: the grid that comparing and training share, and the sheet of a comparison."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from upscale.compare.crops import Crop
from upscale.media.pixels.rgb import RGB
from upscale.system.safe_file import write_whole

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

#: Width of a tile that crops are enlarged to, in whole steps; wider crops stay as they are.
TILE = 320
#: Height of the letters of titles and labels, and of notes, in pixels.
LARGE, SMALL = 16, 12
PAPER, INK = (24, 24, 24), (255, 255, 255)
_FAINT = (170, 170, 170)
_BOXES: tuple[Color, ...] = ((255, 210, 0), (0, 220, 255), (255, 90, 200), (120, 255, 90))
_GAP = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One moment: its pictures by method, all of one size, and where to look."""

    time: float
    pictures: dict[str, RGB]
    crops: list[Crop]


def make_sheet(rows: list[Row], notes: dict[str, str]) -> RGB:
    """A row for each crop, a column for each method; left of a moment's first one the whole picture.

    Args:
        rows: all with the same methods, in the columns' order.
        notes: a line under a method's name, such as its figures; may lack some.

    Returns:
        (H, W, 3) uint8.
    """
    names = list(rows[0].pictures)
    zoom = zoom_of(max(c.width for row in rows for c in row.crops))
    lines: list[tuple[Picture, list[Picture]]] = []
    for row in rows:
        for number, crop in enumerate(row.crops):
            parts = [enlarge(crop.cut(picture), zoom) for picture in row.pictures.values()]
            lines.append((_margin(row, number, parts[0].shape[0]), parts))
    return grid(lines, names, [notes.get(name, "") for name in names] if notes else [])


def grid(
    rows: Sequence[tuple[str | Picture, Sequence[Picture]]],
    titles: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> RGB:
    """Lay pictures out in rows and columns.

    Args:
        rows: (what stands left of them: text or a picture, the pictures); a picture is (H, W) or (H, W, 3).
        titles: one for each column, or none at all.
        notes: a line in small letters under each title, cut to the column's width.

    Returns:
        (H, W, 3) uint8.
    """
    count = max((len(pictures) for _, pictures in rows), default=0)
    widths = [max((p[c].shape[1] for _, p in rows if len(p) > c), default=0) for c in range(count)]
    widths = [
        max(w, text_width(t)) if not notes else w
        for w, t in zip(widths, [*titles, *[""] * (count - len(titles))], strict=True)
    ]
    heights = [max([_height(label), *(p.shape[0] for p in pictures)]) for label, pictures in rows]
    left = max((_width(label) for label, _ in rows), default=0)
    lefts = [_GAP + (left + _GAP) * (left > 0) + sum(w + _GAP for w in widths[:c]) for c in range(count)]
    top = _GAP
    width = max([_GAP * 2 + left, *(x + w + _GAP for x, w in zip(lefts, widths, strict=True))])
    head = (line_height() if titles else 0) + (line_height(SMALL) if notes else 0)
    image = Image.new("RGB", (width, head + _GAP + sum(h + _GAP for h in heights)), PAPER)
    draw = ImageDraw.Draw(image)
    for x, w, title, note in zip(lefts, widths, titles, notes or [""] * count, strict=False):
        draw.text((x, top), fit(title, w), INK, font())
        draw.text((x, top + line_height()), fit(note, w, SMALL), _FAINT, font(SMALL))
    top += head
    for (label, pictures), height in zip(rows, heights, strict=True):
        if isinstance(label, str):
            draw.text((_GAP, top + (height - line_height()) // 2), fit(label, left), INK, font())
        else:
            image.paste(Image.fromarray(label), (_GAP, top))
        for x, picture in zip(lefts, pictures, strict=False):
            image.paste(Image.fromarray(np.ascontiguousarray(picture)), (x, top))
        top += height + _GAP
    return np.asarray(image)


def zoom_of(width: int) -> int:
    """How often each pixel of a crop of that width is repeated."""
    return max(1, TILE // width)


def enlarge(picture: Picture, zoom: int) -> Picture:
    """Repeat pixels: nothing is smoothed away that is to be seen."""
    return picture.repeat(zoom, 0).repeat(zoom, 1)


@cache
def font(size: int = LARGE) -> ImageFont.FreeTypeFont:
    """The font that Pillow brings along; it has ASCII and little else, see `printable`."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def printable(text: str) -> str:
    """`text` with what the font cannot show written as in Python, é as ``\\xe9``: names stay different."""
    return "".join(c if _has_glyph(c) else c.encode("unicode_escape").decode() for c in text)


@cache
def _has_glyph(character: str) -> bool:
    if character == " " or not character.isprintable():
        return character == " "
    missing = font().getmask("\ue000")  # of Unicode's private area
    return bytes(font().getmask(character)) != bytes(missing)


def line_height(size: int = LARGE) -> int:
    return sum(font(size).getmetrics()) + 2


def text_width(text: str, size: int = LARGE) -> int:
    return math.ceil(font(size).getlength(printable(text)))


def fit(text: str, width: int, size: int = LARGE) -> str:
    """`text` as it can be drawn, shortened with an ellipsis so that it takes no more than `width` pixels."""
    text = printable(text)
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…" if text else ""


def encode_png(picture: Picture) -> bytes:
    """(H, W, 3) or (H, W) uint8 → the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    return buffer.getvalue()


def save_png(path: str, picture: Picture, *, overwrite: bool = True) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OutputError: the disk is full, the folder cannot be written, or the name is taken and must stay.
    """
    write_whole(path, encode_png(picture), overwrite=overwrite)


def _width(label: str | Picture) -> int:
    return text_width(label) if isinstance(label, str) else label.shape[1]


def _height(label: str | Picture) -> int:
    return line_height() if isinstance(label, str) else label.shape[0]


def _margin(row: Row, number: int, height: int) -> Picture:
    """What stands left of a crop: where it lies and, for a moment's first one, the whole picture with boxes.

    Args:
        height: of the crop's tiles; the picture is shrunk to it, but to no less than 9/16 of `TILE`.
    """
    crop, line = row.crops[number], line_height()
    image = Image.new("RGB", (TILE, line), PAPER)
    if number == 0:
        whole = _overview(
            next(reversed(row.pictures.values())), row.crops, max(height - line, TILE * 9 // 16)
        )
        image = Image.new("RGB", (TILE, line + whole.height), PAPER)
        image.paste(whole, (0, line))
    time = f"{row.time:.2f} s  " if number == 0 else ""
    color = _BOXES[number % len(_BOXES)]
    ImageDraw.Draw(image).text((0, 0), fit(f"{time}{crop.x},{crop.y}", TILE), color, font())
    return np.asarray(image)


def _overview(picture: RGB, crops: list[Crop], height: int) -> Image.Image:
    """The whole picture in at most `TILE` × `height` pixels, with the crops outlined."""
    image = Image.fromarray(picture)
    image.thumbnail((TILE, height), Image.Resampling.BOX)
    scale = image.width / picture.shape[1]
    draw = ImageDraw.Draw(image)
    for number, c in enumerate(crops):
        box = [c.x * scale, c.y * scale, (c.x + c.width) * scale - 1, (c.y + c.height) * scale - 1]
        draw.rectangle(box, outline=_BOXES[number % len(_BOXES)])
    return image
