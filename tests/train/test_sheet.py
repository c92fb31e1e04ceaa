"""PNG sheets: layout, bounds, and going on after a restart."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from upscale.errors import OutputError
from upscale.train.sheet import FIXED, MOST_ROWS, Sheet, labelled


def _flat(value: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full(size, value, np.uint8)


def _read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_pictures_and_labels_are_where_they_belong() -> None:
    sheet = labelled([("first", [_flat(100), _flat(150)]), ("second", [_flat(200)])], ["a", "b"])
    rows, columns = (np.flatnonzero((sheet == 200).all(2).sum(axis) >= 20) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 30)
    above = np.flatnonzero((sheet == 100).all(2).any(1))
    assert above.max() < rows.min()
    assert (sheet[rows.min() : rows.max(), : columns.min()] == 255).any(), "no label beside the row"
    assert (sheet[: above.min(), columns.min() :] == 255).any(), "no label above the column"


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
        assert ((sheet.picture() == 100 + n).all(2)).sum() == 600, "the newest row is missing"
    values = set(np.unique(sheet.picture())) - {24, 255}
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
    assert set(np.unique(again.picture())) - {24, 255} == {1, 2, 9}


def test_another_run_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "crops.png"
    for value in (1, 50):
        sheet = Sheet(path)
        sheet.add_row("input", [_flat(value)])
        sheet.add_row("step 5", [_flat(value + 1)])
    assert set(np.unique(sheet.picture())) - {24, 255} == {50, 51}


def test_damaged_memory_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "crops.npz").write_bytes(b"PK\x03\x04 torn")
    Sheet(tmp_path / "crops.png").add_row("input", [_flat(1)])
    assert (tmp_path / "crops.png").exists()


def test_unwritable(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Sheet(tmp_path / "missing" / "crops.png").add_row("input", [_flat(1)])
