"""The display matrix: nine 16.16 (last column 2.30) fixed-point numbers, row by row."""

from __future__ import annotations

from collections.abc import Sequence

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
