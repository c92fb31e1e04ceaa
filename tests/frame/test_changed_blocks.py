"""Finding what changed, and crops around it."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.frame.changed_blocks import BLOCK, WORTHWHILE, Box, Crop, changed_blocks, cover


def by_samples(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """`changed_blocks` by looking at every sample."""
    rows, columns = -(-now.shape[0] // BLOCK), -(-now.shape[1] // BLOCK)
    found = np.zeros((rows, columns), np.bool_)
    for y, x in np.argwhere(before != now):
        found[y // BLOCK, x // BLOCK] = True
    return found


def reached(changed: np.ndarray, border: int, height: int, width: int) -> np.ndarray:
    """Every pixel within `border` of a changed block, by the definition."""
    reach = np.zeros((height, width), np.bool_)
    for row, column in np.argwhere(changed):
        top, left = max(0, BLOCK * row - border), max(0, BLOCK * column - border)
        reach[top : BLOCK * (row + 1) + border, left : BLOCK * (column + 1) + border] = True
    return reach


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (16, 31), (17, 33), (90, 122), (33, 4), (9, 12)])
def test_changed_blocks_are_those_with_a_changed_sample(size: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(sum(size))
    padded = rng.integers(0, 256, (size[0], size[1] + 5)).astype(dtype)
    now = padded[:, : size[1]]  # strided, as the decoder's rows are
    for count in (0, 1, 3, now.size):
        before = now.copy()
        for _ in range(count):
            before[rng.integers(size[0]), rng.integers(size[1])] ^= 1
        assert np.array_equal(changed_blocks(before, now), by_samples(before, now))


def test_every_single_sample_is_seen() -> None:
    now = np.zeros((19, 21), np.uint8)
    for y in range(19):
        for x in range(21):
            before = now.copy()
            before[y, x] = 1
            assert np.argwhere(changed_blocks(before, now)).tolist() == [[y // 8, x // 8]]


def test_what_lies_beyond_the_width_is_not_compared() -> None:
    rows = np.zeros((16, 24), np.uint8)
    other = rows.copy()
    other[:, 20:] = 9
    assert not changed_blocks(rows[:, :20], other[:, :20]).any()


def random_map(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    changed = np.zeros((-(-size[0] // BLOCK), -(-size[1] // BLOCK)), np.bool_)
    for _ in range(rng.integers(1, 6)):
        y, x = rng.integers(changed.shape[0]), rng.integers(changed.shape[1])
        changed[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    return changed


@pytest.mark.parametrize("border", [4, 10, 12])
@pytest.mark.parametrize("size", [(360, 640), (361, 427), (75, 1000)])
def test_crops_hold_all_that_changes_reach(size: tuple[int, int], border: int) -> None:
    rng = np.random.default_rng(border)
    found = 0
    for _ in range(60):
        changed = random_map(rng, size)
        crops = cover(changed, border, *size)
        if crops is None:
            continue
        found += len(crops)
        pasted = np.zeros(size, np.bool_)
        for crop in crops:
            crop.target.of(pasted)[...] = True
            assert crop.source == crop.target.grown(border, *size)
        assert pasted[reached(changed, border, *size)].all()
    assert found > 60  # distant changes get crops of their own


def test_nothing_changed_needs_no_crop() -> None:
    assert cover(np.zeros((45, 80), np.bool_), 10, 360, 640) == []


def test_changes_all_over_are_left_to_the_whole_picture() -> None:
    everywhere = np.ones((45, 80), np.bool_)
    scattered = np.random.default_rng(0).random((45, 80)) < 0.2
    assert cover(everywhere, 10, 360, 640) is None
    assert cover(scattered, 10, 360, 640) is None


def test_two_far_corners_cost_two_small_crops() -> None:
    changed = np.zeros((45, 80), np.bool_)
    changed[0, 0] = changed[44, 79] = True
    assert cover(changed, 10, 360, 640) in (
        [Crop(Box(0, 0, 28, 28), Box(0, 0, 18, 18)), Crop(Box(332, 612, 360, 640), Box(342, 622, 360, 640))],
        [Crop(Box(332, 612, 360, 640), Box(342, 622, 360, 640)), Crop(Box(0, 0, 28, 28), Box(0, 0, 18, 18))],
    )


def test_crops_never_cost_as_much_as_the_picture() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        crops = cover(random_map(rng, (200, 200)), 10, 200, 200)
        assert crops is None or sum(crop.source.area for crop in crops) <= WORTHWHILE * 200 * 200
