"""Names, flags and nicknames mean what newcomers mean by them; covers `arguments.py` and `upscale/api.py`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, MakeClip

from upscale import MediaError, Options, preview
from upscale.cli.arguments import COMMANDS
from upscale.cli.main import _command, run
from upscale.cli.run import Job, inputs_and_output
from upscale.events import OnEvent


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Collects what the main command would run, instead of running it."""
    seen: list[Job] = []

    def run_job(job: Job, show: OnEvent) -> int:
        seen.append(job)
        return 0

    monkeypatch.setattr(Job, "run", run_job)
    return seen


@pytest.fixture
def clips(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a.mp4 and b.mp4."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(make_clip(tmp_path / "a.mp4", frames=5), tmp_path / "b.mp4")
    return tmp_path


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refusal."""
    assert run(line.split()) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith("upscale: ")
    return text


def test_no_type_of_click_is_subscripted() -> None:
    """`click.ParamType[float]` ended the start with click 8.1 to 8.3; `.ci/run lowest` starts with 8.1."""
    for path in (ROOT / "upscale" / "cli").glob("*.py"):
        assert "ParamType[" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("paths", "named", "inputs", "output"),
    [
        (("a",), None, ("a",), None),
        (("a", "b"), None, ("a",), "b"),
        (("a",), "o", ("a",), "o"),
        (("a", "b", "c", "new/"), None, ("a", "b", "c"), "new/"),
    ],
)
def test_which_names_are_inputs(
    paths: tuple[str, ...], named: str | None, inputs: tuple[str, ...], output: str | None
) -> None:
    assert inputs_and_output(paths, named) == (inputs, output)


def test_several_inputs_go_into_a_directory(clips: Path) -> None:
    """`upscale *.mp4 -o DIR` and `upscale a.mp4 b.mp4 DIR/`: as a directory, so what is done is skipped."""
    assert run("a.mp4 b.mp4 -o new --model lanczos -q".split()) == 0
    assert sorted(p.name for p in (clips / "new").iterdir()) == ["a.mp4", "b.mp4"]
    before = (clips / "new" / "a.mp4").stat().st_mtime_ns
    assert run("a.mp4 b.mp4 new/ --model lanczos -q".split()) == 0
    assert (clips / "new" / "a.mp4").stat().st_mtime_ns == before


def test_several_inputs_without_a_directory(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(clips / "a.mp4", clips / "c.mp4")
    assert "-o DIR" in refused("a.mp4 b.mp4 c.mp4", capsys)
    assert "-o DIR" in refused("-y a.mp4 b.mp4 c.mp4", capsys)


def test_two_videos_are_not_an_invitation_to_destroy_the_second(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`upscale a.mp4 b.mp4` was answered with the advice to give -y, which would have replaced b.mp4."""
    whole = (clips / "b.mp4").read_bytes()
    text = refused("a.mp4 b.mp4", capsys)
    assert "-o DIR" in text
    assert "-y" not in text
    assert (clips / "b.mp4").read_bytes() == whole


@pytest.mark.parametrize("line", ["-y a.mp4 b.mp4 -o .", "-y a.mp4 b.mp4 ./", "-y a.mp4 a.mp4"])
def test_an_input_is_never_replaced(line: str, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (clips / "a.mp4").read_bytes()
    refused(line, capsys)
    assert (clips / "a.mp4").read_bytes() == whole
    assert sorted(p.name for p in clips.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_folder_in_and_a_file_name_out(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`upscale clips result.mp4` made a directory called result.mp4."""
    (clips / "clips").mkdir()
    refused("clips result.mp4", capsys)
    assert not (clips / "result.mp4").exists()


def test_flags_may_stand_before_a_command(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _command(["--json", "-v", "info", "x"]) == ("info", ["--json", "-v", "x"])
    assert _command(["-o", "train", "x"]) == ("run", ["-o", "train", "x"])
    assert run(["--json", "info", "a.mp4"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "a.mp4"
    for name in COMMANDS:
        assert f"upscale {name}" in refused(f"--model gan {name} x", capsys)


def test_ffmpegs_input_flag_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "upscale a.mp4" in refused("-i a.mp4 b.mp4", capsys)


@pytest.mark.parametrize(
    ("typed", "target"),
    [
        ("720p", "720p"),
        ("1080", "1080p"),
        ("1080P", "1080p"),
        ("2k", "1440p"),
        ("4k", "2160p"),
        ("4K", "2160p"),
    ],
)
def test_nicknames_of_sizes(typed: str, target: str, jobs: list[Job]) -> None:
    assert run(["a.mp4", "--target", typed]) == 0
    assert jobs[0].options.target == target


def test_names_of_codecs_reach_the_encoder(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    """`-vcodec` as in ffmpeg; nicknames are resolved where the encoders are, and `--list` shows them."""
    assert run("a.mp4 -vcodec h265".split()) == 0
    assert jobs[0].options.codec == "h265"
    assert run(["--list"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  libx264 "))
    assert "CRF 19, preset veryfast: " in line  # and the reason
    assert "also h264" in line


@pytest.mark.parametrize("flag", ["--compatible", "--trust-input"])
def test_flags_that_are_fields(flag: str, jobs: list[Job]) -> None:
    assert run(["a.mp4", flag]) == 0
    assert getattr(jobs[0].options, flag.strip("-").replace("-", "_")) is True


@pytest.mark.parametrize(
    "line", ["--width 1280", "--target 1080p", "-c:v ffv1", "-e a=b", "--crf 20", "--compatible"]
)
def test_bench_refuses_what_it_would_ignore(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Size and encoder belong to the job of a FILE; without one they were ignored without a word."""
    assert "FILE" in refused(f"bench {line}", capsys)


def test_a_skipped_file_is_an_event_and_quiet_is_quiet(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-q --skip-existing` talked, and `--json` said nothing."""
    (clips / "a_720p.mp4").write_bytes(b"done")
    assert run("a.mp4 --skip-existing -q".split()) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")
    assert run("a.mp4 --skip-existing --json".split()) == 0
    assert json.loads(capsys.readouterr().out) == {
        "event": "skipped",
        "input": "a.mp4",
        "reason": "a_720p.mp4 exists already",
        "version": 1,
    }
    assert run("a.mp4 --skip-existing".split()) == 0
    assert capsys.readouterr().err == "upscale: a.mp4: skipped: a_720p.mp4 exists already\n"


def test_a_directory_with_a_damaged_input_ends_as_the_file_does(
    tmp_path: Path, make_clip: MakeClip, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file alone ended with 3, its directory with 0."""
    (tmp_path / "in").mkdir()
    clip = make_clip(tmp_path / "in" / "a.mkv", size=(160, 120), frames=100)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    assert run([str(tmp_path / "in"), "--model", "lanczos", "--json"]) == 3
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e.get("version") for e in events] == [1] + [None] * (len(events) - 1)
    (tmp_path / "in" / "b.mkv").write_bytes(b"bad")
    assert run([str(tmp_path / "in"), "--model", "lanczos", "-q"]) == 1


def test_a_preview_is_the_plan_of_the_job(clips: Path) -> None:
    """What `upscale info` shows, from Python, with the options of a job; paths may be path objects."""
    found = preview(Path("a.mp4"), Path("o.mkv"), Options(target="1080p", audio=False))
    assert (found.output, found.refused) == ("o.mkv", None)
    assert found.plan is not None
    assert (found.plan.container, found.plan.size) == ("matroska", (1440, 1080))
    refused = preview("a.mp4", options=Options(width=16))
    assert refused.plan is None
    assert refused.refused
    with pytest.raises(MediaError) as error:
        preview("nowhere.mp4")
    assert error.value.path == "nowhere.mp4"
