"""The journal survives what a crash does to it, and refuses other jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from upscale.backends.variants import Variant
from upscale.errors import OutputError, UsageError
from upscale.jobs.resume.journal import Journal, Segment, recorded_runtime
from upscale.jobs.resume.work_folder import WorkFolder

JOB = {"input's size": 5, "encoder options": "crf=19 preset=fast", "runtime": "onnx fp32"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkFolder]:
    with WorkFolder(str(tmp_path / "out.mp4")) as opened:
        yield opened


def segment(first: int, frames: int = 10, **changes: Any) -> Segment:
    values: dict[str, Any] = {
        "first": first,
        "frames": frames,
        "begin": first * 40,
        "end": (first + frames - 1) * 40,
        "bytes": 100,
        "crc32": 7,
        "reorder": 0,
        "pts": f"{first * 40} 40*{frames - 1}",
        "durations": f"40 0*{frames - 1}",
    }
    return Segment(**(values | changes))


def test_what_was_added_is_there_again(folder: WorkFolder) -> None:
    with Journal(folder, JOB, 10) as journal:
        journal.add(segment(0))
        journal.add(segment(20))
        journal.add(segment(10))
        journal.finish({"notes": []})
    with Journal(folder, JOB, 10) as journal:
        assert journal.segments == [segment(0), segment(10), segment(20)]
        assert journal.frames == 30
        assert journal.end == {"notes": []}
        assert not journal.joined
    assert recorded_runtime(folder) == Variant("onnx", "fp32")


def test_a_torn_line_counts_as_never_written(folder: WorkFolder) -> None:
    with Journal(folder, JOB, 10) as journal:
        journal.add(segment(0))
        journal.add(segment(10))
    whole = Path(folder.journal).read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in range(len(lines[0]) + len(lines[1]), len(whole)):
        Path(folder.journal).write_bytes(whole[:kept])
        with Journal(folder, JOB, 10) as journal:
            assert journal.segments == [segment(0)]
            journal.add(segment(10, 5))
        with Journal(folder, JOB, 10) as journal:
            assert journal.segments == [segment(0), segment(10, 5)]


@pytest.mark.parametrize(
    "line", ["null", "[]", '{"segment": 10}', '{"segment": "x", "frames": 1}', "\0" * 40]
)
def test_nothing_behind_a_damaged_line_is_believed(folder: WorkFolder, line: str) -> None:
    with Journal(folder, JOB, 10) as journal:
        journal.add(segment(0))
    with open(folder.journal, "a") as file:
        file.write(f"{line}\n{json.dumps(segment(20).as_json())}\n")
    with Journal(folder, JOB, 10) as journal:
        assert journal.segments == [segment(0)]


def test_damaged_times_are_named(folder: WorkFolder) -> None:
    for bad in ({"pts": "0 x"}, {"pts": "0 40*3"}):
        with pytest.raises(OutputError, match="segment 0"):
            _ = segment(0, **bad).times


def test_a_segment_made_again_replaces_the_old_one(folder: WorkFolder) -> None:
    with Journal(folder, JOB, 10) as journal:
        journal.add(segment(0))
        journal.drop(journal.segments[0])
        assert journal.segments == []
        journal.add(segment(0, crc32=8))
    with Journal(folder, JOB, 10) as journal:
        assert journal.segments == [segment(0, crc32=8)]


@pytest.mark.parametrize(
    ("change", "length", "words"),
    [
        ({"input's size": 6}, 10, "input's size was 5, is 6"),
        ({"encoder options": "crf=23 preset=fast"}, 10, "encoder options was crf=19 preset=fast, is crf=23"),
        ({"runtime": "torch fp32"}, 10, "runtime was onnx fp32, is torch fp32"),
        ({"start": 1.0}, 10, "start was not given, is 1.0"),
        ({"weights": "f" * 64}, 10, "weights differs"),
        ({}, 20, "length of segments"),
    ],
)
def test_another_job_is_refused_with_what_differs(
    folder: WorkFolder, change: dict[str, Any], length: int, words: str
) -> None:
    with Journal(folder, JOB, 10) as journal:
        journal.add(segment(0))
    with pytest.raises(UsageError) as caught, Journal(folder, JOB | change, length):
        pass
    text = str(caught.value)
    assert words in text
    assert "--no-resume" in text
    assert folder.path in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"{}\n", b'{"journal": 99, "job": {}}\n'])
def test_a_journal_that_cannot_be_read_is_refused_and_kept(folder: WorkFolder, content: bytes) -> None:
    Path(folder.journal).write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"), Journal(folder, JOB, 10):
        pass
    assert Path(folder.journal).read_bytes() == content


def test_a_journal_without_segments_does_not_stay(folder: WorkFolder) -> None:
    with Journal(folder, JOB, 10):
        assert os.path.exists(folder.journal)
    assert not os.path.exists(folder.journal)


def test_a_journal_that_is_a_link_is_not_followed(folder: WorkFolder, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    os.symlink(victim, folder.journal)
    with pytest.raises(OutputError), Journal(folder, JOB, 10):
        pass
    assert victim.read_bytes() == b"precious"
    os.unlink(folder.journal)
