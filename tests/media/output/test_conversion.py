"""Audio and text subtitles: what is converted for which container, and at what price."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from rich_clip import CUES, passage, write_pcm, write_rich

from upscale.media.output.losses import conversion_loss
from upscale.media.output.plan import is_text


def test_text_and_pictures() -> None:
    assert is_text("subrip")
    assert is_text("mov_text")
    assert not is_text("hdmv_pgs_subtitle")
    assert not is_text(None)


def test_only_styles_are_a_loss() -> None:
    assert conversion_loss("ass", "mov_text") is not None
    assert conversion_loss("subrip", "mov_text") is None
    assert conversion_loss("mov_text", "subrip") is None
    assert conversion_loss("subrip", "ass") is None


@pytest.mark.parametrize(
    ("source", "codec", "output", "expected"),
    [
        ("in.mkv", "ass", "out.mp4", "mov_text"),
        ("in.mkv", "srt", "out.webm", "webvtt"),
        ("in.mkv", "webvtt", "out.mov", "mov_text"),
        ("in.mp4", "mov_text", "out.mkv", "subrip"),
    ],
)
def test_every_direction_keeps_words_and_times(
    tmp_path: Path, source: str, codec: str, output: str, expected: str
) -> None:
    path = write_rich(tmp_path / source, audio=(), subtitle=codec)
    out = tmp_path / output
    passage(path, out)
    with av.open(str(out)) as container:
        stream = container.streams.subtitles[0]
        assert av.Codec(stream.codec_context.name, "r").canonical_name == expected
        packets = [p for p in container.demux(stream) if p.size > 2]
        found = [(p.pts * Fraction(p.time_base), p.duration * Fraction(p.time_base)) for p in packets]
        assert found == [(Fraction(t, 1000), Fraction(d, 1000)) for t, d, _ in CUES]
        words = b" ".join(p.decode()[0].dialogue for p in packets)
    assert b"first" in words
    assert b"second" in words


def samples(path: Path) -> np.ndarray:
    """All samples of the first audio stream as float, interleaved."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler(format="dbl", layout=frames[0].layout.name, rate=frames[0].sample_rate)
    return np.concatenate([r.to_ndarray().reshape(-1) for f in frames for r in resampler.resample(f)])


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
@pytest.mark.parametrize(
    ("codec", "rate", "output", "becomes", "named"),
    [
        ("pcm_u8", 11025, "out.mp4", "alac", "alac (lossless)"),
        ("pcm_s16le", 44100, "out.mp4", "alac", "alac (lossless)"),
        ("pcm_s24le", 96000, "out.mp4", "alac", "alac (lossless)"),
        ("pcm_f32le", 48000, "out.mp4", "alac", "alac (24 bit)"),
        ("pcm_u8", 11127, "out.mov", "pcm_u8", None),
        ("pcm_s16le", 8000, "out.mov", "pcm_s16le", None),
        ("pcm_s16le", 44100, "out.flv", "aac", "aac"),
        ("pcm_u8", 11127, "out.flv", "aac", "aac"),
        ("pcm_s16le", 44100, "out.mxf", "pcm_s16le", "pcm_s16le"),
        ("pcm_u8", 8000, "out.mpg", "mp2", "mp2"),
        ("pcm_s16le", 44100, "out.mkv", "pcm_s16le", None),
    ],
)
def test_pcm_sounds_where_the_container_is_played(
    codec: str, rate: int, output: str, becomes: str, named: str | None, layout: str, tmp_path: Path
) -> None:
    """Cameras record PCM of all kinds: refused in MP4 (pcm_u8), copied as ipcm that few players sound, or
    refused at the very end because AVI names no places for two channels."""
    source = write_pcm(tmp_path / "in.avi", codec, rate, layout)
    plan, _ = passage(source, tmp_path / output)
    with av.open(str(tmp_path / output)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.codec.canonical_name in (becomes, {"mp2": "mp3"}.get(becomes))
        if layout == "stereo" and output.endswith(("mp4", "mov", "flv")):
            assert stream.codec_context.layout.name == "stereo"
    if named is None:
        assert "converted" not in " ".join(plan.warnings)
    else:
        mixed = " (6 channels → stereo)" if (becomes, layout) == ("mp2", "5.1") else ""
        assert f"audio #1 {codec} → {named}{mixed}" in " ".join(plan.warnings)
    if becomes not in ("aac", "mp2") and not output.endswith(".mxf"):
        before, after = samples(source), samples(tmp_path / output)
        assert after.size >= before.size
        assert np.abs(after[: before.size] - before).max() <= (2**-23 if "f32" in codec else 0)


@pytest.mark.parametrize("output", ["out.mov", "out.mkv"])
@pytest.mark.parametrize("length", [256, 1920, 9600])
def test_pcm_is_compared_by_its_bytes(length: int, output: str, tmp_path: Path) -> None:
    """MOV cuts PCM again: "holds 4 audio packets, not the 2 written" threw good outputs away."""
    source = write_pcm(tmp_path / "in.mkv", samples=length)
    passage(source, tmp_path / output)
    assert np.array_equal(samples(source), samples(tmp_path / output))


def test_mp3_that_flv_has_no_rate_for(tmp_path: Path) -> None:
    source = write_pcm(tmp_path / "in.avi", "libmp3lame", 16000, "mono")
    plan, _ = passage(source, tmp_path / "out.flv")
    assert [s.to_codec for s in plan.by_action("convert")] == ["aac"]
