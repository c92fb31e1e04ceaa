"""Faults 1 to 14: what is no video. Numbers are those of the table in README.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import write_video
from conftest import write_clip
from faults import ask
from rich_clip import png, write_rich

pytestmark = pytest.mark.timeout(30)


def _sound(path: Path, *, cover: bool = False) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        picture = None
        if cover:
            picture = container.add_stream("png", rate=25)
            picture.width, picture.height, picture.pix_fmt = 32, 24, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame("s16", "mono", 48000)
        frame.planes[0].update(bytes(96000))
        frame.sample_rate = 48000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
        if picture is not None:
            packet = av.Packet(png())
            packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 25)
            container.mux(packet)


def _no_index(path: Path) -> None:
    whole = write_video(path, range(20)).read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])


def _no_frames(path: Path) -> None:
    """An index with a video track in which there is nothing."""
    with av.open(str(path), "w", container_options={"movflags": "empty_moov+default_base_moof"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def _no_tracks(path: Path) -> None:
    """Matroska whose list of tracks is damaged in its name: FFmpeg opens it, with no stream at all."""
    data = write_video(path, range(20)).read_bytes()
    path.write_bytes(data.replace(b"\x16\x54\xae\x6b", b"\x16\x54\xae\x6c"))


def _jpeg(path: Path) -> None:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 16, 16, "yuvj420p", Fraction(1, 25)
    path.write_bytes(bytes(encoder.encode(av.VideoFrame(16, 16, "yuvj420p"))[0]))


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


_SRT = "1\n00:00:00,000 --> 00:00:01,000\nwords\n"

#: (id, file, how it is made, exit code, what is said)
FAULTS: list[tuple[str, str, Callable[[Path], object], int, str]] = [
    ("1-missing", "none.mp4", lambda path: None, 1, "No such file"),
    ("2-zero-bytes", "zero.mp4", lambda path: path.write_bytes(b""), 1, "the file is empty"),
    ("3-garbage", "garbage.mkv", lambda path: path.write_bytes(bytes(range(255, -1, -1)) * 64), 1, "."),
    ("4-text", "text.mp4", lambda path: path.write_text("only words\n" * 500), 1, "."),
    ("5-ftyp-only", "head.mp4", lambda path: path.write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"), 1, "."),
    ("6-no-moov", "torn.mp4", _no_index, 1, "moov atom not found"),
    ("7-sound-only", "memo.mp4", _sound, 1, "no video stream"),
    ("8-cover-only", "song.m4a", lambda path: _sound(path, cover=True), 1, "no video stream"),
    ("9-subtitles", "words.srt", lambda path: path.write_text(_SRT), 1, "no video stream|not a supported"),
    ("10-no-frames", "empty.mp4", _no_frames, 1, "no video stream|no frame|Invalid data|not"),
    ("10-no-streams", "headless.mkv", _no_tracks, 1, "no video stream|Invalid data"),
    ("12-dangling", "link.mp4", lambda path: path.symlink_to("nowhere.mp4"), 1, "No such file"),
    ("12-loop", "loop.mp4", _loop, 1, "symbolic links"),
    ("13-fifo", "pipe.mp4", os.mkfifo, 2, "not a regular file"),
    # Pictures, which no video comes of.
    ("14-png", "still.png", lambda path: path.write_bytes(png()), 2, "a still picture|a picture can be"),
    ("14-jpg", "still.jpg", _jpeg, 2, "a still picture|a picture can be"),
    ("14-png-as-mp4", "still.mp4", lambda path: path.write_bytes(png()), 2, "a still picture"),
]


@pytest.mark.parametrize(
    ("name", "make", "code", "says"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_not_a_video(name: str, make: Callable[[Path], object], code: int, says: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / name)
    ask(tmp_path, name, "out/o.mkv", code=code, says=f"^upscale: {name}: .*({says})")


@pytest.mark.parametrize("place", ["in", "out"])
def test_11_a_directory(place: str, tmp_path: Path) -> None:
    """As input it is a batch: of nothing, here. As output it is where the result goes."""
    (tmp_path / "folder.mp4").mkdir()
    if place == "in":
        ask(tmp_path, "folder.mp4", "other", code=0)
        ask(tmp_path, "info", "folder.mp4", code=2, says="folder.mp4: is a directory")
    else:
        write_clip(tmp_path / "a.mp4", frames=3)
        ask(tmp_path, "a.mp4", "folder.mp4", "--scale", "2", code=0, new=("folder.mp4/a_2x.mp4",))


def test_14_a_moving_gif_is_a_video(tmp_path: Path) -> None:
    write_video(
        tmp_path / "a.gif", range(0, 40, 10), time_base=Fraction(1, 100), codec="gif", pix_fmt="rgb8",
        picture=lambda n: av.VideoFrame(64, 48, "rgb8"),
    )  # fmt: skip
    ask(tmp_path, "a.gif", code=0, new=("a_720p.mp4",))


def test_info_about_them_is_one_line_too(tmp_path: Path) -> None:
    """The other command that opens what it is given."""
    for _, name, make, code, says in FAULTS:
        if name in ("still.png", "still.jpg"):
            continue  # it has much to say about pictures
        make(tmp_path / name)
        ask(tmp_path, "info", name, code=code, says=f"^upscale: {name}: .*({says})")


def test_8_the_cover_is_not_taken_for_the_video(tmp_path: Path) -> None:
    """A film with a cover first: the film is enlarged."""
    write_rich(tmp_path / "film.mkv", cover=True)
    ask(tmp_path, "film.mkv", "o.mkv", "--scale", "2", code=0, new=("o.mkv",))
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 3
