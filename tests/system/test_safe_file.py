"""Nothing appears under the final name until it is whole, and nothing else is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.errors import OutputError, UsageError
from upscale.system.safe_file import SafeFile, check_output, write_error


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"source")
    return path


def test_output_may_be_new(source: Path) -> None:
    check_output(str(source), str(source.parent / "out.mp4"))


@pytest.mark.parametrize("kind", ["same", "symlink", "hardlink", "relative"])
def test_output_is_the_input(source: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Muxing onto the input destroys it, also through links; -y does not allow it."""
    other = source.parent / "other.mp4"
    if kind == "symlink":
        other.symlink_to(source)
    elif kind == "hardlink":
        os.link(source, other)
    elif kind == "relative":
        monkeypatch.chdir(source.parent)
        other = Path("in.mp4")
    else:
        other = source
    with pytest.raises(UsageError, match="the input itself"):
        check_output(str(source), str(other), overwrite=True)


def test_existing_output(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists"):
        check_output(str(source), str(out))
    check_output(str(source), str(out), overwrite=True)


def test_directory_as_output(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="directory"):
        check_output(str(source), str(tmp_path), overwrite=True)


def test_device_as_output(source: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        check_output(str(source), os.devnull, overwrite=True)


def test_missing_folder(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder"):
        check_output(str(source), str(tmp_path / "none" / "out.mp4"))


def test_standard_output_and_input_are_fine() -> None:
    check_output("-", "-")


def test_commit_gives_the_name(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with SafeFile(str(target)) as file:
        Path(file.path).write_bytes(b"whole")
        assert not target.exists()
        assert Path(file.path).parent == tmp_path
        file.commit()
    assert target.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["out.mkv"]


def test_leaving_without_commit_removes_everything(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), SafeFile(str(tmp_path / "out.mkv")):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    """Two jobs with one output: the second must not overwrite the first without -y."""
    target = tmp_path / "out.mkv"
    with SafeFile(str(target)) as file:
        Path(file.path).write_bytes(b"mine")
        target.write_bytes(b"theirs")
        with pytest.raises(OutputError, match="appeared meanwhile"):
            file.commit()
    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["out.mkv"]


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "out.mkv"
    with SafeFile(str(target)) as file:
        Path(file.path).write_bytes(b"whole")
        file.commit()
    assert target.read_bytes() == b"whole"
    with SafeFile(str(target)) as file, pytest.raises(OutputError, match="appeared meanwhile"):
        file.commit()


def test_overwriting_keeps_permissions(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with SafeFile(str(target), overwrite=True) as file:
        Path(file.path).write_bytes(b"new")
        file.commit()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_longest_names_still_work(tmp_path: Path) -> None:
    """The temporary name must not be longer than the file system's 255 bytes."""
    target = tmp_path / ("ü" * 125 + ".mkv")
    with SafeFile(str(target)) as file:
        file.commit()
    assert target.exists()


def test_what_killed_jobs_have_left_is_removed(tmp_path: Path) -> None:
    """Of the same output, and only if the process is dead: a living one holds a lock."""
    target = tmp_path / "out.mkv"
    code = (
        "import os, sys; from upscale.system.safe_file import SafeFile; "
        "file = SafeFile(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], timeout=60)
    (dead,) = os.listdir(tmp_path)
    others = [
        ".out.mkv.part",
        ".out.mkv.0123abcd.parts",
        ".other.mkv.0123abcd.part",
        ".out.mkv.0123ABCD.part",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"not ours")
    os.symlink(tmp_path / others[0], tmp_path / ".out.mkv.00000000.part")
    with SafeFile(str(target)) as living, SafeFile(str(target)) as second:
        assert not (tmp_path / dead).exists()
        assert os.path.exists(living.path)
        second.commit()
    assert sorted(os.listdir(tmp_path)) == sorted([*others, ".out.mkv.00000000.part", "out.mkv"])


def test_errors_are_one_line() -> None:
    assert str(write_error(OSError(28, "No space left on device"))) == "no space left on the disk"
    assert str(write_error(BrokenPipeError(32, "Broken pipe"))) == "the reader of the pipe went away"
    assert str(write_error(OSError(30, "Read-only file system"))) == "Read-only file system"
