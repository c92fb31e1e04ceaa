"""Fault 70, and what hostile files must not reach: other files, the network, the terminal.

68, 69 and 71 are about URLs that the user typed: tests/job/test_live.py.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import noise_frame, write_video
from conftest import write_clip
from faults import ask
from rich_clip import png

from upscale.cli.text import clean
from upscale.media.input import open as container
from upscale.media.input.open import open_input
from upscale.media.input.source import Source

pytestmark = pytest.mark.timeout(60)


class Canary:
    """A web server that counts whoever comes; whatever is asked for, it has nothing."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.hits = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self.server.accept()
            except OSError:
                return
            with visitor:
                if visitor.recv(4) == b"stop":
                    return
                self.hits += 1

    def stop(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as end:
            end.sendall(b"stop")
        self._thread.join()
        self.server.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    server = Canary()
    yield server
    server.stop()


_HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{key}#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
_KEY = '#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n'
_MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
_SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
_SMIL = "[playlist]\nFile1={target}\nNumberOfEntries=1\n"

#: Kind of script → its text. {target} is what it leads to.
SCRIPTS = {
    "hls": _HLS.replace("{key}", ""),
    "hls-key": _HLS.replace("{key}", _KEY),
    "hls-master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "concat": "file '{target}'\n",
    "mpd": _MPD,
    "sdp": _SDP,
    "pls": _SMIL,
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "rtsptext": "RTSPtext\nrtsp://127.0.0.1:{port}/x\n",
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n",
}
#: Names that such a script may have: its own, and those of videos and lists that a batch takes.
ENDINGS = ("m3u8", "mp4", "mkv", "ts", "ffconcat", "mpd", "sdp", "idx", "avi", "txt")
TARGETS = (
    "http://127.0.0.1:{port}/x.ts", "https://127.0.0.1:{port}/x.ts", "tcp://127.0.0.1:{port}",
    "udp://127.0.0.1:{port}", "rtmp://127.0.0.1:{port}/a/b", "ftp://127.0.0.1:{port}/x.ts",
    "crypto+http://127.0.0.1:{port}/x.ts", "hls+http://127.0.0.1:{port}/x.m3u8",
    "concat:http://127.0.0.1:{port}/x.ts|canary.ts", "subfile,,start,0,end,0,,:canary.ts", "cache:canary.ts",
    "file:canary.ts", "file://{folder}/canary.ts", "{folder}/canary.ts", "canary.ts", "../{name}/canary.ts",
    "data:video/mp2t;base64,R0AR", "pipe:0", "fd:0", "/dev/stdin",
)  # fmt: skip


@pytest.mark.parametrize("kind", SCRIPTS)
def test_70_scripts_lead_nowhere(kind: str, canary: Canary, tmp_path: Path) -> None:
    """Under every name and to every target: no visitor, and the other file is not even opened."""
    os.mkfifo(tmp_path / "canary.ts")  # opening it would wait for a writer for ever
    os.mkfifo(tmp_path / "x.sub")
    places = {"port": canary.port, "folder": tmp_path, "name": tmp_path.name}
    targets = TARGETS if "{target}" in SCRIPTS[kind] else TARGETS[:1]
    for target in targets:
        text = SCRIPTS[kind].format(target=target.format(**places), port=canary.port)
        for ending in ENDINGS:
            path = tmp_path / f"x.{ending}"
            path.write_text(text)
            with pytest.raises(container.MediaError) as caught:
                open_input(str(path))
            assert str(caught.value).isprintable()
            path.unlink()
    (tmp_path / "x.mp4").write_text(
        SCRIPTS[kind].format(target=targets[0].format(**places), port=canary.port)
    )
    ask(tmp_path, "x.mp4", "o.mkv", code=1, says="^upscale: x.mp4: ")
    assert canary.hits == 0


def test_70_scripts_in_a_directory(canary: Canary, tmp_path: Path) -> None:
    """A batch takes what is called .mp4: it must not be led away either."""
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "canary.ts")
    for kind, text in SCRIPTS.items():
        target = f"http://127.0.0.1:{canary.port}/x.ts"
        (tmp_path / "in" / f"{kind}.mp4").write_text(text.format(target=target, port=canary.port))
    from upscale import Options, upscale_directory

    result = upscale_directory(str(tmp_path / "in"), str(tmp_path / "out"), Options(model="lanczos"))
    assert len(result.failed) == len(SCRIPTS)
    assert not (tmp_path / "out").exists()
    assert canary.hits == 0


def test_70_scripts_among_training_clips_and_originals(canary: Canary, tmp_path: Path) -> None:
    """What opens files for training and scoring keeps to the same lists."""
    import numpy as np

    from upscale.metrics.clips import score_clips
    from upscale.train.material import read_sequences

    for kind, text in SCRIPTS.items():
        target = f"http://127.0.0.1:{canary.port}/x.ts"
        path = tmp_path / f"{kind}.mp4"
        path.write_text(text.format(target=target, port=canary.port))
        with pytest.raises(container.MediaError):
            next(read_sequences(path, np.random.default_rng(0)))
        with pytest.raises(container.MediaError):
            score_clips(tmp_path, {})
    assert canary.hits == 0


