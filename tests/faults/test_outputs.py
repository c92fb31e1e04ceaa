"""Faults 40 to 53: outputs that cannot, or must not, be written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import flat_frame, noise_frame, write_video
from conftest import write_clip
from faults import LIMIT, Answer, ask, ask_in_subprocess, check, snapshot
from rich_clip import enlarged

from upscale import Options
from upscale.media.input.source import Source
from upscale.media.output import sink as sink_module
from upscale.media.output.plan import make_plan
from upscale.media.output.sink import Sink
from upscale.system.safe_file import SafeFile

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video whose enlargement has some megabytes."""
    return write_video(
        tmp_path_factory.mktemp("noisy") / "in.mkv",
        range(25),
        size=(320, 240),
        options={"preset": "ultrafast"},
        picture=lambda n: noise_frame((320, 240), seed=n),
    )


@pytest.mark.parametrize("kind", ["direct", "symlink", "hardlink"])
def test_40_the_output_is_the_input(kind: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=3)
    names: dict[str, Callable[[], object]] = {
        "direct": lambda: None,
        "symlink": lambda: (tmp_path / "o.mp4").symlink_to("in.mp4"),
        "hardlink": lambda: os.link(tmp_path / "in.mp4", tmp_path / "o.mp4"),
    }
    names[kind]()
    output = "in.mp4" if kind == "direct" else "o.mp4"
    ask(tmp_path, "in.mp4", output, "-y", code=2, says=f"^upscale: {output}: the output is the input itself")


def test_41_the_output_exists(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=3)
    (tmp_path / "o.mp4").write_bytes(b"precious")
    for flags in ([], ["-n"]):
        # not "-y overwrites it": the second name may be a second input
        says = "^upscale: o.mp4: exists already; two names are an input and its output"
        ask(tmp_path, "in.mp4", "o.mp4", *flags, code=2, says=says)


def test_42_no_such_folder(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=3)
    (tmp_path / "file").write_bytes(b"")
    ask(tmp_path, "in.mp4", "none/o.mp4", code=1, says="none/o.mp4: the folder of the output does not exist")
    ask(tmp_path, "in.mp4", "file/o.mp4", code=1, says="^upscale: file/o.mp4: ")


