"""Directories: what is read, what is written, and what one bad file may spoil."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import MakeClip

from upscale import Options, UsageError
from upscale.events import BatchResult, BatchStart, Event, Failed, Result, Skipped
from upscale.jobs.batch import upscale_directory, upscale_files

OPTIONS = Options(model="lanczos", scale=2)


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path, make_clip: MakeClip) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "c.mkv", "d.mov"):
        make_clip(folder / name)
    (folder / "b.mp4").write_bytes(b"not a video at all" * 100)
    (folder / "notes.txt").write_text("left alone")
    events: list[Event] = []
    result = upscale_directory(str(folder), None, OPTIONS, events.append)
    assert names(tmp_path / "in_2x") == {"a.mp4", "c.mkv", "d.mov"}
    assert [f.input for f in result.failed] == [str(folder / "b.mp4")]
    assert result.failed[0].exit_code == 1
    assert len(result.results) == 3
    assert isinstance(events[0], BatchStart)
    assert events[0].files == 4
    assert events[-1] is result
    assert {type(e) for e in events} >= {Result, Failed}


def test_what_is_done_is_skipped_and_redone_when_asked(tmp_path: Path, make_clip: MakeClip) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    make_clip(folder / "a.mp4")
    upscale_directory(str(folder), str(out), OPTIONS)
    first = (out / "a.mp4").stat().st_mtime_ns
    events: list[Event] = []
    again = upscale_directory(str(folder), str(out), OPTIONS, events.append)
    assert len(again.skipped) == 1
    assert any(isinstance(e, Skipped) for e in events)
    assert (out / "a.mp4").stat().st_mtime_ns == first
    redone = upscale_directory(str(folder), str(out), Options(model="lanczos", scale=2, overwrite=True))
    assert len(redone.results) == 1
    assert (out / "a.mp4").stat().st_mtime_ns > first


def test_subfolders_are_mirrored_only_when_asked(tmp_path: Path, make_clip: MakeClip) -> None:
    folder = tmp_path / "in"
    (folder / "sub" / "deep").mkdir(parents=True)
    make_clip(folder / "a.mp4")
    make_clip(folder / "sub" / "deep" / "b.mp4")
    upscale_directory(str(folder), str(tmp_path / "flat"), OPTIONS)
    assert names(tmp_path / "flat") == {"a.mp4"}
    recursive = Options(model="lanczos", scale=2, recursive=True)
    upscale_directory(str(folder), str(tmp_path / "deep"), recursive)
    assert names(tmp_path / "deep") == {"a.mp4", "sub/deep/b.mp4"}


def test_an_output_inside_the_input_is_not_read_again(tmp_path: Path, make_clip: MakeClip) -> None:
    make_clip(tmp_path / "a.mp4")
    recursive = Options(model="lanczos", scale=2, recursive=True)
    for _ in range(2):
        result = upscale_directory(str(tmp_path), str(tmp_path / "out"), recursive)
        assert len(result.results) + len(result.skipped) == 1
    assert names(tmp_path) == {"a.mp4", "out/a.mp4"}


def test_links_to_directories_and_special_files_are_left_out(tmp_path: Path, make_clip: MakeClip) -> None:
    """A link loop must end, and opening a FIFO would wait for ever."""
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.mp4")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.mp4")
    recursive = Options(model="lanczos", scale=2, recursive=True)
    result = upscale_directory(str(folder), str(tmp_path / "out"), recursive)
    assert [r.input for r in result.results] == [str(folder / "a.mp4")]
    assert not result.failed


def test_same_stems_do_not_collide(tmp_path: Path, make_clip: MakeClip) -> None:
    """a.flv becomes .mp4, which is a.mp4's name already."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "a.mkv", "a.flv"):
        make_clip(folder / name)
    upscale_directory(str(folder), str(tmp_path / "out"), OPTIONS)
    assert names(tmp_path / "out") == {"a.mp4", "a.mkv", "a.flv.mp4"}


def test_a_folder_of_failures_leaves_no_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    result = upscale_directory(str(folder), str(tmp_path / "out"), OPTIONS)
    assert len(result.failed) == 1
    assert not (tmp_path / "out").exists()


