"""What is safe to print, and how numbers and tables look."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

from upscale.media.input.address import masked

# C0, DEL and C1 controls can drive a terminal; lone surrogates (undecodable file names) cannot be
# encoded; bidirectional controls can make a name read as another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: object) -> str:
    """`text` on one line, with everything that a terminal could obey shown as ``?``, and no passwords."""
    return _UNSAFE.sub("?", masked(str(text)))


def json_text(value: Any) -> str:
    """`value` as one line of JSON, without the passwords of URLs."""
    return json.dumps(_masked(value))


def _masked(value: Any) -> Any:
    match value:
        case str():
            return masked(value)
        case dict():
            return {key: _masked(item) for key, item in value.items()}
        case list() | tuple():
            return [_masked(item) for item in value]
        case _:
            return value


def say(message: object, path: str | None = None) -> None:
    """One line ``upscale: PATH: MESSAGE`` on stderr, if there is one."""
    where = f"{clean(path)}: " if path else ""
    if sys.stderr is not None:
        print(f"upscale: {where}{clean(message)}", file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether a display on stderr can be seen and redrawn."""
    return sys.stderr is not None and sys.stderr.isatty()


def status_line(quiet: bool) -> Callable[[str], None]:
    """Shows what runs now on one line of a terminal, which the next text replaces; "" ends that.

    Args:
        quiet: show nothing, as where stderr is no terminal.
    """
    if quiet or not on_terminal():
        return lambda text: None
    return lambda text: print(f"\r\033[K{clean(text)}", end="", file=sys.stderr, flush=True)


def bytes_text(count: float) -> str:
    """``812 B``, ``3.4 MB``, ``123 GB``: decimal units, three digits."""
    for unit, decimals in (("B", 0), ("kB", 1), ("MB", 1), ("GB", 1)):
        if round(count, decimals) < 100:
            return f"{count:.{decimals}f} {unit}"
        if round(count) < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def table(rows: list[list[str]], header: list[str]) -> str:
    """Columns aligned with spaces; numbers, which begin with a digit, to the right."""
    cells = [header, *[[clean(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for n, row in enumerate(cells):
        parts = [
            cell.rjust(w) if _numeric(cells, i, n) else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _numeric(cells: list[list[str]], column: int, row: int) -> bool:
    text = cells[row][column] if row else next((r[column] for r in cells[1:] if r[column]), "")
    return text[:1].isdigit()
