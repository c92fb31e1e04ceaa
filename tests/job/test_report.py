"""What a job says about itself at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_program

from upscale import Options, upscale_file
from upscale.events import Event, Progress, Warned
from upscale.job.report import ProgressMeter

JOB = Options(model="lanczos", scale=2.0, codec="ffv1")


@pytest.mark.parametrize("segment_frames", ["1000", "5"])
def test_frame_data_that_shows_only_while_reading_is_named_at_the_end(
    segment_frames: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan names what the first frames carry; captions may begin in the middle of a programme."""
    monkeypatch.setenv("UPSCALE_SEGMENT_FRAMES", segment_frames)
    source = write_program(tmp_path / "in.mkv", seconds=1.0)
    before = upscale_file(str(source), str(tmp_path / "a.mkv"), JOB)
    assert not any("not in the output" in w for w in before.warnings)
    monkeypatch.setattr("upscale.media.input.damage.kinds", lambda frame: {"AFD", "GOP_TIMECODE"})
    events: list[Event] = []
    result = upscale_file(str(source), str(tmp_path / "b.mkv"), JOB, events.append)
    assert bool(result.segments) == (segment_frames == "5")
    assert "not in the output: the active format description" in result.warnings
    assert sum(isinstance(e, Warned) and "not in the output" in e.message for e in events) == 1


def test_progress_counts_earlier_runs_and_the_rate_is_that_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("upscale.job.report.time.perf_counter", lambda: now[0])
    events: list[Event] = []
    meter = ProgressMeter("in.mkv", 100, events.append, done=40)
    for frames in range(1, 21):
        now[0] += 0.5
        meter(frames, frames / 25)
    last = events[-1]
    assert isinstance(last, Progress)
    assert (last.frames, last.total) == (60, 100)
    assert last.fps == pytest.approx(2.0)
    assert last.eta == pytest.approx(20.0)
    assert last.speed == pytest.approx(20 / 25 / 10)
