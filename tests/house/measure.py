"""The house in numbers: `python tests/house/measure.py [FOLDER...]`, folders like `upscale/`.

A room is a folder with modules, or a module that lies loose at the top. An arrow leads from a room to
another that it imports, wherever in a module the import stands. A floor is above all that its rooms import.
A circle is a set of modules that import each other. The walk of `Options` begins at `upscale_file` and
enters, in the order of the source, every function or class that is given them, or an object that carries
them: a stay is a run of them in one room; a climb is a call out of a room into one that itself builds on
the first.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "upscale"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class House:
    """The modules of a package, read but not run.

    Attributes:
        root: the package's folder.
    """

    root: Path = PACKAGE

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Dotted name without "upscale." → file; a package is named by its folder, the package itself ""."""
        found = {}
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.modules.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Module → the modules of this package that it imports, itself left out."""
        return {
            name: {module for _, module, _ in self.names(tree)} - {name} for name, tree in self.trees.items()
        }

    def names(self, tree: ast.AST) -> Iterator[tuple[str, str, str]]:
        """Of every import of this package below `tree`: local name, module, name in it ("" is the module)."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == "upscale":
                        yield alias.asname or alias.name, _short(alias.name), ""
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{ast.dump(node)}: relative import"
                if (node.module or "").split(".")[0] == "upscale":
                    module = _short(node.module or "")
                    for alias in node.names:
                        inner = f"{module}.{alias.name}".removeprefix(".")
                        known = inner in self.modules
                        yield (
                            alias.asname or alias.name,
                            inner if known else module,
                            "" if known else alias.name,
                        )

    def room(self, module: str) -> str:
        """Folder of a module, or the module itself where it lies at the top."""
        return module if self.modules[module].name == "__init__.py" else module.rpartition(".")[0] or module

    @cached_property
    def rooms(self) -> dict[str, list[str]]:
        """Room → its modules. Folders that hold rooms only are none."""
        found: dict[str, list[str]] = {}
        for module in self.modules:
            found.setdefault(self.room(module), []).append(module)
        return {r: m for r, m in found.items() if m != [r] or self.lines(r) > 5 or self.imports[r]}

    @cached_property
    def arrows(self) -> set[tuple[str, str]]:
        pairs = ((self.room(a), self.room(b)) for a, others in self.imports.items() for b in others)
        return {(a, b) for a, b in pairs if a != b and a in self.rooms and b in self.rooms}

    def floors(self) -> dict[str, int]:
        """Room → floor, from 0; rooms in a circle share one."""
        below = {room: {b for a, b in self.arrows if a == room} for room in self.rooms}
        groups = circles(below)
        of = {room: frozenset(group) for group in groups for room in group}
        floor: dict[str, int] = {}

        def settle(room: str) -> int:
            if room not in floor:
                group = of.get(room, frozenset((room,)))
                others = {b for member in group for b in below[member]} - group
                level = 1 + max((settle(b) for b in others), default=-1)
                floor.update(dict.fromkeys(group, level))
            return floor[room]

        for room in self.rooms:
            settle(room)
        return floor

    def lines(self, module: str) -> int:
        return self.modules[module].read_text(encoding="utf-8").count("\n")

    def functions(self) -> Iterator[tuple[int, str]]:
        """Lines and name of every function, comments and docstring included."""
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{module}.{node.name}"


def _short(name: str) -> str:
    return name.removeprefix("upscale").removeprefix(".")


