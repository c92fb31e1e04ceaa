"""How a larger picture is shown: display matrix and sample aspect ratio.

A display matrix is nine 16.16 (last column 2.30) fixed-point numbers, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upscale.media.input.probe import VideoInfo

_ONE = 1 << 16
_LIMIT = (1 << 31) - 1


def is_identity(matrix: Sequence[int]) -> bool:
    """True if the matrix shows the picture as it is stored."""
    return tuple(matrix[:8]) == (_ONE, 0, 0, 0, _ONE, 0, 0, 0)


def scaled(matrix: Sequence[int], old: tuple[int, int], new: tuple[int, int]) -> tuple[int, ...]:
    """The same rotation or flip for a picture of another size.

    Only the translation (entries 6 and 7) is in pixels. It is along the *displayed* axes: with
    the axes swapped, x moves by the picture's stored height.

    Args:
        matrix: 9 integers.
        old, new: (width, height) in stored pixels.
    """
    result = list(matrix)
    swapped = abs(matrix[1]) > abs(matrix[0])
    x, y = new[0] / old[0], new[1] / old[1]
    if swapped:
        x, y = y, x
    result[6] = max(-_LIMIT, min(_LIMIT, round(matrix[6] * x)))
    result[7] = max(-_LIMIT, min(_LIMIT, round(matrix[7] * y)))
    return tuple(result)


def target_sar(info: VideoInfo, size: tuple[int, int]) -> Fraction | None:
    """Sample aspect ratio that shows an output of `size` in the input's display aspect, exactly.

    None where the input has none and rounding alone changed the ratio of the sides (by less than 1 %):
    an untagged picture stays untagged.
    """
    change = Fraction(info.width * size[1], info.height * size[0])
    if not info.sar_set and abs(change - 1) < Fraction(1, 100):
        return None
    return info.sar * change
