"""`upscale doctor`: says what is there, and finds what was broken on purpose."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.backends.auto import Race
from upscale.backends.trial import Outcome
from upscale.cli import doctor
from upscale.cli.doctor import Diagnosis, diagnose, outdated
from upscale.cli.main import COMMANDS
from upscale.model import weights


def test_a_sound_installation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "upscale", "doctor"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    for words in ("libavcodec 6", "onnxruntime 1", "numpy", "CPython", "libx264", "no problems found"):
        assert words in done.stdout


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = Diagnosis({"upscale": "1", "packages": {"av": "18"}}, ["\x1b[31mbroken"])
    monkeypatch.setattr(doctor, "diagnose", lambda: found)
    assert doctor.doctor.main(["--json"], standalone_mode=False) == 1
    expected = {"facts": found.facts, "problems": found.problems, "races": []}
    assert json.loads(capsys.readouterr().out) == expected
    assert doctor.doctor.main([], standalone_mode=False) == 1
    text = capsys.readouterr().out
    assert "packages   av 18" in text
    assert "problem: ?[31mbroken" in text
    assert "doctor" in COMMANDS


def test_races_are_shown_as_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Issue 17: a choice that was made under load could not be seen, and stayed for ever."""
    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path))
    times, spread = {"onnx int8": 6.0, "tflite int8": 5.0}, {"onnx int8": 0.02, "tflite int8": 0.3}
    race = Race("gan, 480x270, 8 bit", Outcome(times, {"onnx bf16": "differs by 9"}, spread, busy=True))
    (tmp_path / "backends.json").write_text(json.dumps({"key": race.to_json(), "old": {"times": {}}}))
    found = Diagnosis()
    doctor._cache(found)
    monkeypatch.setattr(doctor, "diagnose", lambda: found)
    doctor.doctor.main([], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("gan, 480x270"))
    assert lines[first].split()[-8:] == ["tflite", "int8", "5.0", "+30", "%", "machine", "was", "busy"]
    assert lines[first + 1].split() == ["onnx", "int8", "6.0", "+2", "%"]
    assert lines[first + 2].split() == ["onnx", "bf16", "differs", "by", "9", "from", "fp32"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the trial imports, which take seconds."""
    monkeypatch.setattr(doctor, "_import_error", lambda module: None)


def test_altered_and_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights.weights_folder(), folder, ignore=shutil.ignore_patterns("wip"))
    monkeypatch.setattr(weights, "weights_folder", lambda: folder)
    assert diagnose().problems == []
    with (folder / "gan.onnx").open("r+b") as file:
        file.write(b"x")
    (folder / "fast.tflite").unlink()
    problems = diagnose().problems
    assert len(problems) == 2
    assert any("gan.onnx" in p and "SHA-256 differs" in p for p in problems)
    assert any("fast.tflite" in p and "No such file" in p for p in problems)
    (folder / "models.json").unlink()
    assert any("cannot be read" in p for p in diagnose().problems)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert any("cannot be remembered" in p for p in diagnose().problems)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.setattr(doctor, "_BASE", {**doctor._BASE, "no-such-package": None})
    assert "no-such-package is not installed: pip install no-such-package" in diagnose().problems


def test_runtimes_that_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel for another processor ends the process that imports it; only a child may do that."""
    (tmp_path / "breaks.py").write_text("raise ImportError('no such library')")
    (tmp_path / "crashes.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor._import_error("breaks") == "ImportError: no such library"
    assert re.fullmatch(
        r"importing it ends the process with signal \d+", doctor._import_error("crashes") or ""
    )
    assert doctor._import_error("json") is None


@pytest.mark.parametrize(
    ("version", "safe"),
    [("9.0.2", True), ("10.1", True), ("8.1.2", True), ("8.1.1", False), ("8.0.3", True), ("8.0.2", False),
     ("8.2", False), ("7.1.3", False), ("n8.1.1-5-gabc", False), ("N-120000-gabcdef", True)],
)  # fmt: skip
def test_outdated_ffmpeg(version: str, safe: bool) -> None:
    assert (outdated(version) is None) == safe
