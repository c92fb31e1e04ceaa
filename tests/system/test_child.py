"""Children of ours find this package, whatever the current folder holds, and a crash stays with them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import upscale
from upscale.system.child import environment, run_module, start_module


def test_a_child_imports_this_package_and_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "upscale.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "shown.py").write_text("import upscale; print(upscale.__file__)")
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    (elsewhere / "upscale.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run_module("shown", timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, str(Path(upscale.__file__))), done.stderr


def test_it_gets_its_input_and_its_output_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo.py").write_text(
        "import sys; print(sys.stdin.read().upper(), sys.argv[1:], flush=True)\n"
        "sys.stdout.buffer.write(b'\\xff')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_module("echo", "a", timeout=60, input="x").stdout == "X ['a']\n\N{REPLACEMENT CHARACTER}"
    assert run_module("echo", timeout=60).stdout.startswith(" []")


def test_one_that_is_started_is_read_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talk.py").write_text("import sys; print('out'); print('err', file=sys.stderr)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert start_module("talk").communicate(timeout=60) == ("out\n", "err\n")


def test_a_crash_and_a_standstill_are_the_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crash.py").write_text("import os; os.abort()")
    (tmp_path / "hang.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_module("crash", timeout=60).returncode < 0
    with pytest.raises(subprocess.TimeoutExpired):
        run_module("hang", timeout=0.5)


def test_the_users_own_path_comes_after_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    ours = environment()["PYTHONPATH"]
    monkeypatch.setenv("PYTHONPATH", "theirs")
    assert environment()["PYTHONPATH"] == f"{ours}:theirs"
