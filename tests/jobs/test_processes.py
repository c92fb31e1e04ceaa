"""Several files at once, each in a process of its own: as with one job, whatever happens to one."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import pytest
from conftest import MakeClip

from upscale import Options
from upscale.events import BatchStart, Event, Failed, Progress, Result, Start, Warned
from upscale.jobs import batch
from upscale.jobs.batch import upscale_directory
from upscale.system.cores import cores

#: With mbtree, what libx264 writes depends on what memory held before.
SAME = {"x264-params": "mbtree=0"}
ONE = Options(model="lanczos", scale=2, encoder_options=SAME)
TWO = replace(ONE, jobs=2)
LARGE = replace(TWO, scale=4)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one core would run one file at a time."""
    monkeypatch.setattr(batch, "cores", lambda: 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def fill(folder: Path, make_clip: MakeClip, names: str) -> None:
    """Clips that are made quickly and, four times as large, take a while."""
    first, *others = (folder / f"{name}.mp4" for name in names)
    make_clip(first, size=(160, 120), frames=400)
    for other in others:
        shutil.copy(first, other)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def times(path: Path) -> list[float]:
    """Seconds at which each frame is shown."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0) if frame.time is not None]


def children() -> list[int]:
    """Processes of ours that are upscaling."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def wait_until_running(child: subprocess.Popen[bytes], files: int) -> None:
    """Read the JSON of a command until `files` files have progressed."""
    assert child.stdout is not None
    seen: set[str] = set()
    while len(seen) < files:
        event = json.loads(child.stdout.readline())
        if event["event"] == "progress":
            seen.add(event["input"])


def test_two_jobs_write_what_one_writes(tmp_path: Path, folder: Path, make_clip: MakeClip) -> None:
    """Outputs bit by bit, names that collide, a bad file, a large one, and what is there already."""
    for name in ("a.mp4", "a.mov", "a.flv", "z.mov"):
        make_clip(folder / name, audio=name != "a.flv")
    (folder / "b.mp4").write_bytes(b"not a video at all" * 100)
    make_clip(folder / "large.mp4", size=(1280, 720), frames=2)
    results = {}
    events: list[Event] = []
    for options in (ONE, TWO):
        out = tmp_path / f"out{options.jobs}"
        out.mkdir()
        (out / "z.mov").write_bytes(b"done")
        events = []
        results[options.jobs] = upscale_directory(
            str(folder), str(out), replace(options, scale=None, target="720p"), events.append
        )  # no Matroska among them: each of its files has an identity of its own
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")
    assert set(contents(tmp_path / "out2")) == {"a.mp4", "a.mov", "a.flv.mp4", "z.mov"}
    one, two = results[1], results[2]
    assert two.skipped == one.skipped
    assert two.failed == one.failed
    assert [(r.input, r.frames, r.warnings) for r in two.results] == [
        (r.input, r.frames, r.warnings) for r in one.results
    ]
    assert isinstance(events[0], BatchStart)
    assert (events[0].files, events[0].jobs) == (6, 2)
    assert events[-1] is two
    for result in two.results:
        kinds = [type(e) for e in events if e.input == result.input]
        assert (kinds[0], kinds[-1]) == (Start, Result)
    assert not children()


def test_the_network_gives_the_same_too(tmp_path: Path, folder: Path, make_clip: MakeClip) -> None:
    """Threads are divided, and "auto" is decided once for all files."""
    for name in ("a.mp4", "b.mp4"):
        make_clip(folder / name, frames=4)
    for jobs in (1, 2):
        options = Options(scale=2, backend="onnx", jobs=jobs, threads=2, encoder_options=SAME)
        upscale_directory(str(folder), str(tmp_path / f"out{jobs}"), options)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_a_process_that_dies_costs_its_own_file_only(
    tmp_path: Path, folder: Path, make_clip: MakeClip
) -> None:
    """A decoder that crashes, or the system that wants its memory back."""
    fill(folder, make_clip, "a")
    for name in ("b.mp4", "c.mp4", "d.mp4"):
        make_clip(folder / name)
    killed: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, Progress) and event.input.endswith("a.mp4") and not killed:
            # Both have begun; the one that works on a.mp4 is the first that was started.
            killed.append(min(children()))
            os.kill(killed[0], signal.SIGKILL)

    result = upscale_directory(str(folder), str(tmp_path / "out"), LARGE, kill)
    assert killed
    assert [(Path(f.input).name, f.message) for f in result.failed] == [
        ("a.mp4", "its process was stopped by SIGKILL")
    ]
    assert [Path(r.input).name for r in result.results] == ["b.mp4", "c.mp4", "d.mp4"]
    assert not children()


