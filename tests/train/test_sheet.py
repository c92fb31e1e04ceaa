"""The sheet of a run (upscale/train/record.py): layout, bounds, and continuing after a restart."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from upscale.errors import OutputError
from upscale.train.record import FIXED, MOST_ROWS, Sheet


def _flat(value: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full(size, value, np.uint8)


def _read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def _shown(sheet: Sheet) -> set[int]:
    """The values of the flat pictures on a sheet; its letters have shades of their own."""
    picture = sheet.picture()
    return {v for v in range(256) if v != 24 and (picture == v).all(2).sum() >= 600}


def test_png_holds_every_row(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path / "crops.png")
    sheet.add_row("input", [_flat(10)])
    sheet.add_row("step 5", [np.dstack([_flat(90), _flat(0), _flat(0)])])
    shown = _read(tmp_path / "crops.png")
    assert (shown == sheet.picture()).all()
    assert ((shown == (90, 0, 0)).all(2)).sum() == 600


def test_rows_are_bounded_and_the_ends_stay(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path / "crops.png")
    for n in range(MOST_ROWS + 6):
        sheet.add_row(f"row {n}", [_flat(100 + n)])
        assert 100 + n in _shown(sheet), "the newest row is missing"
    values = _shown(sheet)
    assert {100 + n for n in range(FIXED)} <= values
    assert FIXED + 2 < len(values) <= MOST_ROWS


def test_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A resumed run repeats its last validations: rows must neither double nor vanish."""
    path = tmp_path / "crops.png"
    sheet = Sheet(path)
    for label, value in (("input", 1), ("truth", 2), ("step 5", 3), ("step 6", 4)):
        sheet.add_row(label, [_flat(value)])
    again = Sheet(path)
    for label, value in (("input", 1), ("truth", 2), ("step 5", 3)):
        again.add_row(label, [_flat(value)])
    assert (again.picture() == sheet.picture()).all()
    again.add_row("step 5", [_flat(9)])
    assert _shown(again) == {1, 2, 9}


def test_another_run_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "crops.png"
    for value in (1, 50):
        sheet = Sheet(path)
        sheet.add_row("input", [_flat(value)])
        sheet.add_row("step 5", [_flat(value + 1)])
    assert _shown(sheet) == {50, 51}


def test_damaged_memory_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "crops.npz").write_bytes(b"PK\x03\x04 torn")
    Sheet(tmp_path / "crops.png").add_row("input", [_flat(1)])
    assert (tmp_path / "crops.png").exists()


def test_unwritable(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Sheet(tmp_path / "missing" / "crops.png").add_row("input", [_flat(1)])