def test_what_needs_no_upscaling_is_skipped_not_failed(tmp_path: Path, make_clip: MakeClip) -> None:
    """A folder of holiday clips holds 1080p files and voice memos; neither is a fault."""
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "large.mp4", size=(1280, 720), frames=2)
    with av.open(str(folder / "memo.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    result = upscale_directory(str(folder), None, Options(model="lanczos"))
    assert [s.reason.split()[0] for s in result.skipped] == ["already", "no"]
    assert not result.failed


def test_impossible_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="same directory"):
        upscale_directory(str(tmp_path), str(tmp_path), OPTIONS)
    with pytest.raises(UsageError, match="must be one"):
        upscale_directory(str(tmp_path), str(tmp_path / "file"), OPTIONS)
    with pytest.raises(UsageError, match="not a directory"):
        upscale_directory(str(tmp_path / "file"), None, OPTIONS)


def test_a_folder_called_like_a_device_holds_files(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: Path drops the "./" by which the user said that this is no camera."""
    monkeypatch.chdir(tmp_path)
    Path("v4l2:").mkdir()
    make_clip(tmp_path / "v4l2:" / "a.mkv")
    assert len(upscale_directory("./v4l2:", "out", OPTIONS).results) == 1


def test_an_unreadable_subfolder_is_named_and_counts_as_failed(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: os.walk without onerror leaves it out in silence. (Root may read everything: simulated.)"""
    folder = tmp_path / "in"
    (folder / "locked").mkdir(parents=True)
    make_clip(folder / "a.mp4")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    recursive = Options(model="lanczos", scale=2, recursive=True)
    events: list[Event] = []
    result = upscale_directory(str(folder), str(tmp_path / "out"), recursive, events.append)
    assert [(f.input, f.message) for f in result.failed] == [
        (str(folder / "locked"), "cannot be read: Permission denied")
    ]
    assert isinstance(events[0], BatchStart)
    assert result.failed[0] in events
    assert len(result.results) == 1


def test_a_damaged_input_shows_in_the_result_of_the_directory(tmp_path: Path, make_clip: MakeClip) -> None:
    """Regression: a directory with damaged inputs exited 0, the same file alone 3."""
    folder = tmp_path / "in"
    folder.mkdir()
    clip = make_clip(folder / "a.mkv", frames=60)
    assert upscale_directory(str(folder), str(tmp_path / "whole"), OPTIONS).exit_code == 0
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    result = upscale_directory(str(folder), str(tmp_path / "out"), OPTIONS)
    assert [r.damaged for r in result.results] == [True]
    assert result.exit_code == 3


def test_a_file_name_as_the_output_of_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must be one: result.mp4 looks like a file"):
        upscale_directory(tmp_path, tmp_path / "result.mp4", OPTIONS)


def listed(result: BatchResult) -> tuple[list[str], list[str], list[str]]:
    """Names of the files in each part."""
    parts = (result.results, result.skipped, result.failed)
    first, second, third = ([Path(outcome.input).name for outcome in part] for part in parts)
    return first, second, third


@pytest.mark.parametrize("jobs", [1, 2])
def test_several_files_behave_as_a_directory(
    jobs: int, tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`upscale *.mp4 -o DIR`: skipping what exists, a summary, one bad file does not stop the others."""
    monkeypatch.setattr("upscale.jobs.batch.cores", lambda: 2)
    (tmp_path / "folder").mkdir()
    for name in ("a.mp4", "c.flv", "c.mp4"):
        make_clip(tmp_path / name)
    (tmp_path / "b.mp4").write_bytes(b"not a video" * 100)
    inputs = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.flv", "c.mp4", "folder", "gone.mp4", "a.mp4")]
    options = Options(model="lanczos", scale=2, jobs=jobs)
    events: list[Event] = []
    result = upscale_files(inputs, tmp_path / "out", options, events.append)
    assert listed(result) == (["a.mp4", "c.flv", "c.mp4"], ["folder"], ["b.mp4", "gone.mp4"])
    assert names(tmp_path / "out") == {"a.mp4", "c.flv.mp4", "c.mp4"}
    assert (result.input, result.exit_code) == (str(tmp_path), 1)
    assert isinstance(events[0], BatchStart)
    assert events[0].files == 5
    assert events[-1] is result
    again = upscale_files(inputs, tmp_path / "out", options)
    assert listed(again)[:2] == ([], ["a.mp4", "c.flv", "c.mp4", "folder"])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_an_output_that_is_an_input_is_always_refused(
    overwrite: bool, link: Callable[[Path, Path], None] | None, tmp_path: Path, make_clip: MakeClip
) -> None:
    """-y must not replace what the same run reads, under whatever name."""
    a, b = make_clip(tmp_path / "a.mp4"), make_clip(tmp_path / "b.mp4")
    before, output = (a.read_bytes(), b.read_bytes()), tmp_path
    if link is not None:
        output = tmp_path / "out"
        output.mkdir()
        link(b, output / "a.mp4")
    options = Options(model="lanczos", scale=2, overwrite=overwrite)
    with pytest.raises(UsageError, match=r"would replace .*, which is an input too"):
        upscale_files([a, b], output, options)
    assert (a.read_bytes(), b.read_bytes()) == before


def test_impossible_lists_of_files_are_refused(tmp_path: Path, make_clip: MakeClip) -> None:
    a = make_clip(tmp_path / "a.mp4")
    (tmp_path / "sub").mkdir()
    twin = make_clip(tmp_path / "sub" / "a.mp4")
    for inputs, output, message in (
        ([], tmp_path / "out", "no input"),
        ([a, "-"], tmp_path / "out", "each must be a file"),
        ([a, "rtsp://camera/1"], tmp_path / "out", "each must be a file"),
        ([a, twin], a, "the output must be a directory"),
        ([a, twin], tmp_path / "out", "would both be written to"),
    ):
        with pytest.raises(UsageError, match=message):
            upscale_files(inputs, output, OPTIONS)
    assert not (tmp_path / "out").exists()
