"""Opening inputs: only local files, only known formats, and the real reason when it fails."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import uuid
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import flat_frame, noise_frame, write_video

from upscale.errors import MediaError, UsageError
from upscale.media.input import open as container
from upscale.media.input.open import open_input
from upscale.media.input.reader import Reader
from upscale.options import DEFAULTS, Options


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"not a video, only words\n" * 100, "moov atom not found|not a supported|Invalid data"),
        (bytes(range(256)) * 64, "moov atom not found|not a supported|Invalid data"),
    ],
)
def test_what_is_no_video_gets_ffmpegs_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=message) as caught:
        open_input(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_moov_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", range(20))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    with pytest.raises(MediaError, match="moov atom not found"):
        open_input(str(path))


def test_missing_and_broken_links(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        open_input(str(tmp_path / "none.mp4"))
    link = tmp_path / "loop.mp4"
    link.symlink_to(link)
    with pytest.raises(MediaError, match="symbolic links"):
        open_input(str(link))


def test_only_regular_files(tmp_path: Path) -> None:
    """A FIFO without a writer blocks for ever, and no timeout helps."""
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UsageError, match="not a regular file"):
        open_input(str(tmp_path / "pipe.mp4"))
    with pytest.raises(UsageError, match="is a directory"):
        open_input(str(tmp_path))


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        open_input("-")


@pytest.mark.parametrize(
    "name",
    ["concat:x.mkv", "http:x.mkv", "pipe:1", "-dash.mkv", "a%d.mkv", "a*b?.mkv", "new\nline.mkv",
     "é日本🎬.mkv", "\x1b[31mred.mkv", "non-utf8-\udcff.mkv", "file:x.mkv", "a|b.mkv", "'quoted\".mkv"],
)  # fmt: skip
def test_odd_names_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_video(tmp_path / "plain.mkv", range(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with open_input(name) as opened:
        assert len(opened.streams.video) == 1


def test_playlists_and_lists_of_files_are_not_followed(tmp_path: Path) -> None:
    """An ffconcat script called .mp4 opens other files unless the formats are limited."""
    write_video(tmp_path / "v.ts", range(5))
    (tmp_path / "cat.mp4").write_text("ffconcat version 1.0\nfile v.ts\n")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nv.ts\n#EXT-X-ENDLIST\n"
    )
    for name in ("cat.mp4", "list.m3u8"):
        with pytest.raises(MediaError, match="not a supported kind of file"):
            open_input(str(tmp_path / name))


def test_nothing_is_fetched_from_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        (tmp_path / "list.mp4").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(MediaError):
            open_input(str(tmp_path / "list.mp4"))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_still_picture_is_refused(tmp_path: Path) -> None:
    for name, codec, pix_fmt in (("p.png", "png", "rgb24"), ("p.jpg", "mjpeg", "yuvj420p")):
        encoder = av.CodecContext.create(codec, "w")
        encoder.width, encoder.height, encoder.pix_fmt = 16, 16, pix_fmt
        encoder.time_base = Fraction(1, 25)
        packet = encoder.encode(av.VideoFrame(16, 16, pix_fmt))[0]
        (tmp_path / name).write_bytes(bytes(packet))
        with pytest.raises(UsageError, match="a still picture"):
            open_input(str(tmp_path / name))


def test_pictures_beyond_the_limit_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_pixels` given to av.open does not reach the decoder: a bomb would be unpacked."""
    path = write_video(tmp_path / "x.mkv", range(3), codec="ffv1")
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(MediaError, match=r"more than .* pixels"):
        Reader(str(path))
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48)
    Reader(str(path)).close()


