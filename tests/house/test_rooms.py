"""A room knows only the rooms below it: the order of the house, read from the imports."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "upscale"

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


def modules() -> dict[str, Path]:
    """Dotted name without "upscale." → file; a package is named by its folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of this package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "upscale"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module is not None and node.module.split(".")[0] == "upscale":
                module = node.module.removeprefix("upscale").removeprefix(".")
                for alias in node.names:
                    name = f"{module}.{alias.name}".removeprefix(".")
                    found.add(f"upscale.{name}" if name in known else node.module)
    return {name.removeprefix("upscale").removeprefix(".") for name in found}


def room_of(module: str) -> str:
    """The room that a module belongs to."""
    fitting = [r for r in ROOMS if r and (module == r or module.startswith(r + "."))]
    return max(fitting, key=len, default=module)


def graph() -> dict[str, set[str]]:
    """Module → the modules that it imports, itself left out."""
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def test_every_module_has_a_room() -> None:
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert {m for m in modules() if room_of(m) not in ROOMS} <= packages


def test_a_room_knows_only_the_rooms_below_it() -> None:
    """Also not through TYPE_CHECKING, nor through an import inside a function."""
    floor = {room: number for number, room in enumerate(ROOMS)}
    climbs = [
        f"{name} knows {other}"
        for name, others in graph().items()
        for other in others
        if floor.get(room_of(name), len(ROOMS)) < floor.get(room_of(other), -1)
    ]
    assert climbs == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    remaining = graph()
    while free := [name for name, others in remaining.items() if not others & remaining.keys()]:
        for name in free:
            del remaining[name]
    assert sorted(remaining) == []
