"""Text subtitles: which can be converted, and at what price."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from rich_clip import CUES, passage, write_rich

from upscale.media.output.plan import conversion_loss, is_text


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
