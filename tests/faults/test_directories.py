"""Faults 54 to 59: directories."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import write_clip
from faults import ask_in_subprocess, snapshot

from upscale import Options, UpscaleError
from upscale.jobs.batch import upscale_directory

pytestmark = pytest.mark.timeout(60)

OPTIONS = Options(model="lanczos", scale=2)

#: Names that shells, FFmpeg's protocols and its image patterns stumble over.
ODD = [
    *("concat:x.mkv", "http:x.mkv", "file:x.mkv", "pipe:1.mkv", "subfile,,start,0,end,9,,:x.mkv"),
    *("-dash.mkv", "--help.mkv", "a%d.mkv", "%03d.mkv", "a*b?.mkv", "[a].mkv", "{a,b}.mkv", "new\nline.mkv"),
    *("tab\t.mkv", "é日本🎬.mkv", "\x1b[31mred.mkv", "bell\x07.mkv", "non-utf8-\udcff.mkv", "a|b.mkv"),
    *("'quoted\".mkv", "$(touch x).mkv", " space .mkv", "dot..mkv", "a;b&c.mkv", "crypto:x.mkv"),
    "x" * 240 + ".mkv",
]


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


@pytest.fixture
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "c.mkv", frames=3)


def _run(folder: Path, *args: str, code: int) -> str:
    """The whole of stderr, which is lines without control characters here."""
    before = snapshot(folder)
    done = _apart(folder, *args)
    assert done[0] == code, done[1]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]|Traceback", done[1])
    after = snapshot(folder)
    assert {name: after.get(name) for name in before} == before
    assert not any(name.endswith(".part") for name in after)
    return done[1]


def _apart(folder: Path, *args: str) -> tuple[int, str]:
    import subprocess
    import sys

    command = [sys.executable, "-W", "error", "-m", "upscale", *args, "--model", "lanczos", "--no-progress"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stderr.decode(errors="replace")


def test_54_one_of_five_is_bad(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abcd":
        shutil.copy(clip, tmp_path / "in" / f"{name}.mkv")
    (tmp_path / "in" / "bad.mkv").write_bytes(b"not a video" * 100)
    text = _run(tmp_path, "in", "out", "--scale", "2", code=1)
    assert names(tmp_path / "out") == {f"{name}.mkv" for name in "abcd"}
    assert "4 done, 0 skipped, 1 failed" in text
    assert len([line for line in text.splitlines() if line.startswith("upscale: in/bad.mkv: ")]) == 1


def test_55_a_loop_of_links(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "in" / "sub" / "a.mkv")
    (tmp_path / "in" / "sub" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "in" / "self.mkv").symlink_to("self.mkv")
    ask_in_subprocess(
        tmp_path, "in", "out", "-r", "--scale", "2", code=0, new=("out", "out/sub", "out/sub/a.mkv")
    )


def test_56_odd_names(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ODD:
        shutil.copy(clip, tmp_path / "in" / name)
    text = _run(tmp_path, "in", "out", "--scale", "2", code=0)
    assert f"{len(ODD)} done, 0 skipped, 0 failed" in text
    assert names(tmp_path / "out") == set(ODD)


@pytest.mark.parametrize("name", ["http:x.mkv", "a%d.mkv", "\x1b[31mred.mkv", "non-utf8-\udcff.mkv"])
def test_56_odd_names_alone(name: str, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / name)
    output = name.replace(".mkv", "_2x.mkv")
    ask_in_subprocess(tmp_path, name, "--scale", "2", code=0, new=(output,))


def test_57_same_stems(clip: Path, tmp_path: Path) -> None:
    """And what needs another ending does not take another's name, nor does case."""
    (tmp_path / "in").mkdir()
    for name in ("a.mkv", "a.mp4", "a.flv", "a.f4v", "A.mkv"):
        write_clip(tmp_path / "in" / name, frames=3, codec="flv" if name == "a.flv" else "libx264")
    result = upscale_directory(str(tmp_path / "in"), str(tmp_path / "out"), OPTIONS)
    assert len(result.results) == 5
    assert names(tmp_path / "out") == {"a.mkv", "a.mp4", "a.flv.mp4", "a.f4v.mp4", "A.mkv"}


def test_58_output_inside_input(clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "a.mkv")
    for _ in range(2):
        result = upscale_directory(
            str(tmp_path), str(tmp_path / "out"), Options(model="lanczos", scale=2, recursive=True)
        )
        assert (len(result.failed), len(result.results) + len(result.skipped)) == (0, 1)
    assert names(tmp_path) == {"a.mkv", "out/a.mkv"}


@pytest.mark.parametrize("absolute", [False, True])
def test_59_a_link_in_the_output_tree_leads_nowhere(absolute: bool, clip: Path, tmp_path: Path) -> None:
    """out/sub is a link to another folder: nothing may be written there, and the others go on."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(elsewhere if absolute else "../elsewhere")
    shutil.copy(clip, tmp_path / "in" / "a.mkv")
    shutil.copy(clip, tmp_path / "in" / "sub" / "b.mkv")
    text = _run(tmp_path, "in", "out", "-r", "--scale", "2", code=1)
    assert os.listdir(elsewhere) == []
    assert names(tmp_path / "out") == {"a.mkv"}
    assert "leads out of the output folder" in text


def test_59_a_link_as_an_output_file(clip: Path, tmp_path: Path) -> None:
    """out/a.mkv is a link to a file elsewhere: with -y the link is replaced, never the file."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    shutil.copy(clip, tmp_path / "in" / "a.mkv")
    (tmp_path / "precious.mkv").write_bytes(b"precious")
    (tmp_path / "out" / "a.mkv").symlink_to("../precious.mkv")
    options = Options(model="lanczos", scale=2, overwrite=True)
    upscale_directory(str(tmp_path / "in"), str(tmp_path / "out"), options)
    assert (tmp_path / "precious.mkv").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "a.mkv").is_symlink()


def test_59_the_root_itself_may_be_a_link(clip: Path, tmp_path: Path) -> None:
    """The user named it: that is where the output belongs."""
    (tmp_path / "in").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    shutil.copy(clip, tmp_path / "in" / "a.mkv")
    upscale_directory(str(tmp_path / "in"), str(tmp_path / "out"), OPTIONS)
    assert names(tmp_path / "disk") == {"a.mkv"}


def test_11_a_file_where_a_directory_must_be(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in" / "a.mkv")
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(UpscaleError, match="must be one"):
        upscale_directory(str(tmp_path / "in"), str(tmp_path / "out"), OPTIONS)


@pytest.mark.parametrize("name", ["v4l2:x.mkv", "avfoundation:0.mkv", "http:x.mkv"])
def test_56_a_directory_never_names_a_device(
    name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``upscale . out``: what is found there is a file, whatever it is called; training and scoring, too."""
    from upscale.metrics.clips import _decode
    from upscale.train.material import _count_packets

    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path / "in")
    result = upscale_directory(".", "../out", OPTIONS)
    assert len(result.results) == 1
    assert names(tmp_path / "out") == {name}
    assert _count_packets(Path(name)) == len(list(_decode(Path(name)))) == 3
