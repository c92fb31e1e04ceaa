"""The command line as a person meets it, in a process of its own; covers `main.py`, `progress.py`, `info.py`,
`listing.py` and `upscale/__main__.py`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeClip

from upscale.cli.main import run
from upscale.cli.run import Job
from upscale.events import OnEvent
from upscale.options import Options


def upscale(*args: str | Path, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-m", "upscale", *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, timeout=120, **{"stdin": subprocess.DEVNULL, **more}
    )


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The only line on stderr."""
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.startswith("upscale: ")
    return text.strip()


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what the main command would run, instead of running it."""
    seen: list[Any] = []

    def run_job(job: Job, show: OnEvent) -> int:
        seen.append((*job.inputs, job.output, job.options))
        return 0

    monkeypatch.setattr(Job, "run", run_job)
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    return seen


def test_options_not_given_keep_the_defaults_of_the_dataclass(options: list[Any]) -> None:
    """The only place for defaults is upscale/options.py."""
    assert run(["in.mp4"]) == 0
    assert options == [("in.mp4", None, Options())]


def test_every_option_reaches_the_dataclass(options: list[Any]) -> None:
    line = (
        "-y -v -an -sn -c:v libx265 -ss 1:00 -t 0:30.5 --crf 20 --preset fast --pix-fmt yuv420p10le "
        "-e a=b -e c=d=e --target 1080p --backend torch --device cpu --threads 3 --model m --strength 0.5 "
        "--keep-interlaced --strict -r -j 4 -f matroska in.mp4 -o o.mkv"
    )
    assert run(line.split()) == 0
    assert options == [
        (
            "in.mp4",
            "o.mkv",
            Options(
                target="1080p",
                codec="libx265",
                crf=20,
                preset="fast",
                pix_fmt="yuv420p10le",
                encoder_options={"a": "b", "c": "d=e"},
                start=60.0,
                stop=90.5,
                audio=False,
                subtitles=False,
                keep_interlaced=True,
                strict=True,
                model="m",
                strength=0.5,
                backend="torch",
                device="cpu",
                threads=3,
                overwrite=True,
                recursive=True,
                jobs=4,
                container="matroska",
            ),
        )
    ]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("-ss 2", (2.0, None)),
        ("-to 8", (None, 8.0)),
        ("-ss 2 -to 8", (2.0, 8.0)),
        ("-ss 2 -t 8", (2.0, 10.0)),
    ],
)
def test_parts(line: str, part: tuple[float | None, float | None], options: list[Any]) -> None:
    assert run([*line.split(), "in.mp4"]) == 0
    assert (options[0][2].start, options[0][2].stop) == part


def test_short_flags_can_be_joined_and_sizes_named(options: list[Any]) -> None:
    assert run("-yv in.mp4 --width 1280 --height 720".split()) == 0
    assert run("in.mp4 --scale 1.5".split()) == 0
    assert options[0][2] == Options(overwrite=True, width=1280, height=720)
    assert options[1][2] == Options(scale=1.5)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("in.mp4 out.mp4 -o other.mp4", "twice"),
        ("in.mp4 -t 3 -to 4", "exclude"),
        ("in.mp4 -ss 5 -to 4", "nothing is left"),
        ("in.mp4 -y -n", "excludes"),
        ("in.mp4 -e nonsense", "KEY=VALUE"),
        ("in.mp4 --nonsense", "--nonsense"),
        ("in.mp4 --target 700p", "700p"),
        ("in.mp4 -ss soon", "not a time"),
        ("in.mp4 --threads 0", "threads"),
        ("a b c", "need a directory"),
        ("train", "CLIPS"),
    ],
)
def test_refusals_are_one_line_and_exit_2(
    line: str, reason: str, capsys: pytest.CaptureFixture[str], options: list[Any]
) -> None:
    assert run(line.split()) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith("upscale: ")
    assert reason in text
    assert not options


def test_a_file_named_like_a_command_is_reached_with_its_path(options: list[Any]) -> None:
    assert run(["./train"]) == 0
    assert options[0][0] == "./train"


def test_without_arguments_it_explains_itself(capsys: pytest.CaptureFixture[str], options: list[Any]) -> None:
    """click 8.2 and later raise NoArgsIsHelpError, whose text is not for one line."""
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: upscale [OPTIONS] IN... [OUT]\n")


def test_help_is_quick() -> None:
    """Guards the 0.3 s budget: no media, number or runtime library may be imported for --help."""
    code = (
        "import sys; from upscale.cli.main import run; run(['--help']); "
        "print(sorted({'av', 'numpy', 'rich', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--target" in done.stdout


def test_version_names_ffmpeg() -> None:
    text = upscale("--version").stdout.decode()
    assert text.startswith("upscale 0.")
    assert "FFmpeg" in text


def test_list_names_models_backends_devices_and_encoders() -> None:
    text = upscale("--list").stdout.decode()
    for word in ("lanczos", "onnx", "tflite", "cpu", "libx264", "libsvtav1"):
        assert word in text


def test_upscales_and_says_so_on_stderr_only(tmp_path: Path, make_clip: MakeClip) -> None:
    make_clip(tmp_path / "clip.mp4", size=(320, 240))
    done = upscale("clip.mp4", "--model", "lanczos", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == b""
    assert "clip_720p.mp4: 960x720, 10 frames" in one_line(done)
    assert (tmp_path / "clip_720p.mp4").exists()


def test_quiet_says_nothing(tmp_path: Path, make_clip: MakeClip) -> None:
    done = upscale(make_clip(tmp_path / "clip.mp4"), "--model", "lanczos", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_verbose_says_why_the_runtime_was_chosen(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    done = upscale(str(clip), str(tmp_path / "out.mp4"), "-v", "--backend", "onnx")
    line = next(line for line in done.stderr.decode().splitlines() if "measured" in line)
    assert re.search(
        r"gan, \d+x\d+, 8 bit: onnx \w+, measured .*: onnx \w+ [\d.]+ ms, onnx \w+ [\d.]+ ms per frame", line
    )


def test_json_is_one_object_per_line_from_start_to_result(tmp_path: Path, make_clip: MakeClip) -> None:
    done = upscale(make_clip(tmp_path / "clip.mp4", size=(320, 240)), "--model", "lanczos", "--json")
    events = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "result"
    assert events[-1]["frames"] == 10
    assert events[-1]["size"] == [960, 720]
    assert done.stderr == b""


def test_json_names_a_failure_too(tmp_path: Path) -> None:
    done = upscale("nowhere.mp4", "--json", "--model", "lanczos", cwd=tmp_path)
    event = json.loads(done.stdout)
    assert (event["event"], event["input"], event["exit_code"]) == ("failed", "nowhere.mp4", 1)
    assert event["message"] in one_line(done)


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (None, 1, "o such file"),
        (b"", 1, ""),
        (b"garbage" * 500, 1, ""),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", 1, ""),
    ],
)
def test_what_is_no_video_fails_in_one_line(
    content: bytes | None, code: int, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    if content is not None:
        (tmp_path / "bad.mp4").write_bytes(content)
    done = upscale("bad.mp4", "out/o.mp4", "--model", "lanczos", cwd=tmp_path)
    assert done.returncode == code
    line = one_line(done)
    assert line.startswith("upscale: bad.mp4: ")
    assert reason in line
    assert os.listdir(tmp_path / "out") == []


def test_names_with_control_characters_cannot_reach_the_terminal(tmp_path: Path) -> None:
    done = upscale("evil\x1b[31m\nname\x07.mp4", "--model", "lanczos", cwd=tmp_path)
    assert done.returncode == 1
    assert "evil?[31m?name?.mp4" in one_line(done)


def test_a_damaged_input_exits_3_and_keeps_the_output(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mkv", size=(160, 120), frames=100)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    done = upscale(clip, tmp_path / "o.mkv", "--model", "lanczos")
    assert done.returncode == 3
    assert b"damaged" in done.stderr
    assert (tmp_path / "o.mkv").exists()


def test_skip_existing_leaves_a_finished_file_alone(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    (tmp_path / "clip_720p.mp4").write_bytes(b"done")
    assert upscale(clip, "--model", "lanczos").returncode == 2
    assert upscale(clip, "--model", "lanczos", "--skip-existing").returncode == 0
    assert (tmp_path / "clip_720p.mp4").read_bytes() == b"done"


def test_pipes_both_ways(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mkv", audio=True)
    done = upscale("-", "-", "--model", "lanczos", "-q", input=clip.read_bytes(), stdin=None)
    assert done.returncode == 0, done.stderr
    (tmp_path / "back.mkv").write_bytes(done.stdout)
    import av

    with av.open(str(tmp_path / "back.mkv")) as container:
        assert len(container.streams) == 2
        assert len([f for f in container.decode(video=0) if (f.width, f.height) == (960, 720)]) == 10


def test_a_reader_that_goes_away_is_one_line(samples: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "upscale",
        str(samples / "bee_360p.mp4"),
        "-",
        "--model",
        "lanczos",
        "-q",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(1000)
        child.stdout.close()
        text = child.stderr.read().decode()
    assert child.returncode == 1
    assert text.count("\n") <= 1


def test_a_directory_prints_a_table_and_exits_1_if_any_failed(tmp_path: Path, make_clip: MakeClip) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.mp4")
    assert upscale(folder, "--model", "lanczos").returncode == 0
    (folder / "b.mp4").write_bytes(b"bad")
    done = upscale(folder, "--model", "lanczos")
    assert done.returncode == 1
    text = done.stderr.decode()
    assert "0 done, 1 skipped, 1 failed" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly(number: int, code: int, tmp_path: Path, make_clip: MakeClip) -> None:
    """Nothing is left behind, and the signal that a wrapper sends twice counts once."""
    clip = make_clip(tmp_path / "clip.mp4", size=(320, 240), frames=200)
    folder = tmp_path / "out"
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "upscale",
        str(clip),
        str(folder / "o.mp4"),
        "--model",
        "lanczos",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        while b"progress" not in child.stdout.readline():
            pass
        assert os.listdir(folder)
        child.send_signal(number)
        child.send_signal(number)
        child.stdout.read()
        text = child.stderr.read().decode()
    assert child.returncode == code
    assert text.count("\n") == 1
    assert os.listdir(folder) == []


def test_a_signal_while_ffmpeg_logs_is_not_lost() -> None:
    """PyAV calls Python's logging from C, prints what is raised there, and continues."""
    script = """
import logging, signal, sys, time
from upscale.cli import main

class Press(logging.Handler):
    def emit(self, record):
        signal.raise_signal(signal.SIGINT)

main._catch_signals()
logging.getLogger("libav").addHandler(Press())
import av.logging
av.logging.set_level(av.logging.ERROR)
try:
    av.logging.log(av.logging.ERROR, "x", "message")
    time.sleep(10)
except main.Stopped as stopped:
    sys.exit(main._report(stopped, verbose=False))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 130
    assert one_line(done) == "upscale: stopped; unfinished files were removed"


def test_a_silent_stdin_can_be_interrupted(tmp_path: Path) -> None:
    """FFmpeg repeats an interrupted read, so the read must not be in the main thread."""
    command = [sys.executable, "-m", "upscale", "-", str(tmp_path / "o.mkv"), "--model", "lanczos"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        time.sleep(1.5)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
    assert os.listdir(tmp_path) == []


def test_info_about_a_video_says_what_becomes_of_each_stream(samples: Path) -> None:
    done = upscale("info", samples / "face_360p.mp4")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "1280x720" in text
    assert "mp3" in text
    assert "kept" in text
    facts = json.loads(upscale("info", samples / "face_360p.mp4", "--json", "-o", "x.mkv").stdout)
    assert facts["container"] == "matroska"
    assert [s["action"] for s in facts["streams"]] == ["encode", "copy"]


def test_info_about_a_large_video_says_why_it_would_be_refused(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4", size=(1280, 720), frames=2)
    done = upscale("info", clip)
    assert done.returncode == 0
    assert b"would be refused: already 1280x720" in done.stdout


def test_info_about_the_default_model_counts_it() -> None:
    from upscale.model.weights import bundled

    name = next(iter(bundled()))
    facts = json.loads(upscale("info", name, "--json").stdout)
    assert 0 < facts["parameters"] <= 34_000
    assert facts["macs_per_720p_frame"] == facts["macs_per_output_pixel"] * 1280 * 720
    assert set(facts["files"]) >= {"safetensors", "onnx"}
    assert facts["bytes_per_frame"]["int8"] < facts["bytes_per_frame"]["fp32"]
    assert facts["version"] == 2
    text = upscale("info", name).stdout.decode()
    assert "receptive field" in text
    assert "bytes moved" in text
