"""The picture that variants are compared on, and when two results are too far apart."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.backends.trial import RULES, Rule, probe
from upscale.backends.variants import PRECISIONS


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16])
def test_probe_is_a_real_picture_of_the_depth(bits: int) -> None:
    luma, most = probe(bits), (1 << bits) - 1
    assert (luma.shape, luma.dtype) == ((270, 480), np.uint8 if bits == 8 else np.uint16)
    assert luma.max() <= most
    # All low bits occur, and the picture is the same: three clips, dark and bright, sharp and soft.
    assert len(np.unique(luma & 3)) == 4
    np.testing.assert_array_equal(luma >> (bits - 8), probe())
    assert probe().min() < 32
    assert probe().max() > 200
    assert len(np.unique(probe())) > 150


def test_there_is_a_rule_for_every_precision() -> None:
    assert RULES.keys() == set(PRECISIONS)


def changed(by: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of 100, and one of which one pixel in `part` differs by `by`."""
    flat = np.full((100, 100), 100, np.uint8)
    other = flat.copy()
    other.reshape(-1)[::part] += np.uint8(by)
    return flat, other


@pytest.mark.parametrize(
    ("precision", "by", "part", "kept"),
    [
        ("fp32", 1, 10, True), ("fp32", 1, 1, False), ("fp32", 2, 1000, False),
        ("bf16", 3, 4, True), ("bf16", 4, 1000, False), ("bf16", 2, 1, False),
        ("fp16", 3, 4, True), ("fp16", 4, 1000, False),
        ("int8", 1, 1, True), ("int8", 20, 1000, True), ("int8", 2, 1, False), ("int8", 60, 100, False),
    ],
)  # fmt: skip
def test_rules(precision: str, by: int, part: int, kept: bool) -> None:
    why = RULES[precision].broken(*changed(by, part), 255)
    assert (why is None) == kept
    if why is not None:
        assert f"{by} at most" in why


def test_depth_counts() -> None:
    """The same difference is a quarter as large a part of 10 bits, but rules count code values."""
    flat, other = (picture.astype(np.uint16) * 4 for picture in changed(1, 10))
    assert RULES["bf16"].broken(flat, other, 1023) is not None
    assert Rule(mean=1, largest=4).broken(flat, other, 1023) is None


def test_another_size_is_never_near() -> None:
    flat, _ = changed(0, 1)
    assert RULES["int8"].broken(flat, flat[:50], 255) is not None
