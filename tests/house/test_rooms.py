"""A room knows only the rooms below it: the order of the house, read from the imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from house.measure import House, Walk, circles, report

HOUSE = House()
TESTS = Path(__file__).resolve().parents[1]

#: Modules that no test names → the tests that run them.
COVERED = {
    "backends.onnx_devices": "test_backends.py",
    "export.cells": "test_int8.py",
    "media.output.encode": "test_sink.py",
    "system.closing": "test_backends.py",
    "train.card": "test_train_cli.py",
    "train.held_out": "test_train_data.py",
    "train.preview": "test_train_cli.py",
}

#: The rooms, the lowest first. A module belongs to the longest name that its own begins with; a room may
#: import itself and every room that stands before it.
ROOMS = (
    "version",
    "errors",
    "options",
    "events",
    "system",
    "model",
    "media.pixels",
    "media.input",
    "media.output",
    "backends",
    "frame",
    "metrics",
    "export",
    "job",
    "pictures",
    "jobs.resume",
    "jobs.cluster",
    "jobs",
    "bench",
    "compare",
    "train",
    "api",
    "",  # the package itself: public names only
    "cli",
    "__main__",
)


def room_of(module: str) -> str:
    """The room that a module belongs to."""
    fitting = [r for r in ROOMS if r and (module == r or module.startswith(r + "."))]
    return max(fitting, key=len, default=module)


def test_every_module_has_a_room() -> None:
    packages = {name for name, path in HOUSE.modules.items() if path.name == "__init__.py"}
    assert {m for m in HOUSE.modules if room_of(m) not in ROOMS} <= packages


def test_a_room_knows_only_the_rooms_below_it() -> None:
    """Also not through TYPE_CHECKING, nor through an import inside a function."""
    floor = {room: number for number, room in enumerate(ROOMS)}
    climbs = [
        f"{name} knows {other}"
        for name, others in HOUSE.imports.items()
        for other in others
        if floor.get(room_of(name), len(ROOMS)) < floor.get(room_of(other), -1)
    ]
    assert climbs == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(HOUSE.imports) == []


def test_options_never_climb_back_up() -> None:
    """From `upscale_file` down to the file that is written; the walk must get there to say anything."""
    walk = Walk(HOUSE)
    assert walk.climbs() == []
    assert {"jobs.resume", "job", "media.input", "media.output"} <= set(walk.stays())


def test_functions_stay_short() -> None:
    assert [name for length, name in HOUSE.functions() if length > 60] == []


def test_every_room_has_its_manual() -> None:
    """What it is for, its files in reading order, what goes in and out, what it must not know."""
    rooms = {path.parent for path in HOUSE.modules.values() if path.parent != HOUSE.root}
    missing = {
        str(room.relative_to(HOUSE.root))
        for room in rooms
        if not any((folder / "README.md").exists() for folder in (room, room.parent) if folder != HOUSE.root)
    }
    assert missing == set()


def test_every_module_is_named_by_a_test() -> None:
    """By the name of a test file, by an import, in the first words of a test file, or in `COVERED`."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")}
    every = "\n".join(texts.values())
    docs = "\n".join(ast.get_docstring(ast.parse(text)) or "" for text in texts.values())
    unnamed = set()
    for module, path in HOUSE.modules.items():
        room, _, last = module.rpartition(".")
        imported = rf"upscale\.{re.escape(module)}\b|from upscale\.{re.escape(room)} import [^\n]*\b{last}\b"
        if path.name == "__init__.py" or f"test_{last}.py" in texts or re.search(rf"\b{last}\b", docs):
            continue
        if not re.search(imported, every):
            unnamed.add(module)
    assert unnamed <= COVERED.keys()
    assert set(COVERED.values()) <= texts.keys()


def test_the_table_of_the_house_can_be_printed() -> None:
    assert "import circles           0" in report(HOUSE)
