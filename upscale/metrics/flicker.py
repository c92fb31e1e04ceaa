"""How much a video shimmers where its original stands still."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from upscale.metrics.psnr_ssim import Plane

_Blocks = npt.NDArray[np.float32]

#: Side of the blocks whose motion `flicker` follows.
_BLOCK = 16


def flicker(references: Sequence[Plane], pictures: Sequence[Plane], *, max_value: int = 255) -> float:
    """How much still parts of a video change from frame to frame, as a share of what they truly do.

    Only blocks of 16×16 pixels count in which the reference itself (nearly) stands still: their mean change
    is at most 2 code values of 8 bit, or half more than that of the quietest tenth of the frame where
    all of it is noisy, but never more than 8. There, what the reference's slow motion explains is taken
    away first: one step of Lucas and Kanade 1981 finds each block's motion m in the reference, and the
    change of a picture I counts as I₂ − I₁ + m·∇I, with the picture's own gradient, so that a sharper
    picture that moves with the reference does not count as flickering. The mean absolute rest of
    the pictures is divided by that of the reference, both with a quarter of a code value added, a change that
    nobody sees: a drawing that stands quite still would otherwise divide by nothing.

    Args:
        references, pictures: consecutive frames, (H, W), each at least 16 on both sides.
        max_value: the peak, 255 for 8 bit.

    Returns:
        1 for the reference itself, more for a picture whose still parts shimmer, less for one that is calmer
        than the reference (its grain is gone, say). NaN where nothing stands still or there is one frame.

    Raises:
        ValueError: the lists are not equally long.
    """
    scale = np.float32(255 / max_value)
    of_truths = of_pictures = 0.0
    blocks = 0
    for (t1, t2), (p1, p2) in zip(pairwise(references), pairwise(pictures), strict=True):
        reference = _motion_terms(t1, t2, scale)
        still = _still_blocks(reference[0])
        if not still.any():
            continue
        terms = [term[still] for term in reference]
        moved = _block_motion(*terms)
        of_truths += _unexplained(terms, moved)
        of_pictures += _unexplained([term[still] for term in _motion_terms(p1, p2, scale)], moved)
        blocks += int(still.sum())
    if not blocks:
        return float("nan")
    return (of_pictures / blocks + 0.25) / (of_truths / blocks + 0.25)


def _motion_terms(first: Plane, second: Plane, scale: np.float32) -> list[_Blocks]:
    """Change, and the two frames' mean gradient down and right, in blocks of shape (rows, columns, 256)."""
    a, b = first.astype(np.float32) * scale, second.astype(np.float32) * scale
    mean = (a + b) / 2
    down, right = (np.asarray(np.gradient(mean, axis=axis)) for axis in (0, 1))
    rows, columns = (side // _BLOCK for side in a.shape)
    return [
        plane[: rows * _BLOCK, : columns * _BLOCK]
        .reshape(rows, _BLOCK, columns, _BLOCK)
        .swapaxes(1, 2)
        .reshape(rows, columns, -1)
        for plane in (b - a, down, right)
    ]


def _still_blocks(change: _Blocks) -> npt.NDArray[np.bool_]:
    size = np.abs(change).mean(2)
    return np.asarray(size <= min(8.0, max(2.0, 1.5 * float(np.quantile(size, 0.1)))))


def _block_motion(change: _Blocks, down: _Blocks, right: _Blocks) -> tuple[_Blocks, _Blocks]:
    """Least-squares motion of each block in pixels, (n, 1) down and right; none where it cannot be seen."""
    # The small terms hold flat blocks, whose gradient is noise, at rest.
    dd, rr = (down * down).sum(1) + _BLOCK**2, (right * right).sum(1) + _BLOCK**2
    dr, dc, rc = (down * right).sum(1), (down * change).sum(1), (right * change).sum(1)
    determinant = dd * rr - dr * dr
    y, x = (dr * rc - rr * dc) / determinant, (dr * dc - dd * rc) / determinant
    return y[:, None], x[:, None]


def _unexplained(terms: list[_Blocks], moved: tuple[_Blocks, _Blocks]) -> float:
    """Sum over blocks of the mean absolute change that the motion leaves."""
    change, down, right = terms
    return float(np.abs(change + moved[0] * down + moved[1] * right).mean(1).sum())
