"""A Dask cluster of real processes: the same results as on one machine, whoever is lost or lacks something.

It covers all of the room: `upscale.jobs.cluster.client`, `upscale.jobs.cluster.spread`,
`upscale.jobs.cluster.worker` and `upscale.jobs.cluster.connect`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av
import pytest
from conftest import ROOT, MakeClip

from upscale import Options, upscale_file
from upscale.errors import ClusterError
from upscale.jobs.cluster import connect as scheduler

#: Everybody must cut alike.
SEGMENTS = {"UPSCALE_SEGMENT_FRAMES": "20"}
#: With mbtree, what libx264 writes depends on what memory held before.
OPTIONS = ["--model", "lanczos", "--scale", "3", "--json", "-e", "x264-params=mbtree=0"]

#: So that there is time to kill somebody in the middle.
SLOW = ["--scale", "8"]

AddWorker = Callable[..., subprocess.Popen[bytes]]


@contextmanager
def running(module: str, *args: str, code: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """One process of Dask, with the upscale of the folder `code`."""
    environment = os.environ | SEGMENTS | ({"PYTHONPATH": str(code)} if code else {})
    with subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *args, "--no-dashboard"],
        env=environment, cwd=code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def scheduler_at(folder: Path) -> Iterator[tuple[str, AddWorker]]:
    """Its address, and a function that adds a worker; all end with the block."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        stack.enter_context(
            running("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        )
        while not file.exists() or not file.read_text():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]

        def add(code: Path | None = None) -> subprocess.Popen[bytes]:
            return stack.enter_context(
                running("dask_worker", address, "--nthreads", "1", "--no-nanny", code=code)
            )

        yield address, add


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, AddWorker]]:
    """A scheduler with two workers."""
    with scheduler_at(tmp_path_factory.mktemp("scheduler")) as (address, add):
        for _ in range(2):
            add()
        yield address, add


