"""The display matrix survives, scaled to the new size."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich_clip import passage, write_rich

from upscale.media.input.probe import probe
from upscale.media.output.geometry import is_identity, scaled

ONE, UNIT = 1 << 16, 1 << 30
IDENTITY = (ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT)
#: A 64x48 picture turned, with the translation that moves it back into view.
QUARTER = (0, ONE, 0, -ONE, 0, 0, 48 << 16, 0, UNIT)
HALF = (-ONE, 0, 0, 0, -ONE, 0, 64 << 16, 48 << 16, UNIT)


def test_identity() -> None:
    assert is_identity(IDENTITY)
    assert not is_identity(QUARTER)


def test_translation_follows_the_displayed_axes() -> None:
    """A quarter turn moves x by the stored height, so by the vertical factor."""
    assert scaled(QUARTER, (64, 48), (128, 144)) == (0, ONE, 0, -ONE, 0, 0, 144 << 16, 0, UNIT)
    assert scaled(HALF, (64, 48), (128, 144)) == (-ONE, 0, 0, 0, -ONE, 0, 128 << 16, 144 << 16, UNIT)


def test_rotation_and_flip_part_is_untouched() -> None:
    flip = (-ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT)
    assert scaled(flip, (64, 48), (1280, 960)) == flip


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_comes_back(tmp_path: Path, target: str, degrees: int) -> None:
    """Re-encoding drops it silently."""
    source = write_rich(
        tmp_path / "in.mp4", audio=(), subtitle=None, prepare=lambda v: v.set_display_rotation(-degrees)
    )
    before = probe(str(source)).video
    out = tmp_path / f"out.{target}"
    passage(source, out)
    after = probe(str(out)).video
    assert before is not None
    assert after is not None
    assert before.rotation == after.rotation == degrees
