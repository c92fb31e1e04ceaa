"""Labels on pictures, with a bitmap font of printable ASCII that is built in."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

#: Pixels of one character cell at size 1: five columns and a gap, seven rows and a gap.
CELL_WIDTH, CELL_HEIGHT = 6, 8

#: The glyphs of characters 32 … 126, five columns of one byte each, the lowest bit on top.
_GLYPHS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300"
    "001c224100 0041221c00 2a1c7f1c2a 08083e0808 0050300000 0808080808 0060600000 2010080402"
    "3e5149453e 00427f4000 4261514946 2141454b31 1814127f10 2745454539 3c4a494930 0171090503"
    "3649494936 064949291e 0036360000 0056360000 0814224100 1414141414 0041221408 0201510906"
    "324979413e 7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e4149497a"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0708700807 6151494543 007f414100 0204081020 0041417f00 0402010204 4040404040"
    "0001020400 2054545478 7f48444438 3844444420 384444487f 3854545418 087e090102 0c5252523e"
    "7f08040478 00447d4000 2040443d00 7f10284400 00417f4000 7c04180478 7c08040478 3844444438"
    "7c14141408 081414187c 7c08040408 4854545420 043f444020 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 0c5050503c 4464544c44 0008364100 00007f0000 0041360800 1008081008"
)
_FIRST = 32


def text_size(text: str, size: int = 2) -> tuple[int, int]:
    """(width, height) in pixels of one line of text, with the gaps on its right and below."""
    return CELL_WIDTH * size * len(text), CELL_HEIGHT * size


def draw_text(
    rgb: npt.NDArray[np.uint8],
    x: int,
    y: int,
    text: str,
    size: int = 2,
    colour: tuple[int, int, int] = (255, 255, 255),
    shadow: bool = False,
) -> None:
    """Write one line of text into a picture.

    Args:
        rgb: (H, W, 3) uint8, changed in place; what falls outside it is cut off.
        x, y: upper left corner of the first character.
        text: characters outside printable ASCII become ``?``.
        size: pixels of one dot of the font; a character takes 6·size × 8·size.
        shadow: a black outline first, legible on any picture.
    """
    mask = _mask(text, size)
    if shadow:
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                _stamp(rgb, x + dx, y + dy, mask, (0, 0, 0))
    _stamp(rgb, x, y, mask, colour)


def fit(text: str, width: int, size: int = 2) -> str:
    """`text`, shortened with two dots so that it takes no more than `width` pixels."""
    room = max(0, width // (CELL_WIDTH * size))
    return text if len(text) <= room else text[: max(0, room - 2)] + ".."[:room]


@cache
def _font() -> npt.NDArray[np.bool_]:
    """(95, 8, 6) bool: one cell per character."""
    columns = np.frombuffer(_GLYPHS, np.uint8).reshape(-1, 5)
    dots = np.unpackbits(columns[:, :, None], axis=2, bitorder="little").transpose(0, 2, 1)
    return np.pad(dots, ((0, 0), (0, 0), (0, 1))).astype(bool)


def _mask(text: str, size: int) -> npt.NDArray[np.bool_]:
    """(8·size, 6·size·len) bool."""
    font = _font()
    codes = [ord(c) - _FIRST if 0 <= ord(c) - _FIRST < len(font) else ord("?") - _FIRST for c in text]
    line = font[codes].transpose(1, 0, 2).reshape(CELL_HEIGHT, -1)
    return line.repeat(size, 0).repeat(size, 1)


def _stamp(
    rgb: npt.NDArray[np.uint8], x: int, y: int, mask: npt.NDArray[np.bool_], colour: tuple[int, int, int]
) -> None:
    top, left = max(0, -y), max(0, -x)
    target = rgb[max(0, y) : y + mask.shape[0], max(0, x) : x + mask.shape[1]]
    if y + mask.shape[0] <= 0 or x + mask.shape[1] <= 0 or not target.size:
        return
    target[mask[top : top + target.shape[0], left : left + target.shape[1]]] = colour