def _namespace() -> list[str]:
    """Command before another that lets it mount: as root, or as root of a user namespace; [] if it cannot."""
    for prefix in (["unshare", "-m"], ["unshare", "-rm"]):
        trial = [*prefix, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
        if (
            shutil.which("unshare")
            and subprocess.run(trial, capture_output=True, check=False).returncode == 0
        ):
            return prefix
    return []


def _mounted(folder: Path, mount_options: str, *, code: int, says: str) -> None:
    """Upscale in.mkv of `folder` into a tmpfs of its own, which must be empty afterwards."""
    command = f"mount -t tmpfs -o {mount_options} tmpfs out && " \
        f"{sys.executable} -m upscale in.mkv out/o.mp4 --scale 2 --model lanczos -q; " \
        "code=$?; ls -A out; exit $code"  # fmt: skip
    before = snapshot(folder)
    done = subprocess.run(
        [*_namespace(), "sh", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    answer = Answer(done.returncode, done.stdout, done.stderr)
    check(folder, before, answer, code=code, says=says, new=())
    assert done.stdout == ""


def test_43_a_read_only_file_system(noisy: Path, tmp_path: Path) -> None:
    shutil.copy(noisy, tmp_path / "in.mkv")
    (tmp_path / "out").mkdir()
    if _namespace():
        _mounted(tmp_path, "ro", code=1, says="^upscale: out/o.mp4: .*([Rr]ead-only|not writable)")
    else:  # no file can be made here either, whoever asks
        ask(tmp_path, "in.mkv", "/proc/self/o.mp4", code=1, says="^upscale: /proc/self/o.mp4: ")


@pytest.mark.parametrize("size", ["4k", "100k", "300k", "700k", "1200k"])
def test_44_the_disk_is_full(size: str, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the header, in the middle, at close: FFmpeg hears of it late, but always."""
    shutil.copy(noisy, tmp_path / "in.mkv")
    (tmp_path / "out").mkdir()
    says = "^upscale: out/o.mp4: no space left on the disk"
    if _namespace():
        _mounted(tmp_path, f"size={size}", code=1, says=says)
        return

    class Full(SafeFile):
        """The same error from the system where no mount is allowed: /dev/full."""

        def __init__(self, target: str, *, overwrite: bool = False) -> None:
            super().__init__(target, overwrite=overwrite)
            self.discard()
            self.path = "/dev/full"

        def discard(self) -> None:
            if self.path != "/dev/full":
                super().discard()

    monkeypatch.setattr(sink_module, "SafeFile", Full)
    ask(tmp_path, "in.mkv", "out/o.mp4", "--scale", "2", code=1, says=says)


@pytest.mark.parametrize("limit", [1000, 200_000, 1_000_000])
def test_45_a_limit_of_file_size(limit: int, noisy: Path, tmp_path: Path) -> None:
    shutil.copy(noisy, tmp_path / "in.mkv")

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ask_in_subprocess(
        tmp_path, "in.mkv", "o.mp4", "--scale", "2", code=1, says="^upscale: o.mp4: .*File too large",
        preexec_fn=lower,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["o.xyz", "o", "o.txt"])
def test_46_an_unknown_ending(name: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=3)
    ask(tmp_path, "in.mp4", name, code=2, says="^upscale: ")


def test_47_mp4_to_a_pipe(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=3)
    answer = ask_in_subprocess(tmp_path, "in.mp4", "-", "-f", "mp4", code=2, says="needs a seekable file")
    assert answer.out == ""


def test_49_standard_input_is_closed(tmp_path: Path) -> None:
    ask_in_subprocess(
        tmp_path, "-", "o.mkv", code=2, says="standard input is closed", stdin=None,
        preexec_fn=lambda: os.close(0),
    )  # fmt: skip


@pytest.mark.parametrize(("part", "code"), [(0.0, 1), (0.01, 1), (0.5, 3)])
def test_49_standard_input_ends_early(part: float, code: int, noisy: Path, tmp_path: Path) -> None:
    data = noisy.read_bytes()
    new = ("o.mkv",) if code == 3 else ()
    with (tmp_path / "pipe").open("wb") as file:
        file.write(data[: int(len(data) * part)])
    # through a true pipe, which cannot be sought
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as cat:
        ask_in_subprocess(
            tmp_path, "-", "o.mkv", "--scale", "2", code=code, says="^upscale: ", new=new, stdin=cat.stdout
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_50_a_signal_while_the_network_is_loaded(number: int, noisy: Path, tmp_path: Path) -> None:
    """Before the first frame; while frames are made: tests/cli/test_cli.py."""
    shutil.copy(noisy, tmp_path / "in.mkv")
    before = snapshot(tmp_path)
    command = [sys.executable, "-m", "upscale", "in.mkv", "o.mkv", "--scale", "2", "-v"]
    command += [
        "--backend",
        "onnx",
        "--precision",
        "fp32",
    ]  # nothing to race, which would say so in a line more
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        child.stderr.readline()  # what it is about to do
        child.send_signal(number)
        rest = child.stderr.read().decode()
    check(tmp_path, before, Answer(child.returncode, "", rest), code=128 + number, says="stopped", new=())


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_53_more_than_4_gb(tmp_path: Path) -> None:
    """64-bit sizes in MP4, moved to put the index first, and read back: every byte is where it was."""
    part, count = 48 << 20, 92
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        main, second = container.add_stream("libx264", rate=25), container.add_stream("mjpeg", rate=25)
        for stream in (main, second):
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuv420p" if stream is main else "yuvj420p"
        for n in range(count):
            for stream in (main, second):
                frame = flat_frame((64, 48), (16 + n, 128, 128)).reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = n, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in (main, second):
            container.mux(stream.encode(None))
    output, options = tmp_path / "o.mp4", Options()
    noise = os.urandom(part)
    with Source(str(source)) as opened:
        plan = make_plan(opened.info, str(output), options, (128, 96), opened.frame_format)
        with Sink(opened, str(output), plan, options) as sink:
            for item in opened:
                if isinstance(item, av.VideoFrame):
                    sink.frame(enlarged(item, (128, 96)))
                    continue
                large = av.Packet(noise)  # a second camera angle of terrible compression
                large.stream, large.time_base = item.stream, item.time_base
                large.pts, large.dts, large.duration = item.pts, item.dts, item.duration
                large.is_keyframe = True
                sink.packet(large)
            report = sink.finish()
    assert report.file_size == output.stat().st_size
    assert output.stat().st_size > 1 << 32
    with av.open(str(output)) as container:
        sizes = [p.size for p in container.demux(video=1) if bytes(p) == noise]
    assert sizes == [part] * count
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "o.mp4"]
    output.unlink()


def test_the_errors_have_their_words() -> None:
    """What the tests above look for is the system's own number, whatever its language."""
    from upscale.system.safe_file import write_error

    assert str(write_error(OSError(errno.ENOSPC, "x"))) == "no space left on the disk"