def test_the_limit_reaches_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams can grow after they were opened: the decoder must refuse by itself."""
    path = write_video(tmp_path / "x.mkv", range(3), codec="ffv1")
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48 - 1)
    with av.open(str(path)) as opened:
        container.limit_decoder(opened.streams[0], DEFAULTS)
        with pytest.raises(av.FFmpegError):
            list(opened.decode(video=0))


def test_decoders_that_are_not_listed_are_not_run(tmp_path: Path) -> None:
    """MagicYUV had a remotely reachable overflow (CVE-2026-8461)."""
    path = write_video(tmp_path / "x.avi", range(3), codec="magicyuv", pix_fmt="gbrp", picture=_rgb)
    with pytest.raises(MediaError, match="not on the list of those that are decoded; "):
        Reader(str(path))


def test_a_file_that_the_user_trusts_may_have_any_codec(tmp_path: Path) -> None:
    """Guards: old screen recordings were refused, and nothing said how to insist; other limits stay."""
    path = write_video(tmp_path / "x.avi", range(3), codec="magicyuv", pix_fmt="gbrp", picture=_rgb)
    with pytest.raises(MediaError, match="--trust-input"):
        Reader(str(path))
    trusting = Options(trust_input=True)
    Reader(str(path), trusting).close()
    (tmp_path / "x.smjpeg").write_bytes(b"\0\nSMJPEG" + bytes(40))
    with pytest.raises(MediaError, match="--trust-input"):
        open_input(str(tmp_path / "x.smjpeg"))
    with pytest.raises(MediaError) as caught:
        open_input(str(tmp_path / "x.smjpeg"), trusting)
    assert "trust" not in str(caught.value)
    (tmp_path / "cat.mp4").write_text("ffconcat version 1.0\nfile x.avi\n")
    with pytest.raises(MediaError, match="not a supported kind"):
        open_input(str(tmp_path / "cat.mp4"), trusting)


def test_encrypted_mp4_is_refused(tmp_path: Path) -> None:
    """Guards: ISO common encryption (cenc) was decoded to garbage, with exit code 0."""
    keys = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    with av.open(str(tmp_path / "x.mp4"), "w", container_options=keys) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(5):
            out.mux(stream.encode(flat_frame((64, 48), (20 * n, 128, 128))))
        out.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"^encrypted \(DRM\)$"):
        Reader(str(tmp_path / "x.mp4"))


def test_encrypted_asf_is_refused(tmp_path: Path) -> None:
    """Guards: WMV with the Content Encryption Object (ASF, 3.14) was decoded to garbage, with exit code 0."""
    path = write_video(tmp_path / "x.wmv", range(5), codec="wmv2")
    data = path.read_bytes()
    Reader(str(path)).close()
    fields = b"".join(struct.pack("<I", len(t)) + t for t in (b"secret", b"DRM\0", b"key\0", b"http://x\0"))
    guid = uuid.UUID("2211B3FB-BD23-11D2-B4B7-00A0C955FC6E").bytes_le
    more = guid + struct.pack("<Q", 24 + len(fields)) + fields
    size, number = struct.unpack_from("<QI", data, 16)
    header = data[:16] + struct.pack("<QI", size + len(more), number + 1) + data[28:30]
    path.write_bytes(header + more + data[30:])
    with pytest.raises(MediaError, match=r"^encrypted \(DRM\)$"):
        Reader(str(path))


def _rgb(n: int) -> av.VideoFrame:
    pixels = np.full((48, 64, 3), n, np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="gbrp")


def test_failures_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """FFmpeg's log is on while opening, for the reason; it must not reach the terminal."""
    path = tmp_path / "x.mkv"
    path.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(1000))
    with pytest.raises(MediaError):
        open_input(str(path))
    container.open_input(str(write_video(tmp_path / "x.mp4", range(3)))).close()
    av.logging.log(av.logging.ERROR, "x", "not for the terminal")
    assert capfd.readouterr() == ("", "")


def test_reasons_are_one_printable_line() -> None:
    assert container.reason(OSError("a\x1b[31m\nb")) == "a [31m b"
    assert container.reason(ValueError()) == "ValueError"


def test_messages_under_way_when_the_log_goes_off(tmp_path: Path) -> None:
    """Decoding threads complain while another opens something: PyAV printed a traceback for each message.

    Found by the coverage-guided fuzzer.
    """
    path = write_video(tmp_path / "x.avi", range(200), codec="mpeg4", options={"g": "1"}, size=(320, 240),
                       picture=lambda n: noise_frame((320, 240), seed=n))  # fmt: skip
    data = bytearray(path.read_bytes())
    for at in range(3000, len(data) - 3000, 150):
        data[at] ^= 0x55
    path.write_bytes(data)
    script = f"""
import threading, av
from upscale.media.input.open import ffmpeg_reasons
stop = threading.Event()
def switch():
    while not stop.is_set():
        with ffmpeg_reasons():
            pass
switching = threading.Thread(target=switch)
switching.start()
for _ in range(3):
    with av.open({str(path)!r}) as opened:
        opened.streams.video[0].thread_type = "AUTO"
        for packet in opened.demux():
            try:
                packet.decode()
            except av.FFmpegError:
                pass
stop.set()
switching.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
