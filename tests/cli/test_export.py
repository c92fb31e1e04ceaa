"""`upscale export` as a person meets it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from upscale.cli.main import run


def test_a_file_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "fast", "-o", str(tmp_path / "a.glsl")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.glsl'}: 111 kB\n"


def test_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--list-formats"]) == 0
    out = capsys.readouterr().out
    for name in ("mpv", "web", "ncnn", "onnx", "tflite"):
        assert f"\n{name} " in out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["gan", "-f", "exe"], 2, "upscale: no format 'exe'; there are mpv, web, ncnn, onnx, tflite\n"),
        (["nobody", "-f", "mpv"], 2, "no such model"),
        (["gan", "-o", "FOLDER/none/a.glsl"], 1, "the folder of the output does not exist"),
    ],
)
def test_faults_are_one_line(
    args: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", *(a.replace("FOLDER", str(tmp_path)) for a in args)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.skipif(importlib.util.find_spec("ncnn") is None, reason="no Python package ncnn")
def test_check_prints_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "fast", "-o", str(tmp_path / "a.param"), "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[2:]] == ["ncnn, 160x90", "ncnn, 61x43"]


def test_what_cannot_run_here_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["export", "fast", "-o", str(tmp_path / "a.glsl"), "--check"]) == 0
    assert capsys.readouterr().err == "upscale: not checked: no ffmpeg\n"