def reach(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Node → all nodes that arrows lead to from it, one after the other."""
    found = {node: set(others) for node, others in graph.items()}
    for middle in found:
        for node in found:
            if middle in found[node]:
                found[node] |= found[middle]
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of nodes that reach each other, each of two or more."""
    below = reach(graph)
    found: list[set[str]] = []
    for node in below:
        group = {other for other in below[node] if node in below.get(other, ())}
        if len(group) > 1 and group not in found:
            found.append(group)
    return found


class Walk:
    """Follows `Options` from `upscale_file` down.

    Attributes:
        steps: (module, name) of what was entered, in order.
        calls: (caller's module, called module), each time something was entered that had not been.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._defined = {
            module: {n.name: n for n in tree.body if isinstance(n, Definition)}
            for module, tree in house.trees.items()
        }
        self._names = {
            module: {local: (m, n) for local, m, n in house.names(tree)}
            for module, tree in house.trees.items()
        }
        self._carriers = self._find_carriers()
        self.steps: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []
        start = next(m for m, d in self._defined.items() if isinstance(d.get("upscale_file"), Function))
        self._enter(start, "upscale_file", self._defined[start]["upscale_file"])

    def _find_carriers(self) -> set[str]:
        """Names of the classes with a field that is `Options`, or a class that has."""
        carriers = {"Options"}
        while True:
            more = {
                name
                for defined in self._defined.values()
                for name, node in defined.items()
                if isinstance(node, ast.ClassDef) and name not in carriers and self._holds(node, carriers)
            }
            if not more:
                return carriers
            carriers |= more

    def _holds(self, node: ast.ClassDef, carriers: set[str]) -> bool:
        fields = [b.annotation for b in node.body if isinstance(b, ast.AnnAssign)]
        init = [
            a for b in node.body if isinstance(b, Function) and b.name == "__init__" for a in _annotations(b)
        ]
        return any(_mentions(a, carriers) for a in fields + init)

    def _takes(self, node: Definition) -> bool:
        if isinstance(node, ast.ClassDef):
            return node.name in self._carriers
        return any(_mentions(a, self._carriers) for a in _annotations(node))

    def _enter(self, module: str, name: str, node: Definition) -> None:
        if (module, name) in self.steps:
            return
        self.steps.append((module, name))
        calls = sorted(
            (n for n in ast.walk(node) if isinstance(n, ast.Call)), key=lambda n: (n.lineno, n.col_offset)
        )
        for call in calls:
            found = self._target(module, call.func)
            if found and found[1] != "Options" and self._takes(found[2]):
                if found[:2] not in self.steps:
                    self.calls.append((module, found[0]))
                self._enter(*found)

    def _target(self, module: str, called: ast.expr) -> tuple[str, str, Definition] | None:
        """What a call calls, as far as names tell: a function or class of this package."""
        if isinstance(called, ast.Name):
            home, name = self._names[module].get(called.id, (module, called.id))
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            home, inner = self._names[module].get(called.value.id, ("", "?"))
            if inner:
                return None
            name = called.attr
        else:
            return None
        node = self._defined.get(home, {}).get(name)
        return (home, name, node) if node is not None else None

    def stays(self) -> list[str]:
        """The rooms in the order of the walk."""
        rooms = [self._house.room(module) for module, _ in self.steps]
        return [r for n, r in enumerate(rooms) if n == 0 or rooms[n - 1] != r]

    def climbs(self) -> list[tuple[str, str]]:
        """(room, room) of the calls that lead back up."""
        room = self._house.room
        above = reach({r: {b for a, b in self._house.arrows if a == r} for r in self._house.rooms})
        pairs = ((room(a), room(b)) for a, b in self.calls)
        return [(a, b) for a, b in pairs if a != b and a in above.get(b, ())]


def _annotations(node: Function) -> list[ast.expr]:
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return [a.annotation for a in arguments if a.annotation is not None]


def _mentions(annotation: ast.expr, names: set[str]) -> bool:
    return any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(annotation))


def numbers(house: House) -> dict[str, str]:
    """The table of the house: what is counted → how many."""
    walk = Walk(house)
    stays = walk.stays()
    length, longest = max(house.functions())
    file = max(house.modules, key=house.lines)
    counts = {
        "files": len(house.modules),
        "lines": sum(map(house.lines, house.modules)),
        "loose files at the top": sum(path.parent == house.root for path in house.modules.values()),
        "rooms": len(house.rooms),
        "floors": 1 + max(house.floors().values()),
        "import arrows": len(house.arrows),
        "import circles": len(circles(house.imports)),
        "stays of Options": f"{len(stays)} in {len(set(stays))} rooms",
        "climbs of Options": len(walk.climbs()),
        "longest file": f"{house.lines(file)} lines, {file}",
        "longest function": f"{length} lines, {longest}",
    }
    return {name: str(count) for name, count in counts.items()}


def report(house: House) -> str:
    """The table, what is wrong, and the rooms."""
    lines = [f"{name:24} {count}" for name, count in numbers(house).items()]
    lines += [f"  circle: {', '.join(sorted(c))}" for c in circles(house.imports)]
    lines += [f"  climb: {a} to {b}" for a, b in Walk(house).climbs()]
    lines += ["", "lines per room, the highest floor first"]
    floor = house.floors()
    for room in sorted(house.rooms, key=lambda r: (-floor[r], r)):
        modules = house.rooms[room]
        size = sum(map(house.lines, modules))
        lines.append(f"  {floor[room]:2} {room or '(package)':24} {size:6} in {len(modules)} files")
    return "\n".join(lines)


def compare(houses: list[House]) -> str:
    """Several houses as a table of Markdown."""
    columns = [numbers(house) for house in houses]
    rows = ["|" + " |" * (1 + len(houses)), "|" + "---|" * (1 + len(houses))]
    rows += [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    return "\n".join(rows)


if __name__ == "__main__":
    given = [House(Path(argument).resolve()) for argument in sys.argv[1:]] or [House()]
    print(report(given[0]) if len(given) == 1 else compare(given))
