"""What a muxer refuses at its first packet or at its end is found before frame 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich_clip import write_pcm, write_rich

from upscale.errors import OutputError
from upscale.media.input.probe import probe
from upscale.media.input.source import Source
from upscale.media.output import rehearsal, streams
from upscale.media.output.plan import Plan, make_plan
from upscale.media.output.rehearsal import rehearse
from upscale.media.output.sink import Sink
from upscale.options import Options


def copied(path: Path, output: Path) -> Plan:
    """A plan that copies PCM into MP4, which the planner itself does not do."""
    plan = make_plan(probe(str(path)), str(output), Options(), (128, 96), "yuv420p")
    plan.streams[1].action, plan.streams[1].to_codec = "copy", None
    return plan


def test_what_mp4_refuses_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PCM with two channels and no layout (AVI): all frames were done, then "Invalid argument"."""
    source = write_pcm(tmp_path / "in.avi")
    plan = copied(source, tmp_path / "out.mp4")
    rehearse(probe(str(source)), plan, Options())  # the default layout makes it possible
    monkeypatch.setattr(streams, "LAYOUTS", {})
    message = r"^mp4 does not take audio #1 \(pcm_s16le\): .*; leave it out \(-an for sound"
    with pytest.raises(OutputError, match=message):
        rehearse(probe(str(source)), plan, Options())


def test_the_sink_rehearses_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pcm(tmp_path / "in.avi")
    plan = copied(path, tmp_path / "out.mp4")
    monkeypatch.setattr(streams, "LAYOUTS", {})
    with Source(str(path), Options()) as source, pytest.raises(OutputError, match="does not take audio"):
        Sink(source, str(tmp_path / "out.mp4"), plan, Options())
    assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4", "out.mov", "out.webm", "out.ts", "out.avi"])
def test_everything_that_is_planned_passes(output: str, tmp_path: Path) -> None:
    """Also with subtitles, whose first packet comes late, and covers."""
    source = write_rich(tmp_path / "in.mkv", font=True, cover=True)
    info = probe(str(source))
    rehearse(info, make_plan(info, output, Options(), (128, 96), "yuv420p"), Options())


def test_streams_without_an_early_packet_are_tried_with_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_PACKETS", 0)
    source = write_rich(tmp_path / "in.mkv")
    info = probe(str(source))
    rehearse(info, make_plan(info, "out.mp4", Options(), (128, 96), "yuv420p"), Options())
