"""A long job that is killed, stopped, or runs out of disk continues, and ends as if nothing had happened.

Also covers what makes it another job: `upscale.jobs.resume.fingerprint`.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import write_program
from outputs import contents

from upscale import upscale_file
from upscale.errors import Interrupted, OutputError, UsageError
from upscale.events import Event, Progress, Result, Resumed, Start
from upscale.job import stopping
from upscale.jobs.resume import work_folder
from upscale.jobs.resume.work_folder import WorkFolder, folder_of
from upscale.options import Options

LENGTH = 10
JOB = Options(
    model="lanczos", scale=2.0, codec="libx264", preset="ultrafast", encoder_options={"qp": "0", "bf": "2"}
)
ARGUMENTS = "--model lanczos --scale 2 -c:v libx264 --preset ultrafast -e qp=0 -e bf=2".split()


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_SEGMENT_FRAMES", str(LENGTH))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """75 frames with B-frames, sound and subtitles."""
    return write_program(
        tmp_path / "in.mkv", seconds=3.0, subtitles=[(0.2, 0.9, "one"), (1.0, 2.9, "two")],
        chapters=[(0.0, 1.0, "A"), (1.0, 3.0, "B")],
    )  # fmt: skip


@pytest.fixture
def whole(clip: Path, tmp_path: Path) -> dict[str, Any]:
    """What an uninterrupted job writes."""
    upscale_file(str(clip), str(tmp_path / "whole.mkv"), replace(JOB, resume=False))
    return contents(tmp_path / "whole.mkv")


def stop_at(frames: int, with_: Callable[[], Any]) -> Callable[[Event], None]:
    """A listener that does something once when so many frames are done."""
    done = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.frames >= frames and not done:
            done.append(event)
            with_()

    return listen


@pytest.fixture
def every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress at every frame."""
    monkeypatch.setattr("upscale.job.report._PROGRESS_EVERY", 0.0)


def interrupt(clip: Path, output: Path, frames: int, job: Options = JOB) -> Interrupted:
    with pytest.raises(Interrupted) as caught:
        upscale_file(str(clip), str(output), job, stop_at(frames, lambda: stopping.request(2)))
    return caught.value


