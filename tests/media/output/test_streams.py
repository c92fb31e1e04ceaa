"""AMR packets of many frames are cut, because the mov muxer refuses them at the first packet."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from rich_clip import packet_sizes, passage, picture

from upscale.media.output.streams import amr_frames


def frame(kind: int, length: int) -> bytes:
    return bytes([kind << 3 | 4]) + bytes(length - 1)


def test_split_narrow_band() -> None:
    frames = [frame(7, 32), frame(0, 13), frame(8, 6), frame(15, 1)]
    assert list(amr_frames(b"".join(frames), "amr_nb")) == frames


def test_split_wide_band_and_a_broken_rest() -> None:
    frames = [frame(8, 61), frame(0, 18), frame(2, 33)[:20]]
    assert list(amr_frames(b"".join(frames), "amr_wb")) == frames


@pytest.mark.skipif("libopencore_amrnb" not in av.codecs_available, reason="PyAV 19 has no AMR encoder")
@pytest.mark.parametrize("target", ["3gp", "mov"])
def test_packets_of_many_frames(tmp_path: Path, target: str) -> None:
    source = tmp_path / "in.nut"
    with av.open(str(source), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("libopencore_amrnb", rate=8000, layout="mono")
        sound.bit_rate = 12200
        out.start_encoding()
        for n in range(25):
            still = picture(n % 20)
            still.pts, still.time_base = n, Fraction(1, 25)
            out.mux(video.encode(still))
        out.mux(video.encode(None))
        data = frame(7, 32) * 10
        for n in range(5):
            packet = av.Packet(data)
            packet.stream, packet.time_base = sound, Fraction(1, 8000)
            packet.pts = packet.dts = n * 1600
            packet.duration, packet.is_keyframe = 1600, True
            out.mux(packet)
    assert [len(t) for t in packet_sizes(source, "audio")] == [5]
    passage(source, tmp_path / f"out.{target}")
    packets = packet_sizes(tmp_path / f"out.{target}", "audio")[0]
    assert [size for _, size in packets] == [32] * 50
    assert [t for t, _ in packets[:3]] == [0, Fraction(1, 50), Fraction(2, 50)]
