"""Labels: the built-in font, its edges, and PNG files."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from upscale.compare.lettering import draw_text, fit, text_size
from upscale.compare.png import save_png
from upscale.errors import OutputError


def _drawn(text: str, **how: object) -> np.ndarray:
    picture = np.zeros((20, 40, 3), np.uint8)
    draw_text(picture, 2, 2, text, 2, **how)  # type: ignore[arg-type]
    return picture


def test_glyph() -> None:
    """A capital T is a bar of five dots on a stem, in the colour asked for."""
    dots = _drawn("T", colour=(10, 20, 30))[2:18:2, 2:14:2]
    assert (dots.any(2)[0] == [True] * 5 + [False]).all()
    assert (dots.any(2)[1:7] == [False, False, True, False, False, False]).all()
    assert (dots[0, 0] == (10, 20, 30)).all()


def test_every_character_is_another() -> None:
    seen = {_drawn(chr(c)).tobytes() for c in range(32, 127)}
    assert len(seen) == 95
    assert (_drawn("é") == _drawn("?")).all()


@pytest.mark.parametrize(("x", "y"), [(-5, -5), (38, 18), (-100, 0), (0, -100), (100, 100), (0, 19)])
def test_cut_off_at_the_edges(x: int, y: int) -> None:
    """What is inside equals the same text on a large canvas; nothing raises."""
    small, large = np.zeros((20, 40, 3), np.uint8), np.zeros((260, 400, 3), np.uint8)
    draw_text(small, x, y, "Ag", 2, shadow=True)
    draw_text(large, x + 120, y + 120, "Ag", 2, shadow=True)
    assert (small == large[120:140, 120:160]).all()


def test_fit() -> None:
    assert fit("short", 100) == "short"
    assert fit("a long name", text_size("a lon..")[0]) == "a lon.."
    assert fit("abc", 0) == ""


def test_png_round_trip(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    path = tmp_path / "p.png"
    save_png(str(path), picture)
    with av.open(str(path)) as container:
        back = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert (back == picture).all()
    with pytest.raises(OutputError):
        save_png(str(path), picture, overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
