"""What is missing in an input is found, and nothing is where nothing is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from clips import damage, noise_frame, write_program, write_video

from upscale.media.input.damage import Gaps, SourceStats
from upscale.media.input.source import Source


@pytest.mark.parametrize(
    ("times", "missing"),
    [
        (range(0, 1000, 40), 0),
        ([0, 40, 80, 240, 280, 320, 360, 400, 440, 480], 3),
        ([0, 33, 67, 100, 133, 167, 200, 300, 333, 367, 400, 433, 467, 500], 2),  # rounded to milliseconds
        ([0, 40, 100, 700, 710, 900, 2000, 2100], 0),  # variable rate: gaps mean nothing
        ([0, 4000], 0),
    ],
)
def test_gaps(times: list[int], missing: int) -> None:
    gaps = Gaps()
    for time in times:
        gaps.add(time)
    assert gaps.missing() == missing


def test_gaps_of_a_wild_clock_take_no_memory() -> None:
    gaps = Gaps()
    for n in range(10_000):
        gaps.add(n * n)
    assert len(gaps._steps) <= Gaps.MOST + 1
    assert gaps.step == 0


def test_words() -> None:
    assert SourceStats(frames=5).damage() == []
    assert SourceStats(frames=5, expected_frames=9).damage() == ["5 of 9 frames"]
    stats = SourceStats(
        frames=125, expected_frames=250, estimated=True, missing_seconds=5.04, lost_bytes=1, decode_errors=2,
        corrupt_frames=1, lost_packets=3, corrupt_packets=1,
    )  # fmt: skip
    assert stats.damage() == [
        "125 of ~250 frames",
        "ends 5.0 s early",
        "1 byte lost",
        "2 decode errors",
        "1 damaged frame",
        "3 packets lost",
        "1 damaged packet of other streams",
    ]


@pytest.mark.parametrize("start", [0, 900])
def test_a_matroska_file_that_starts_late_is_whole(start: int, tmp_path: Path) -> None:
    times = range(start, start + 400, 40)
    assert damage(write_video(tmp_path / "x.mkv", times, time_base=Fraction(1, 1000))) == []


def test_recordings_that_were_joined_are_whole(tmp_path: Path) -> None:
    """Their packets' numbers begin anew, but no time is left out."""
    a = write_program(tmp_path / "a.ts", seconds=1)
    b = write_program(tmp_path / "b.ts", seconds=1)
    (tmp_path / "ab.ts").write_bytes(a.read_bytes() + b.read_bytes())
    assert damage(tmp_path / "ab.ts") == []


def test_sound_that_is_cut_off_in_mp4(tmp_path: Path) -> None:
    """The picture is whole, but the sound's last second is behind the end of the file."""
    from conftest import write_clip

    path = write_clip(tmp_path / "x.mp4", frames=25, audio=True)
    whole = path.read_bytes()
    assert whole.index(b"mdat") < whole.index(b"moov")
    assert damage(path) == []
    # Sound was muxed last: its packets lie at the end of mdat; the index goes on counting them.
    from upscale.media.input import damage as module

    with Source(str(path)) as source:
        sound = source.container.streams.audio[0]
        witness = module.DamageDetector(source.stats)
        items = list(source)
        for item in items[: len(items) // 3]:
            if getattr(item, "stream_index", None) == sound.index:
                witness.packet(item)
        assert witness._lost_of(sound) > 5


def test_a_cut_in_the_middle_of_nothing_but_time_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.webm", range(60), codec="libvpx", options={"g": "10"},
                       picture=lambda n: noise_frame((64, 48), seed=n))  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 + 3000 :])
    assert any("lost" in words for words in damage(path))
