"""Fuzzing in small: hundreds of seeded corruptions; what coverage-guided runs found stays found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
CASES = 320


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_seeded_corruption_gets_an_answer_every_time(tmp_path: Path) -> None:
    """mkv, mp4, ts and webm: a result, or one line; no crash, no hang, no file left, no memory kept."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FUZZ / "corrupt.py"), str(tmp_path), str(CASES), "5"],
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr, len(cases)) == (0, "", CASES)
    assert not any(case["changed"] for case in cases)
    codes = Counter(case["code"] for case in cases)
    assert codes[0] + codes[3] > CASES / 3, codes  # most damage lets the job finish
    assert codes[3] > CASES / 8, codes
    assert codes[1] > 0, codes
    assert {case["kind"] for case in cases if case["code"] == 3} == {".mkv", ".mp4", ".ts", ".webm"}
    memory = [case["memory"] for case in cases if case["memory"]]
    assert memory[-1] - memory[4] < 40e6, memory


@pytest.mark.parametrize("path", sorted((FUZZ / "found").iterdir()), ids=lambda path: path.stem)
def test_what_the_fuzzer_found_gets_an_answer(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs of former crashes, each named after its cause."""
    monkeypatch.syspath_prepend(str(FUZZ))
    from media import answer

    (tmp_path / "out").mkdir()
    assert answer(path, tmp_path / "out") in (1, 3)
