"""The work folder: one process at a time, no links, nothing of others removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.errors import UsageError
from upscale.jobs.resume.work_folder import WorkFolder, folder_of, is_work_folder, remove_joined


def test_it_lies_beside_the_output_and_goes_if_nothing_was_done(tmp_path: Path) -> None:
    with WorkFolder(str(tmp_path / "out.mp4")) as folder:
        assert folder.path == str(tmp_path / ".out.mp4.upscale")
        assert os.path.isdir(folder.path)
    assert os.listdir(tmp_path) == []
    assert is_work_folder(".out.mp4.upscale")
    assert not is_work_folder("out.upscale")


def test_long_names_have_folders_of_their_own(tmp_path: Path) -> None:
    names = [str(tmp_path / ("ü" * 120 + end + ".mkv")) for end in "ab"]
    assert folder_of(names[0]) != folder_of(names[1])
    for name in names:
        with WorkFolder(name) as folder:
            assert os.path.isdir(folder.path)


def test_two_processes_cannot_work_in_one_folder(tmp_path: Path) -> None:
    output = str(tmp_path / "out.mp4")
    with WorkFolder(output) as folder:
        with pytest.raises(UsageError, match="another process"):
            WorkFolder(output)
        code = f"from upscale.jobs.resume.work_folder import WorkFolder; WorkFolder({output!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert "another process is working on this output" in done.stderr
        assert os.path.isdir(folder.path)


def test_a_folder_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    output = str(tmp_path / "out.mp4")
    code = (
        "import os; from upscale.jobs.resume.work_folder import WorkFolder; "
        f"f = WorkFolder({output!r}); open(f.journal, 'w').close(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60)
    with WorkFolder(output) as folder:
        assert os.path.exists(folder.journal)


def test_links_and_files_in_its_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", folder_of(str(tmp_path / "a.mp4")))
    Path(folder_of(str(tmp_path / "b.mp4"))).write_bytes(b"mine")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(UsageError, match="not a folder"):
            WorkFolder(str(tmp_path / name))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_only_unfinished_segments_are_cleared_away(tmp_path: Path) -> None:
    with WorkFolder(str(tmp_path / "out.mp4")) as folder:
        ours = ["segment-000000600.mkv.0a1b2c3d.part", ".journal.jsonl.0a1b2c3d.part"]
        others = ["notes.part", "segment-x.mkv.part", "segment-000000600.mkv", "journal.jsonl"]
        for name in ours + others:
            Path(folder.path, name).write_bytes(b"x")
        folder.remove_unfinished()
        assert set(os.listdir(folder.path)) == {*others, "lock"}
        assert folder.segments() == [folder.segment(600)]
        folder.finished = True
    # a stranger's files are no reason to fail, and are kept
    assert set(os.listdir(folder.path)) == {"notes.part", "segment-x.mkv.part"}


def test_the_folder_of_an_output_that_is_there_is_removed(tmp_path: Path) -> None:
    """The process was killed between giving the output its name and removing the folder."""
    output = str(tmp_path / "out.mp4")
    path = Path(folder_of(output))
    path.mkdir()
    journal = path / "journal.jsonl"
    journal.write_bytes(b'{"journal": 1}\n')
    remove_joined(output)
    assert path.exists()
    journal.write_bytes(b'{"journal": 1}\n{"joined": true}\n')
    (path / "segment-000000000.mkv").write_bytes(b"x")
    remove_joined(output)
    assert not path.exists()