def journal_lines(output: Path) -> list[dict[str, Any]]:
    lines = Path(folder_of(str(output)), "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.usefixtures("every_frame")
def test_a_signal_ends_the_segment_and_the_next_run_continues(
    clip: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    output = tmp_path / "out.mkv"
    error = interrupt(clip, output, 23)
    assert error.exit_code == 130
    segments = [line for line in journal_lines(output) if "segment" in line]
    done = sum(s["frames"] for s in segments)
    assert 23 <= done < 23 + 10  # what was in flight is kept, and nothing more was read
    assert (
        str(error) == f"stopped; finished segments are kept: the same command continues at frame {done} of 76"
    )
    assert not output.exists()

    again = interrupt(clip, output, 50)
    assert "continues at frame 5" in str(again)
    events: list[Event] = []
    result = upscale_file(str(clip), str(output), JOB, events.append)
    resumed = next(e for e in events if isinstance(e, Resumed))
    assert 50 <= resumed.frames < 60
    assert resumed.total == 76  # by the length of the sound
    assert result.resumed_frames == resumed.frames
    assert result.frames == 75
    progress = [e for e in events if isinstance(e, Progress)]
    assert all(e.frames >= resumed.frames for e in progress)
    assert progress[-1].frames == 75
    start = next(e for e in events if isinstance(e, Start))
    assert start.segment_frames == LENGTH
    assert contents(output) == whole
    assert not os.path.exists(folder_of(str(output)))


@pytest.mark.usefixtures("every_frame")
def test_an_error_that_is_not_ours_keeps_finished_segments(
    clip: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    """Ctrl-C in a program that uses the library."""
    output = tmp_path / "out.mkv"

    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        upscale_file(str(clip), str(output), JOB, stop_at(35, press))
    assert "continues at frame 30 of 76" in caught.value.__notes__[0]
    assert not list(Path(folder_of(str(output))).glob("*.part"))
    assert upscale_file(str(clip), str(output), JOB).resumed_frames == 30
    assert contents(output) == whole


@pytest.mark.usefixtures("every_frame")
def test_a_job_that_finished_no_segment_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def fail() -> None:
        raise OutputError("broken on purpose")

    with pytest.raises(OutputError, match=r"^broken on purpose$"):
        upscale_file(str(clip), str(folder / "o.mkv"), JOB, stop_at(5, fail))
    assert os.listdir(folder) == []


@pytest.mark.usefixtures("every_frame")
def test_a_kill_in_the_join_needs_no_second_decoding(
    clip: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mkv"

    def fail(*args: Any) -> None:
        raise OutputError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("upscale.media.output.sink.verify", fail)
        with pytest.raises(OutputError, match="broken on purpose; finished segments are kept"):
            upscale_file(str(clip), str(output), JOB)
    assert "end" in journal_lines(output)[-1]
    monkeypatch.setattr("upscale.job.loop.Loop.run", fail)
    result = upscale_file(str(clip), str(output), JOB)
    assert (result.frames, result.resumed_frames, result.segments) == (75, 75, 8)
    assert contents(output) == whole


@pytest.mark.parametrize(
    ("change", "name"),
    [({"container": "mov"}, "out.mkv"), ({"audio": False, "subtitles": False}, "out.mkv"), ({}, "out.mp4")],
)
@pytest.mark.usefixtures("every_frame")
def test_what_cannot_be_joined_is_joined_otherwise_without_new_pictures(
    change: dict[str, Any], name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: where only the join fails, "the same command continues" was offered for ever, and another
    container or fewer streams were another job."""

    def fail(*args: Any) -> None:
        raise OutputError("the muxer refuses it")

    with monkeypatch.context() as patch:
        patch.setattr("upscale.media.output.sink.verify", fail)
        with pytest.raises(OutputError) as caught:
            upscale_file(str(clip), str(tmp_path / "out.mkv"), JOB)
    assert str(caught.value) == (
        "the muxer refuses it; finished segments are kept: the same command only joins them again, also with "
        "another container (-f, or another extension) or fewer streams (-an, -sn)"
    )
    monkeypatch.setattr("upscale.job.loop.Loop.run", fail)
    changed = replace(JOB, **change)
    assert upscale_file(str(clip), str(tmp_path / name), changed).resumed_frames == 75
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    monkeypatch.undo()
    once = tmp_path / f"once.{name[-3:]}"
    upscale_file(str(clip), str(once), replace(changed, resume=False))
    assert contents(tmp_path / name) == contents(once)


@pytest.mark.usefixtures("every_frame")
def test_what_the_muxer_refuses_is_found_before_the_first_frame(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it showed at the join, after all the work. Segments that are there already stay."""

    def refuse(*args: Any) -> None:
        raise OutputError("matroska does not take audio #1")

    output = tmp_path / "out.mkv"
    for kept in ("", f"; finished segments are in {folder_of(str(output))}"):
        events: list[Event] = []
        with monkeypatch.context() as patch:
            patch.setattr("upscale.media.output.sink.rehearse", refuse)
            with pytest.raises(OutputError, match=re.escape(f"matroska does not take audio #1{kept}") + "$"):
                upscale_file(str(clip), str(output), JOB, events.append)
        assert not [e for e in events if isinstance(e, Start)]
        assert os.path.exists(folder_of(str(output))) == bool(kept)
        interrupt(clip, output, 45 if kept else 25)
    assert upscale_file(str(clip), str(output), JOB).resumed_frames >= 45


@pytest.mark.usefixtures("every_frame")
def test_the_folder_of_another_extension_is_taken_only_for_the_same_pictures(
    clip: Path, tmp_path: Path
) -> None:
    interrupt(clip, tmp_path / "out.mkv", 25)
    other = replace(JOB, scale=3.0)
    assert upscale_file(str(clip), str(tmp_path / "out.mp4"), other).resumed_frames == 0
    with WorkFolder(str(tmp_path / "out.mkv")):  # another process
        assert upscale_file(str(clip), str(tmp_path / "out.mov"), JOB).resumed_frames == 0
    assert upscale_file(str(clip), str(tmp_path / "out.nut"), JOB).resumed_frames == 0  # not of segments
    result = upscale_file(str(clip), str(tmp_path / "out.ts"), JOB)
    assert result.resumed_frames >= 25
    assert not os.path.exists(folder_of(str(tmp_path / "out.mkv")))


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "link"])
@pytest.mark.usefixtures("every_frame")
def test_a_damaged_segment_is_made_again(
    harm: str, clip: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    output = tmp_path / "out.mkv"
    interrupt(clip, output, 45)
    path = Path(folder_of(str(output)), "segment-000000020.mkv")
    data = bytearray(path.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
        if harm == "link":
            (tmp_path / "elsewhere.mkv").write_bytes(data)
            path.symlink_to(tmp_path / "elsewhere.mkv")
    result = upscale_file(str(clip), str(output), JOB)
    assert "1 damaged segment will be made again" in result.warnings
    assert contents(output) == whole
    assert harm != "link" or (tmp_path / "elsewhere.mkv").read_bytes() == data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder_options": {"qp": "1", "bf": "2"}}, "encoder option qp was 0, is 1"),
        ({"scale": 3.0}, "size was 128x96, is 192x144"),
        ({"model": "bicubic"}, "model was lanczos, is bicubic"),
        ({"start": 0.5}, "start was not given, is 0.5"),
        ({"codec": "ffv1", "encoder_options": {}, "preset": None}, "encoder was libx264, is ffv1"),
    ],
)
@pytest.mark.usefixtures("every_frame")
def test_other_options_are_refused(change: dict[str, Any], words: str, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    interrupt(clip, output, 25)
    before = sorted(os.listdir(folder_of(str(output))))
    with pytest.raises(UsageError) as caught:
        upscale_file(str(clip), str(output), replace(JOB, **change))
    assert words in str(caught.value)
    assert "--no-resume" in str(caught.value)
    assert sorted(os.listdir(folder_of(str(output)))) == before
    # what does not change the result may change
    assert upscale_file(str(clip), str(output), replace(JOB, threads=1, overwrite=True)).resumed_frames >= 25


@pytest.mark.usefixtures("every_frame")
def test_another_input_is_refused(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    interrupt(clip, output, 25)
    facts = clip.stat()
    data = bytearray(clip.read_bytes())
    data[-5] ^= 1
    clip.write_bytes(data)
    with pytest.raises(UsageError, match="input's time was 2"):
        upscale_file(str(clip), str(output), JOB)
    os.utime(clip, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    data[700] ^= 1
    clip.write_bytes(data)
    os.utime(clip, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(UsageError, match="input's beginning differs"):
        upscale_file(str(clip), str(output), JOB)


@pytest.mark.usefixtures("every_frame")
def test_a_network_of_another_file_is_refused(clip: Path, tmp_path: Path) -> None:
    from upscale.model.weights import bundled, weights_folder

    names = [entry["files"]["onnx"]["name"] for entry in bundled().values()]
    network = tmp_path / "mine.onnx"
    shutil.copy(weights_folder() / names[0], network)
    job = replace(JOB, model=str(network), backend="onnx")
    output = tmp_path / "out.mkv"
    interrupt(clip, output, 15, job)
    shutil.copy(weights_folder() / names[1], network)
    with pytest.raises(UsageError, match="weights differs"):
        upscale_file(str(clip), str(output), job)


@pytest.mark.usefixtures("every_frame")
def test_auto_stays_with_the_runtime_it_began_with(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runtimes differ by a code value: half a film must not come from each."""
    job = replace(JOB, model=None)
    output = tmp_path / "out.mkv"
    from upscale.backends.variants import Variant

    monkeypatch.setattr("upscale.backends.auto.choose", lambda *a, **k: (Variant("onnx", "fp32"), "fastest"))
    interrupt(clip, output, 15, job)
    monkeypatch.setattr("upscale.backends.auto.choose", lambda *a, **k: (Variant("torch", "fp32"), "fastest"))
    result = upscale_file(str(clip), str(output), job)
    assert "onnx" in result.backend
    assert result.resumed_frames


@pytest.mark.usefixtures("every_frame")
def test_a_full_disk_stops_the_job_which_continues_later(
    clip: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mkv"
    free = [10**12]
    monkeypatch.setattr(work_folder, "free_bytes", lambda folder: free[0])

    def fill() -> None:
        free[0] = 10**6

    with pytest.raises(OutputError) as caught:
        upscale_file(str(clip), str(output), JOB, stop_at(30, fill))
    assert "the disk is nearly full: 1 MB free" in str(caught.value)
    assert "the same command continues at frame" in str(caught.value)
    assert caught.value.exit_code == 1
    # still full: refused before any work, with both numbers
    with pytest.raises(OutputError, match=r"the disk is too small: at least .* needed in .*, 1 MB free"):
        upscale_file(str(clip), str(output), JOB)
    free[0] = 10**12
    assert upscale_file(str(clip), str(output), JOB).resumed_frames >= 50
    assert contents(output) == whole


@pytest.mark.parametrize("at", [1, 3, 6])
def test_no_space_in_the_midst_of_a_write(
    at: int, clip: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes where FFmpeg's comes at the latest: when a segment is closed."""
    from upscale.media.output.segment import SegmentWriter

    output = tmp_path / "out.mkv"
    plain, calls = SegmentWriter.finish, []

    def full(self: SegmentWriter) -> Any:
        calls.append(self)
        if len(calls) == at:
            raise OutputError("no space left on the disk")
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "finish", full)
        with pytest.raises(OutputError, match=r"^no space left on the disk") as caught:
            upscale_file(str(clip), str(output), JOB)
    assert ("continues at frame" in str(caught.value)) == (at > 1)
    assert upscale_file(str(clip), str(output), JOB).resumed_frames == (at - 1) * LENGTH
    assert contents(output) == whole


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs RLIMIT_FSIZE")
def test_a_limit_on_file_sizes(clip: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    """The kernel's own refusal, in a real process; afterwards the job continues."""
    output = tmp_path / "out.mkv"
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, -1));"
        "from upscale.cli.main import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip), str(output), *ARGUMENTS], capture_output=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1, done.stderr
    assert not output.exists()
    upscale_file(str(clip), str(output), JOB)
    assert contents(output) == whole


def start(clip: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "upscale",
        str(clip),
        str(output),
        *ARGUMENTS,
        "--json",
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until_segments(child: subprocess.Popen[bytes], output: Path, count: int) -> None:
    """Wait until the child has journalled so many segments."""
    journal = Path(folder_of(str(output)), "journal.jsonl")
    deadline = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b'{"segment"') >= count:
            return
        time.sleep(0.005)


@pytest.fixture
def long_clip(tmp_path: Path) -> Path:
    return write_program(tmp_path / "long.mkv", seconds=24.0, subtitles=[(0.2, 20.9, "one")])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_ends_in_good_order(number: int, code: int, long_clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    with start(long_clip, output) as child:
        until_segments(child, output, 2)
        child.send_signal(number)
        child.send_signal(number)  # as wrappers do
        _, errors = child.communicate(timeout=60)
    assert child.returncode == code
    text = errors.decode()
    assert text.count("\n") == 1, text
    assert "stopped; finished segments are kept: the same command continues at frame" in text
    assert not list(Path(folder_of(str(output))).glob("*.part"))
    assert not output.exists()


def test_twice_quits_at_once(long_clip: Path, tmp_path: Path) -> None:
    """Even if the end of the segment takes its time."""
    output = tmp_path / "out.mkv"
    code = (
        "import sys, time; from upscale.media.output.segment import SegmentWriter; "
        "SegmentWriter.finish = lambda self: (print('finishing', flush=True), time.sleep(60)); "
        "from upscale.cli.main import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, str(long_clip), str(output), *ARGUMENTS, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        while b"finishing" not in child.stdout.readline():
            pass
        child.send_signal(signal.SIGINT)
        time.sleep(0.7)  # two at once would count as one
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
    assert child.returncode == -signal.SIGINT
    assert not output.exists()


def kill_and_continue(clip: Path, output: Path, waits: list[int]) -> None:
    """Kill the command when it has made so many segments each time, then let it end."""
    for count in waits:
        with start(clip, output) as child:
            until_segments(child, output, count)
            time.sleep(random.random() * 0.05)
            child.kill()
            child.communicate()
    with start(clip, output) as child:
        out, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    events = [json.loads(line) for line in out.decode().splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "result"


def test_killed_and_the_same_afterwards(clip: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    output = tmp_path / "out.mkv"
    kill_and_continue(clip, output, [2])
    assert contents(output) == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "whole.mkv"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_ten_random_times(seed: int, long_clip: Path, tmp_path: Path) -> None:
    """Before, between and after segments, in the join, several times: the result is the same."""
    rng = random.Random(seed)
    upscale_file(str(long_clip), str(tmp_path / "whole.mkv"), replace(JOB, resume=False))
    output = tmp_path / "out.mkv"
    for _ in range(3):
        with start(long_clip, output) as child:
            begun = time.monotonic()
            assert child.stdout is not None
            child.stdout.readline()  # it has started
            time.sleep(rng.uniform(0, 1.5 + (time.monotonic() - begun)))
            child.kill()
            child.communicate()
        output.unlink(missing_ok=True)
    kill_and_continue(long_clip, output, [])
    assert contents(output) == contents(tmp_path / "whole.mkv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.mkv", "out.mkv", "whole.mkv"]


@pytest.mark.usefixtures("every_frame")
def test_a_part_of_an_interlaced_film_continues_exactly(tmp_path: Path) -> None:
    """The deinterlacer and the clock must know what they would have known in one run."""
    from clips import write_interlaced

    clip = write_interlaced(tmp_path / "i.mkv", 90)
    job = replace(JOB, start=0.5, stop=3.2)
    upscale_file(str(clip), str(tmp_path / "whole.mkv"), replace(job, resume=False))
    output = tmp_path / "out.mkv"
    interrupt(clip, output, 33, job)
    assert upscale_file(str(clip), str(output), job).resumed_frames >= 33
    assert contents(output) == contents(tmp_path / "whole.mkv")


@pytest.mark.usefixtures("every_frame")
def test_damage_is_counted_as_in_one_run(clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    clip.write_bytes(data[: len(data) * 2 // 3])
    whole = upscale_file(str(clip), str(tmp_path / "whole.mkv"), replace(JOB, resume=False))
    assert whole.damaged
    output = tmp_path / "out.mkv"
    interrupt(clip, output, 25)
    result: Result = upscale_file(str(clip), str(output), JOB)
    assert (result.damage, result.decode_errors, result.frames) == (
        whole.damage,
        whole.decode_errors,
        whole.frames,
    )
    assert contents(output) == contents(tmp_path / "whole.mkv")


def test_a_second_process_is_refused(long_clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    with start(long_clip, output) as child:
        until_segments(child, output, 1)
        with pytest.raises(UsageError, match="another process is working on this output"):
            upscale_file(str(long_clip), str(output), JOB)
        child.kill()
        child.communicate()
    assert os.path.exists(folder_of(str(output)))


def test_no_resume_leaves_the_folder_alone(clip: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    output = tmp_path / "out.mkv"
    os.mkdir(folder_of(str(output)))
    upscale_file(str(clip), str(output), replace(JOB, resume=False))
    assert contents(output) == whole
    assert os.listdir(folder_of(str(output))) == []


def test_batches_do_not_read_work_folders(clip: Path, tmp_path: Path) -> None:
    from upscale.jobs.batch import upscale_directory

    source = tmp_path / "films"
    (source / ".x.mkv.upscale").mkdir(parents=True)
    shutil.copy(clip, source / "a.mkv")
    shutil.copy(clip, source / ".x.mkv.upscale" / "segment-000000000.mkv")
    summary = upscale_directory(str(source), str(tmp_path / "o"), replace(JOB, recursive=True, stop=0.2))
    assert [os.path.basename(r.input) for r in summary.results] == ["a.mkv"]


@pytest.mark.usefixtures("every_frame")
def test_stopping_a_batch_stops_all_of_it(clip: Path, tmp_path: Path) -> None:
    from upscale.jobs.batch import upscale_directory

    source = tmp_path / "films"
    source.mkdir()
    for name in ("a.mkv", "b.mkv"):
        shutil.copy(clip, source / name)
    with pytest.raises(Interrupted):
        upscale_directory(str(source), str(tmp_path / "o"), JOB, stop_at(15, lambda: stopping.request(15)))
    assert sorted(os.listdir(tmp_path / "o")) == [".a.mkv.upscale"]


def test_error_of_the_system_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "mkdir", no_space)
    from upscale.jobs.resume.work_folder import WorkFolder

    with pytest.raises(OutputError, match="no space left on the disk"):
        WorkFolder(str(tmp_path / "out.mkv"))
