"""Timestamps of frames, and the part of a file that is kept."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from upscale.errors import UsageError
from upscale.media.input.clock import FrameClock, Timeline

BASE = Fraction(1, 1000)


def times(clock: FrameClock, *pts: int | None) -> list[int]:
    return [clock.assign(p, None)[0] for p in pts]


def test_good_times_pass_unchanged() -> None:
    clock = FrameClock(BASE, Fraction(25))
    assert [clock.assign(p, d) for p, d in ((0, 40), (40, 560), (600, 1))] == [(0, 40), (40, 560), (600, 1)]
    assert clock.adjusted == 0


def test_frames_without_times_get_the_rate_without_drift() -> None:
    clock = FrameClock(BASE, Fraction(30000, 1001))
    got = times(clock, *[None] * 3001)
    assert got[:4] == [0, 33, 67, 100]
    assert got[3000] == 100100


def test_a_gap_of_times_is_filled_from_the_last_known_one() -> None:
    assert times(FrameClock(BASE, Fraction(25)), 500, None, None, 700, None) == [500, 540, 580, 700, 740]


def test_duplicates_and_backward_steps_are_moved_by_a_tick_and_counted() -> None:
    clock = FrameClock(BASE, Fraction(25))
    assert times(clock, 0, 40, 40, 30, 120) == [0, 40, 41, 42, 120]
    assert clock.adjusted == 2


def test_unknown_duration_and_rate() -> None:
    assert FrameClock(BASE, None).assign(0, 0) == (0, 40)
    assert FrameClock(BASE, Fraction(50)).assign(0, None) == (0, 20)
    assert FrameClock(Fraction(1), Fraction(50)).assign(0, None) == (0, 1)


def test_the_clock_that_runs_backwards_less_is_believed() -> None:
    """AVI stores no pts: FFmpeg's guesses for H.264 with B-frames run backwards, the dts do not."""
    pairs = [(2, 3), (3, 4), (5, 5), (4, 6), (6, 7), (9, 8), (8, 9)]
    clock = FrameClock(BASE, Fraction(25))
    assert [clock.best_effort(p, d) for p, d in pairs] == [2, 3, 5, 6, 7, 8, 9]
    clock = FrameClock(BASE, Fraction(25))
    clock.learn(pairs[:4])
    assert [clock.best_effort(p, d) for p, d in pairs] == [3, 4, 5, 6, 7, 8, 9]


def test_frames_that_no_packet_completes_continue_at_the_rate() -> None:
    """The last ones have no dts; where pts cannot be relied on either, FFmpeg repeats a time."""
    clock = FrameClock(Fraction(1, 25), Fraction(25))
    pairs = [(0, 1), (2, 2), (1, 3), (4, 4), (3, 5), (5, None)]
    clock.learn(pairs[:4])
    assert [clock.assign(clock.best_effort(p, d), 1)[0] for p, d in pairs] == [1, 2, 3, 4, 5, 6]


def test_good_display_times_are_kept_whatever_the_decoding_times() -> None:
    clock = FrameClock(BASE, Fraction(25))
    assert [clock.best_effort(p, d) for p, d in [(0, 80), (40, 80), (80, None)]] == [0, 40, 80]


@pytest.mark.parametrize("format_name", ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"])
def test_a_start_that_means_something_is_kept(format_name: str) -> None:
    line = Timeline.make(format_name, Fraction(5), None, None)
    assert line.shift(5000, BASE) == 5000
    assert not line.before(0, BASE)


def test_an_arbitrary_origin_becomes_zero() -> None:
    line = Timeline.make("mpegts", Fraction("6.389978"), None, None)
    base = Fraction(1, 90000)
    assert [line.shift(t, base) for t in (575098, 576000)] == [0, 902]


def test_a_part_is_cut_from_the_inputs_beginning() -> None:
    line = Timeline.make("mpegts", Fraction("6.4"), 1.0, 2.5)
    assert [line.before(t, BASE) for t in (7399, 7400)] == [True, False]
    assert [line.after(t, BASE) for t in (8899, 8900)] == [False, True]
    assert line.shift(7400, BASE) == 0


def test_seconds_mean_what_was_typed() -> None:
    """0.1 as a binary number is a little more than a tenth: the frame at 0.1 s would be lost."""
    assert not Timeline.make("matroska,webm", Fraction(0), 0.1, None).before(100, BASE)
    assert Timeline.make("matroska,webm", Fraction(0), None, 0.7).after(700, BASE)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(-1.0, None), (float("nan"), None), (None, float("inf")), (2.0, 2.0), (3.0, 1.0), (None, 0.0)],
)
def test_parts_that_cannot_be_meant(start: float | None, stop: float | None) -> None:
    with pytest.raises(UsageError):
        Timeline.make("matroska,webm", Fraction(0), start, stop)


def chapter(start: int, end: int) -> dict[str, Any]:
    return {"id": 1, "start": start, "end": end, "time_base": BASE, "metadata": {"title": "t"}}


def test_chapters_are_cut_to_the_part() -> None:
    line = Timeline.make("matroska,webm", Fraction(0), 1.0, 3.0)
    given = [chapter(0, 1000), chapter(500, 2000), chapter(2000, 4000), chapter(3000, 4000)]
    kept = [(c["start"], c["end"]) for c in line.chapters(given)]
    assert kept == [(0, 1000), (1000, 2000)]
    assert line.chapters(given)[0]["metadata"] == {"title": "t"}
    assert given[1]["start"] == 500


def test_chapters_of_a_whole_file_are_kept_as_they_are() -> None:
    given = [chapter(0, 1000), chapter(1000, 2000)]
    assert Timeline.make("matroska,webm", Fraction(0), None, None).chapters(given) == given