def test_a_listener_that_fails_stops_all(tmp_path: Path, folder: Path, make_clip: MakeClip) -> None:
    fill(folder, make_clip, "ab")

    def fail(event: Event) -> None:
        if isinstance(event, Progress):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upscale_directory(str(folder), str(tmp_path / "out"), LARGE, fail)
    assert not children()
    # The other file may be done by then; what was begun is gone.
    assert not [path for path in (tmp_path / "out").glob("*") if path.name.startswith(".")]


def test_there_are_no_more_jobs_than_cores_and_it_says_so(
    tmp_path: Path, folder: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "cores", lambda: 1)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_clip(folder / name, frames=2)
    events: list[Event] = []
    upscale_directory(str(folder), str(tmp_path / "out"), replace(ONE, jobs=9), events.append)
    assert [e.jobs for e in events if isinstance(e, BatchStart)] == [1]
    assert ["no more cores" in e.message for e in events if isinstance(e, Warned)] == [True]
    assert not [e for e in events if isinstance(e, Failed)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_stops_all_cleanly(
    number: signal.Signals, code: int, tmp_path: Path, folder: Path, make_clip: MakeClip
) -> None:
    """As a terminal does it: every process of the group gets the signal."""
    fill(folder, make_clip, "abc")
    command = [sys.executable, "-W", "error", "-m", "upscale", str(folder), str(tmp_path / "out"),
               "--model", "lanczos", "--scale", "4", "--json", "--jobs", "2"]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        wait_until_running(child, min(2, cores()))
        os.killpg(child.pid, number)
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read()  # ends when the last process that holds it has ended
        text = child.stderr.read().decode()
    assert child.returncode == code
    assert text.count("\n") == 1, text
    assert not (tmp_path / "out").exists()


def test_long_jobs_end_their_segments_and_continue_later(
    tmp_path: Path, folder: Path, make_clip: MakeClip
) -> None:
    """What one job does after Ctrl-C and on the same command, two do."""
    fill(folder, make_clip, "ab")
    segments = os.environ | {"UPSCALE_SEGMENT_FRAMES": "50"}
    two = [sys.executable, "-W", "error", "-m", "upscale", str(folder), str(tmp_path / "out"),
           "--model", "lanczos", "--scale", "4", "--json", "--jobs", "2"]  # fmt: skip
    with subprocess.Popen(
        two, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, env=segments
    ) as child:
        wait_until_running(child, min(2, cores()))
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read()
        text = child.stderr.read().decode()
    assert child.returncode == 130
    assert text == "upscale: stopped; finished segments are kept: the same command continues\n"
    kept = [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")]
    assert sum("segment-" in name for name in kept) >= 2
    assert not [name for name in kept if name.endswith(".part")]
    again = subprocess.run(two, capture_output=True, timeout=120, env=segments)
    assert again.returncode == 0, again.stderr
    assert b'"resumed"' in again.stdout
    assert set(contents(tmp_path / "out")) == {"a.mp4", "b.mp4"}
    for name in ("a.mp4", "b.mp4"):
        assert times(tmp_path / "out" / name) == times(folder / name)


def test_processes_whose_parent_is_killed_end_too(tmp_path: Path, folder: Path, make_clip: MakeClip) -> None:
    """Otherwise they would work on beside those of the next try."""
    fill(folder, make_clip, "ab")
    command = [sys.executable, "-W", "error", "-m", "upscale", str(folder), str(tmp_path / "out"),
               "--model", "lanczos", "--scale", "4", "--json", "--jobs", "2"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        wait_until_running(child, min(2, cores()))
        child.kill()
        assert child.stdout is not None
        assert child.stderr is not None
        rest = child.stdout.read()  # ends when the last process that holds it has ended
        assert child.stderr.read() == b""
    assert b"result" not in rest
    assert list((tmp_path / "out").iterdir()) == []