def upscale(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-m", "upscale", *OPTIONS, *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=200, env=os.environ | SEGMENTS)


@contextmanager
def started(*args: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a group of its own, as in a terminal; killed at the end."""
    command = [sys.executable, "-W", "error", "-m", "upscale", *OPTIONS, *map(str, args)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | SEGMENTS,
        start_new_session=True,
    ) as child:  # fmt: skip
        try:
            yield child
        finally:
            child.kill()


def wait_for_frames(child: subprocess.Popen[bytes], frames: int) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        event = json.loads(line)
        assert event["event"] not in ("result", "failed"), event
        if event["event"] == "progress" and event["frames"] >= frames:
            return
    raise AssertionError("it ended too early")


def wait_for_workers(address: str, count: int) -> None:
    code = f"from distributed import Client; Client({address!r}).wait_for_workers({count}, timeout=120)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=150, stderr=subprocess.DEVNULL)


def last_event(output: bytes) -> dict[str, object]:
    event = json.loads(output.splitlines()[-1])
    assert isinstance(event, dict)
    return event


def times(path: Path) -> list[float | None]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones too: a finished job leaves none."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def clip(tmp_path: Path, make_clip: MakeClip) -> Path:
    """Ten segments."""
    (tmp_path / "in").mkdir()
    return make_clip(tmp_path / "in" / "long.mp4", size=(160, 120), frames=200, audio=True)


def test_a_folder_gets_what_one_machine_makes(
    tmp_path: Path, clip: Path, make_clip: MakeClip, cluster: tuple[str, AddWorker]
) -> None:
    """A long file in segments, a short one whole, a bad one, one without video: outputs bit by bit."""
    make_clip(clip.with_name("short.mp4"), frames=8)
    clip.with_name("bad.mp4").write_bytes(b"not a video" * 50)
    with av.open(str(clip.with_name("voice.mp4")), "w") as container:
        container.add_stream("aac", rate=48000, layout="mono")
        container.start_encoding()
    found = {}
    for name, more in (("one", []), ("many", ["--cluster", cluster[0]])):
        done = upscale(clip.parent, tmp_path / name, *more)
        assert done.returncode == 1
        assert done.stderr == b""
        found[name] = [json.loads(line) for line in done.stdout.splitlines()]
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert set(contents(tmp_path / "many")) == {"long.mp4", "short.mp4"}
    for kind in ("failed", "skipped"):
        one, many = ([e for e in found[name] if e["event"] == kind] for name in ("one", "many"))
        assert one == many
    facts = ("input", "frames", "size", "bytes", "damage", "warnings", "segments", "adjusted_timestamps")
    one, many = (
        sorted([e[f] for f in facts] for e in found[name] if e["event"] == "result")
        for name in ("one", "many")
    )
    assert one == many


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(
    tmp_path: Path, clip: Path, cluster: tuple[str, AddWorker]
) -> None:
    address, add = cluster
    third = add()
    wait_for_workers(address, 3)
    with started(clip, tmp_path / "out.mp4", "--cluster", address, *SLOW) as child:
        wait_for_frames(child, 1)
        third.kill()
        output, errors = child.communicate(timeout=200)
    assert (child.returncode, errors) == (0, b"")
    assert b"the worker is gone" in output
    assert last_event(output)["frames"] == 200
    assert upscale(clip, tmp_path / "one.mp4", *SLOW).returncode == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in", "one.mp4", "out.mp4"]


@pytest.mark.slow
def test_a_killed_coordinator_continues_and_alone_too(
    tmp_path: Path, clip: Path, cluster: tuple[str, AddWorker]
) -> None:
    """It keeps the journal; what the workers still do then is dropped."""
    out = tmp_path / "out.mp4"
    for frames in (50, 100):
        with started(clip, out, "--cluster", cluster[0], *SLOW) as child:
            wait_for_frames(child, frames)
            child.kill()
    done = upscale(clip, out, *SLOW)
    assert done.returncode == 0, done.stderr
    assert int(str(last_event(done.stdout)["resumed_frames"])) >= 60
    assert upscale(clip, tmp_path / "one.mp4", *SLOW).returncode == 0
    assert out.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in", "one.mp4", "out.mp4"]


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, clip: Path) -> None:
    """With the scheduler and the workers that `local` starts, which a terminal would interrupt too."""
    out = tmp_path / "out.mp4"
    with started(clip, out, "--cluster", "local", *SLOW) as child:
        wait_for_frames(child, 30)
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read()  # ends when the last process that holds it has ended
        text = child.stderr.read().decode()
    assert child.returncode == 130
    assert text.count("\n") == 1, text
    assert "finished segments are kept: the same command continues" in text
    kept = os.listdir(tmp_path / ".out.mp4.upscale")
    assert any(name.startswith("segment-") for name in kept)
    assert not [name for name in kept if name.endswith(".part")]
    done = upscale(clip, out, "--cluster", "local", *SLOW)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"resumed"' in done.stdout
    assert times(out) == times(clip)


@pytest.mark.slow
def test_a_damaged_input_is_treated_as_on_one_machine(
    tmp_path: Path, clip: Path, make_clip: MakeClip, cluster: tuple[str, AddWorker]
) -> None:
    make_clip(clip, size=(160, 120), frames=200)
    data = bytearray(clip.read_bytes())
    middle, some = len(data) // 2, len(data) // 20
    data[middle : middle + some] = bytes(some)
    clip.write_bytes(data)
    done = {
        name: upscale(clip, tmp_path / f"{name}.mp4", *more)
        for name, more in (("one", []), ("many", ["--cluster", cluster[0]]))
    }
    assert [d.returncode for d in done.values()] == [3, 3]
    one, many = (last_event(d.stdout) for d in done.values())
    assert one["damage"] == many["damage"] != []
    assert times(tmp_path / "one.mp4") == times(tmp_path / "many.mp4")


def copy_of_upscale(folder: Path) -> Path:
    """The package and its weights, to be spoilt for one worker."""
    for name in ("upscale", "weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "wip"))
    return folder


@pytest.mark.slow
def test_workers_that_lack_something_are_named(tmp_path: Path, clip: Path, make_clip: MakeClip) -> None:
    """One without the model; then one with another upscale as well."""
    short = make_clip(clip.with_name("short.mp4"), frames=4)
    poor = copy_of_upscale(tmp_path / "poor")
    for file in (poor / "weights").glob("fast*"):
        file.unlink()
    other = copy_of_upscale(tmp_path / "other")
    version = other / "upscale" / "version.py"
    version.write_text(version.read_text().replace("__version__ = ", "__version__ = '0.0.1' or "))
    with scheduler_at(tmp_path) as (address, add):
        add(poor)
        out = tmp_path / "out.mp4"
        for input in (clip, short):
            done = upscale(input, out, "--model", "fast", "--backend", "onnx", "--cluster", address)
            assert done.returncode == 1
            text = done.stderr.decode()
            assert text.count("\n") == 1, text
            assert text.startswith(f"upscale: {input}: no worker can do it: tcp://127.0.0.1:")
            assert "it lacks the model fast" in text
        add()
        while upscale(short, out, "--model", "fast", "--backend", "onnx", "--cluster", address).returncode:
            pass  # the worker has not come yet
        add(other)
        while (done := upscale(short, out, "-y", "--cluster", address)).returncode == 0:
            pass  # the worker has not come yet
        text = done.stderr.decode()
        assert text.count("\n") == 1, text
        assert "the worker runs upscale 0.0.1 with PyAV" in text


def test_without_dask_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install '\.\[cluster\]'"):
        upscale_file(str(clip), None, Options(model="lanczos", cluster="local"))


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9", "nonsense://x:1", "127.0.0.1:x"]
)
def test_no_scheduler_there(address: str, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setattr(scheduler, "ANSWER", 0.5)
    with pytest.raises(ClusterError, match="cannot be reached") as caught:
        upscale_file(str(clip), None, Options(model="lanczos", cluster=address))
    assert "\n" not in str(caught.value)


def test_what_only_this_machine_sees_is_refused(tmp_path: Path, cluster: tuple[str, AddWorker]) -> None:
    done = upscale("-", tmp_path / "out.mkv", "--cluster", cluster[0])
    assert done.returncode == 2
    assert b"only files" in done.stderr
