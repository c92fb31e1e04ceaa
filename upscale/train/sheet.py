"""A PNG sheet of the same crops as a run continues, one labelled row per validation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from upscale.compare.sheet import grid, save_png
from upscale.system.safe_file import write_whole

Picture = npt.NDArray[np.uint8]

#: Rows of a `Sheet` that always stay: the input and the original.
FIXED = 2
#: Rows after which a `Sheet` drops every second one between its fixed and its last.
MOST_ROWS = 18


class Sheet:
    """The same crops over time: input, original, then one row per validation.

    The PNG is replaced, whole or not at all, with every row. Its pictures also lie beside it in
    ``NAME.npz``, from which a resumed run continues.
    """

    def __init__(self, path: Path, *, resume: bool = True) -> None:
        """
        Args:
            path: the PNG.
            resume: whether an existing sheet there is continued.
        """
        self.path = path
        self._rows = _read_rows(path.with_suffix(".npz")) if resume else []

    def add_row(self, label: str, pictures: Sequence[Picture]) -> None:
        """Append (H, W) or (H, W, 3) uint8 `pictures` and write the PNG.

        A resumed run repeats rows: one that is there with the same pictures is left as it is; one
        with other pictures replaces that row and everything after it.

        Raises:
            OutputError: the files cannot be written.
        """
        labels = [name for name, _ in self._rows]
        if label in labels:
            at = labels.index(label)
            if _equal(self._rows[at][1], pictures):
                return
            del self._rows[at:]
        self._rows.append((label, [np.ascontiguousarray(p) for p in pictures]))
        if len(self._rows) > MOST_ROWS:
            middle = self._rows[FIXED:-1]
            self._rows = self._rows[:FIXED] + middle[::2] + self._rows[-1:]
        _write_rows(self.path.with_suffix(".npz"), self._rows)
        save_png(str(self.path), self.picture())

    def picture(self) -> Picture:
        """The sheet as it is now, (H, W, 3) uint8."""
        return grid(self._rows)


def _equal(first: Sequence[Picture], second: Sequence[Picture]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _write_rows(path: Path, rows: Sequence[tuple[str, Sequence[Picture]]]) -> None:
    buffer = io.BytesIO()
    arrays = {f"{r}.{c}": p for r, (_, pictures) in enumerate(rows) for c, p in enumerate(pictures)}
    np.savez_compressed(buffer, allow_pickle=False, labels=np.array([label for label, _ in rows]), **arrays)
    write_whole(path, buffer.getvalue())


def _read_rows(path: Path) -> list[tuple[str, list[Picture]]]:
    """The rows that an earlier process left; none if the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {key: saved[key] for key in saved.files}
    except (OSError, ValueError, BadZipFile, EOFError):
        return []
    rows: list[tuple[str, list[Picture]]] = [(str(label), []) for label in arrays.pop("labels", [])]
    keys = sorted(arrays, key=lambda key: tuple(int(n) for n in key.split(".")))
    for key in keys:
        rows[int(key.split(".")[0])][1].append(arrays[key])
    return rows