def test_70_the_canary_can_be_hit(canary: Canary) -> None:
    """Without our lists FFmpeg does go there: the test above could fail."""
    with pytest.raises(av.FFmpegError):
        av.open(f"http://127.0.0.1:{canary.port}/x.ts", timeout=5)
    assert canary.hits > 0


def test_70_a_name_with_a_number_does_not_read_its_siblings(tmp_path: Path) -> None:
    """A file really called seq%d.png is one picture; image2 would wait for ever at the pipe beside it."""
    (tmp_path / "seq%d.png").write_bytes(png())
    for n in range(5):
        os.mkfifo(tmp_path / f"seq{n}.png")
    ask(tmp_path, "seq%d.png", "o.png", "--scale", "2", code=0, new=("o.png",))
    with pytest.raises(container.MediaError, match="not a supported kind of file"):
        open_input(str(tmp_path / "seq%d.png"))


def test_70_a_movie_that_refers_to_another_file(tmp_path: Path) -> None:
    """MP4 may keep its samples elsewhere (dref); the reference is not followed."""
    path = write_clip(tmp_path / "in.mp4", frames=5)
    data = path.read_bytes()
    entry = b"\0\0\0\x0curl \0\0\0\x01"
    assert data.count(entry) == 1
    location = b"file:canary.ts\0"
    other = struct.pack(">I", 12 + len(location)) + b"url \0\0\0\0" + location
    at = data.index(entry)
    new = bytearray(data[:at] + other + data[at + len(entry) :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.rindex(box, 0, at) - 4
        new[place : place + 4] = struct.pack(">I", struct.unpack_from(">I", data, place)[0] + len(location))
    path.write_bytes(new)
    os.mkfifo(tmp_path / "canary.ts")
    with Source(str(path)) as source:  # its own samples, or nothing
        assert source.info.video is not None


@pytest.mark.parametrize("name", ["x.mkv", "x.avi", "x.mov"])
def test_the_lists_reach_the_decoder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of codecs and of pixels, in whatever container: options of the demuxer alone do not."""
    path = write_video(tmp_path / name, range(3), codec="mjpeg", pix_fmt="yuvj420p",
                       picture=lambda n: noise_frame((64, 48), "yuvj420p", n))  # fmt: skip
    ask(tmp_path, name, "ok.mkv", code=0, new=("ok.mkv",))
    (tmp_path / "ok.mkv").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(container, "_CODECS", container._CODECS.replace(",mjpeg,", ","))
        ask(tmp_path, name, "o.mkv", code=1, says="not on the list of those that are decoded")
    with monkeypatch.context() as patch:
        patch.setattr(container, "MAX_PIXELS", 64 * 48 - 1)
        ask(tmp_path, name, "o.mkv", code=1, says="has more than")
    assert path.exists()


EVIL = "\x1b]0;owned\x07\x1b[31m\r\n\x9b2J\u202eevil"


def _with_evil_tags(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text = out.add_stream("srt")
        text.codec_context.subtitle_header = b"[Script Info]\n"
        font = out.add_attachment(f"f{EVIL}.ttf", "application/x-truetype-font", b"\0\1\0\0" + bytes(50))
        out.metadata.update(title=EVIL, comment=EVIL)
        for stream in (video, text, font):
            stream.metadata.update(title=EVIL)
        text.metadata["language"] = "\x1b[3"
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": EVIL}}]
        )
        for n in range(4):
            frame = noise_frame((64, 48), seed=n)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize(
    "command",
    [["info", "{in}"], ["info", "{in}", "--json"], ["{in}", "{out}", "-v"], ["{in}", "{out}", "--json"],
     ["bench", "{in}"]],
    ids=["info", "info-json", "verbose", "json", "bench"],
)  # fmt: skip
def test_control_characters_in_tags_never_reach_the_terminal(command: list[str], tmp_path: Path) -> None:
    """mp4 as output, so that the warning about the font, whose name is evil too, is among what is said."""
    path = _with_evil_tags(tmp_path / "\x1b[31mevil.mkv")
    words = [w.format_map({"in": str(path), "out": str(tmp_path / "\x1bo.mp4")}) for w in command]
    if command[0] != "info":
        words += ["--model", "lanczos"] if command[0] != "bench" else ["--backend", "onnx"]
    done = subprocess.run(
        [sys.executable, "-m", "upscale", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr):
        assert not _CONTROL.search(text), repr(text)
    if "--json" in command:
        assert [json.loads(line) for line in done.stdout.splitlines()]


def test_control_characters_never_reach_the_live_display(tmp_path: Path) -> None:
    """On a terminal the display itself uses escapes, but none of the file's."""
    path = _with_evil_tags(tmp_path / "\x1b]0;owned\x07\x9b2Jevil.mkv")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "upscale", str(path), str(tmp_path / "o.mp4"), "--model", "lanczos"]
    with subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL) as child:
        os.close(slave)
        shown = io.BytesIO()
        while True:
            try:
                shown.write(os.read(master, 4096))
            except OSError:
                break
    os.close(master)
    assert child.returncode == 0
    assert b"\x1b]0;" not in shown.getvalue()
    assert b"\x07" not in shown.getvalue()
    assert b"\xc2\x9b" not in shown.getvalue()
    assert b"owned" in shown.getvalue()
    assert clean(EVIL).isprintable()
