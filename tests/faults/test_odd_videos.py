"""Faults 23 to 39: odd videos, and what becomes of them."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import damage, flat_frame, noise_frame, write_video
from faults import ask, ask_in_subprocess
from rich_clip import tone

from upscale.backends.base import to_codes
from upscale.media.output.encoders import COMMON

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "ffv1"])
def test_23_one_pixel(codec: str, tmp_path: Path) -> None:
    write_video(tmp_path / "dot.mkv", range(3), codec=codec, size=(1, 1))
    ask(tmp_path, "dot.mkv", "o.mkv", code=0, new=("o.mkv",))
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(720, 720)] * 3


@pytest.mark.parametrize("codec", [c for c in COMMON if "_" not in c or c == "prores_ks"])
def test_24_odd_sides_with_every_encoder(codec: str, tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mkv", range(3), codec="ffv1", size=(63, 65))
    output = "o.mov" if codec == "prores_ks" else "o.mkv"
    ask(tmp_path, "odd.mkv", output, "--scale", "2", "-c:v", codec, code=0, new=(output,))
    with av.open(str(tmp_path / output)) as container:
        assert {(f.width, f.height) for f in container.decode(video=0)} == {(126, 130)}


def _png_bomb(side: int) -> bytes:
    """side×side black pixels of one bit each: a few kilobytes for hundreds of megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _bomb_in_a_film(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for n in range(3):
            packet = av.Packet(_png_bomb(16000))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, n, n, Fraction(1, 25)
            container.mux(packet)


BOMBS: list[tuple[str, Callable[[Path], object], int, str]] = [
    ("b.png", lambda path: path.write_bytes(_png_bomb(16000)), 1, "pixels"),
    ("b.mov", _bomb_in_a_film, 1, "pixels"),
    ("b.avi", _bomb_in_a_film, 1, "pixels"),
    ("b.gif", lambda path: path.write_bytes(b"GIF89a" + b"\xff" * 4 + bytes(3) + b",\0\0\0\0" + b"\xff" * 4
                                            + b"\0\2\2\x4c\1\0;"), 1, "."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "code", "says"), BOMBS, ids=[b[0] for b in BOMBS])
def test_26_bombs_stay_packed(
    name: str, make: Callable[[Path], object], code: int, says: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    output = "o.png" if name.endswith(".png") else "o.mkv"
    script = f"""
import sys
from upscale.cli.main import run
code = run([{name!r}, {output!r}, "--model", "lanczos", "-q"])
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert says == "." or says in done.stderr
    assert int(done.stdout) < 200_000  # kilobytes
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_27_size_and_format_change_in_the_middle(tmp_path: Path) -> None:
    """The largest size and the first format decide; the rest is scaled and converted to them."""
    parts = [
        write_video(tmp_path / "a.ts", range(5), codec="mpeg2video"),
        write_video(tmp_path / "b.ts", range(5, 10), codec="mpeg2video", size=(128, 96)),
        write_video(tmp_path / "c.ts", range(10, 15), codec="mpeg2video", size=(128, 96), pix_fmt="yuv422p"),
    ]
    (tmp_path / "abc.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
    code = 3 if damage(tmp_path / "abc.ts") else 0  # FFmpeg's parser may lose a frame at the joint
    ask(tmp_path, "abc.ts", "o.mkv", "--scale", "2", code=code, new=("o.mkv",))
    with av.open(str(tmp_path / "o.mkv")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 13
    assert {(f.width, f.height, f.format.name) for f in frames} == {(256, 192, "yuv420p")}


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("same.mkv", [0, 40, 40, 80, 80, 120]),
        ("vfr.mkv", [0, 7, 400, 401, 2000]),
        ("late.mkv", [900, 940, 980, 1020, 1060, 1100]),
    ],
)
def test_29_odd_time_stamps_never_stop_the_muxer(name: str, times: list[int], tmp_path: Path) -> None:
    write_video(tmp_path / name, times, time_base=Fraction(1, 1000), codec="ffv1")
    for output in ("o.mkv", "o.mp4", "o.ts"):
        ask(tmp_path, name, output, "--scale", "2", code=0, new=(output,))
        with av.open(str(tmp_path / output)) as container:
            ends = [p.dts for p in container.demux(video=0) if p.size and p.dts is not None]
        assert ends == sorted(set(ends))
        (tmp_path / output).unlink()


def test_29_backward_time_stamps(tmp_path: Path) -> None:
    """In the packets: the decoder hands them on, and each is moved a tick behind the one before."""
    path = write_video(tmp_path / "plain.avi", range(6), codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as source, av.open(str(tmp_path / "back.nut"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet, pts in zip((p for p in source.demux() if p.size), [0, 3, 1, 2, 5, 4], strict=True):
            packet.dts, packet.pts, packet.stream = packet.dts, packet.dts + pts % 2, stream
            target.mux(packet)
    ask(tmp_path, "back.nut", "o.mp4", "--scale", "2", code=0, new=("o.mp4",))
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6


@pytest.mark.parametrize(
    ("source", "codec", "output"),
    [("a.mkv", "alac", "o.ts"), ("a.mkv", "libopus", "o.mov"), ("a.mkv", "pcm_s16le", "o.ts"),
     ("a.asf", "wmav2", "o.mp4"), ("a.mkv", "flac", "o.ts"), ("a.mkv", "pcm_s16le", "o.webm")],
)  # fmt: skip
def test_36_sound_that_the_container_cannot_hold(
    source: str, codec: str, output: str, tmp_path: Path
) -> None:
    """Converted, not dropped, and no error after an hour of work."""
    with av.open(str(tmp_path / source), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=48000, layout="mono")
        sound.bit_rate = 64000
        for n in range(25):
            frame = flat_frame((64, 48), (90, 128, 128))
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        tone(container, sound, 440, 1.0)
    ask(tmp_path, source, output, "--scale", "2", code=0, new=(output,))
    with av.open(str(tmp_path / output)) as container:
        heard = sum(f.samples / f.sample_rate for f in container.decode(audio=0))
    assert heard == pytest.approx(1.0, abs=0.1)


def test_37_a_time_code_track(tmp_path: Path) -> None:
    """The muxer writes it anew from the tag; copying it would break the header."""

    def tag(stream: av.VideoStream) -> None:
        stream.metadata["timecode"] = "01:02:03:04"

    write_video(tmp_path / "cam.mov", range(5), prepare=tag)
    with av.open(str(tmp_path / "cam.mov")) as container:
        assert any(s.type == "data" for s in container.streams)
    ask(tmp_path, "cam.mov", "o.mov", "--scale", "2", code=0, new=("o.mov",))
    with av.open(str(tmp_path / "o.mov")) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"


def test_38_raw_h264_has_no_times(tmp_path: Path) -> None:
    write_video(tmp_path / "x.h264", range(20), format="h264", options={"bf": "2"})
    ask(tmp_path, "x.h264", "o.mp4", "--scale", "2", code=0, new=("o.mp4",))
    with av.open(str(tmp_path / "o.mp4")) as container:
        times = [f.time for f in container.decode(video=0)]
    assert times == pytest.approx([n / 25 for n in range(20)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9, -1e9])
def test_39_codes_stay_in_range(value: float) -> None:
    luma = np.zeros((2, 2), np.uint16)
    codes = to_codes(np.full((4, 4), value, np.float32), luma, 1023, 2)
    assert codes.max() <= 1023


def test_39_a_network_that_goes_wild_on_10_bit(tmp_path: Path) -> None:
    """x264 ends the process (SIGABRT) at samples above 1023. The trial of this network finds nothing."""
    from onnx import TensorProto, helper, numpy_helper

    step = np.float32(1 / 1023)

    def number(name: str, value: float) -> TensorProto:
        return numpy_helper.from_array(np.array(value, np.float32), name)

    # No picture of 8 bit, as the trial's, has these values; NaN at one, far too much at the other.
    nodes = [
        helper.make_node("Equal", ["x", "one"], ["a"]),
        helper.make_node("Where", ["a", "nan", "x"], ["b"]),
        helper.make_node("Equal", ["x", "other"], ["c"]),
        helper.make_node("Where", ["c", "huge", "b"], ["d"]),
        helper.make_node("Concat", ["d", "d", "d", "d"], ["wide"], axis=1),
        helper.make_node("DepthToSpace", ["wide"], ["y"], blocksize=2),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [number("one", 401 * step), number("nan", np.nan), number("other", 402 * step), number("huge", 1e9)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "wild.onnx").write_bytes(model.SerializeToString())
    write_video(
        tmp_path / "ten.mkv", range(4), codec="ffv1", pix_fmt="yuv420p10le",
        picture=lambda n: noise_frame((64, 48), "yuv420p10le", n),
    )  # fmt: skip
    arguments = ("--model", "wild.onnx", "--backend", "onnx", "--scale", "2", "-preset", "ultrafast")
    ask_in_subprocess(tmp_path, "ten.mkv", "o.mkv", *arguments, code=0, new=("o.mkv",))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_25_8k(tmp_path: Path) -> None:
    """8192x4320 comes through, in the memory that its frames in flight need."""
    write_video(
        tmp_path / "8k.mkv", range(6), size=(8192, 4320), options={"preset": "ultrafast"},
        picture=lambda n: flat_frame((8192, 4320), (16 + 30 * n, 128, 128)),
    )  # fmt: skip
    ask_in_subprocess(
        tmp_path, "8k.mkv", "o.mkv", "--width", "8448", "-preset", "ultrafast", "-e", "rc-lookahead=0",
        code=0, new=("o.mkv",),
    )  # fmt: skip
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(8448, 4454)] * 6
    frame = 8448 * 4454 * 3 // 2
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    # In flight: 4 read ahead, one each being decoded, upscaled and waiting, and what the encoder holds.
    assert used < 200e6 + 30 * frame
