"""The table of faults in README.md is complete, and its tests are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_every_fault_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)$", (TESTS / "README.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 76))
    for number, row in rows:
        named = re.findall(r"`(\w+)::(test_\w+)(?:\[([^\]]+)\])?`", row)
        assert named, number
        for module, test, variant in named:
            text = next(TESTS.rglob(f"test_{module}.py")).read_text()
            assert f"def {test}(" in text, (number, test)
            assert not variant or f'"{variant}"' in text, (number, variant)


def test_variants_are_counted_as_tests() -> None:
    """A list of faults that nothing takes its parameters from would look complete."""
    for module, lists in {
        "not_a_video": ["FAULTS"],
        "damaged": ["DAMAGED"],
        "odd_videos": ["BOMBS"],
        "bad_models": ["SHAPES"],
    }.items():
        text = (TESTS / "faults" / f"test_{module}.py").read_text()
        for name in lists:
            assert re.search(rf"in {name}\b", text), (module, name)
