"""The grid of labelled pictures, its letters, and PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscale.compare.sheet import SMALL, encode_png, fit, grid, printable, save_png, text_width
from upscale.errors import OutputError


def flat(value: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full(size, value, np.uint8)


def test_pictures_and_labels_are_where_they_belong() -> None:
    sheet = grid([("first", [flat(100), flat(150)]), ("second", [flat(200)])], ["a", "b"])
    rows, columns = (np.flatnonzero((sheet == 200).all(2).sum(axis) >= 20) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 30)
    above = np.flatnonzero((sheet == 100).all(2).sum(1) >= 30)
    assert above.max() < rows.min()
    assert (sheet[rows.min() : rows.max(), : columns.min()] == 255).any(), "no label beside the row"
    assert (sheet[: above.min(), columns.min() :] == 255).any(), "no label above the column"


def test_a_picture_may_stand_left_of_a_row() -> None:
    sheet = grid([(flat(60, (50, 40)), [flat(99)])], ["a"], ["a note that is far too long"])
    left, tile = (np.argwhere((sheet == value).all(2)) for value in (60, 99))
    assert (len(left), len(tile)) == (2000, 600)
    assert (left[:, 0].min(), left[:, 1].max() < tile[:, 1].min()) == (tile[:, 0].min(), True)
    assert sheet.shape[1] == left[:, 1].min() * 3 + 40 + 30, "a note must not widen its column"


def test_no_rows_at_all() -> None:
    assert grid([]).ndim == 3


def test_every_name_is_printable_and_stays_another() -> None:
    """Pillow's own font has ASCII; an empty box for all the rest would make different models look alike."""
    assert printable("net_v2-a.onnx") == "net_v2-a.onnx"
    assert printable("réseau") == r"r\xe9seau"
    assert printable("模型") != printable("模式")
    assert printable("a\nb\x1b") == r"a\nb\x1b"


def test_fit() -> None:
    assert fit("short", 100) == "short"
    for size in (SMALL, 16):
        cut = fit("a long name of a network", 60, size)
        assert cut.endswith("…")
        assert 40 < text_width(cut, size) <= 60
    assert fit("abc", 0) == ""


@pytest.mark.parametrize("shape", [(9, 13, 3), (9, 13)])
def test_png_round_trip(shape: tuple[int, ...], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "p.png"
    save_png(str(path), picture)
    with Image.open(path) as back:
        assert (np.asarray(back) == picture).all()
    assert path.read_bytes() == encode_png(picture)
    with pytest.raises(OutputError):
        save_png(str(path), picture, overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
