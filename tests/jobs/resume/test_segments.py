"""A file joined of segments is the one that would have been written in one go, also if its segments were
made by themselves."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from clips import MS, flat_frame, write_interlaced, write_program, write_video
from outputs import contents
from rich_clip import write_hdr, write_rich

from upscale import upscale_file
from upscale.errors import MediaError, UsageError
from upscale.events import Result
from upscale.job.prepare import prepare
from upscale.jobs.resume.join import join
from upscale.jobs.resume.segments import (
    Piece,
    check_segments,
    frames_of,
    list_pieces,
    make_segment,
    open_long_job,
    segment_length,
)
from upscale.media.output.times import restamp
from upscale.options import Options

#: Lossless settings, so that pictures do not depend on where a segment begins.
LOSSLESS: dict[str, dict[str, Any]] = {
    "libx264": {"encoder_options": {"qp": "0"}, "preset": "ultrafast"},
    "B-frames": {"codec": "libx264", "encoder_options": {"qp": "0", "bf": "3", "b_strategy": "0"}},
    "libx265": {"encoder_options": {"x265-params": "lossless=1"}, "preset": "ultrafast"},
    "libvpx-vp9": {"encoder_options": {"lossless": "1"}},
    "ffv1": {},
}


def options(codec: str, **more: Any) -> Options:
    return Options(**({"model": "lanczos", "scale": 2.0, "codec": codec} | LOSSLESS.get(codec, {}) | more))


@pytest.fixture
def segments_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the length of segments."""
    return lambda frames: monkeypatch.setenv("UPSCALE_SEGMENT_FRAMES", str(frames))


def both_ways(source: Path, output: Path, job: Options) -> tuple[Result, Result]:
    """The job in one go and in segments; all that can be seen of the two must be equal."""
    whole = output.with_stem("whole")
    one = upscale_file(str(source), str(whole), replace(job, resume=False))
    joined = upscale_file(str(source), str(output), job)
    assert one.segments == 0
    assert contents(output) == contents(whole)
    assert (joined.frames, joined.damage, joined.warnings) == (one.frames, one.damage, one.warnings)
    assert joined.adjusted_timestamps == one.adjusted_timestamps
    assert joined.duration == pytest.approx(one.duration)
    assert sorted(p.name for p in output.parent.iterdir() if p.name.startswith(".")) == []
    return one, joined


def by_itself(source: Path, output: Path, job: Options) -> list[Piece]:
    """The job as other processes would do it: every segment by itself, in any order."""
    with ExitStack() as stack:
        long_job = open_long_job(stack, prepare(stack, str(source), str(output), job))
        pieces = list_pieces(long_job)
        for piece in random.Random(0).sample(pieces, len(pieces)):
            path = long_job.folder.path
            long_job.journal.add(make_segment(str(source), str(output), job, piece, path, long_job.runtime))
        join(long_job)
        long_job.finish()
    return pieces


@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        ("B-frames", "mp4"),
        ("libx264", "mkv"),
        ("libx265", "mp4"),
        ("libvpx-vp9", "webm"),
        ("ffv1", "mkv"),
        *(
            pytest.param(codec, ending, marks=pytest.mark.slow)
            for codec, endings in {
                "B-frames": "mkv mov ts",
                "libx265": "mkv mov ts",
                "libx264": "ts",
                "libvpx-vp9": "mkv mp4 nut",
                "ffv1": "mp4 avi nut",
                "prores_ks": "mkv mov",
            }.items()
            for ending in endings.split()
        ),
    ],
)
def test_a_joined_file_is_the_one_written_in_one_go(
    codec: str, ending: str, tmp_path: Path, segments_of: Any
) -> None:
    segments_of(17)
    source = write_program(tmp_path / "in.mp4", seconds=3.0)
    _, joined = both_ways(source, tmp_path / f"out.{ending}", options(codec))
    assert joined.segments == 5


def test_av1_keeps_frames_and_times(tmp_path: Path, segments_of: Any) -> None:
    """It has no lossless mode here: pictures differ at the borders, all else must not."""
    segments_of(30)
    source = write_program(tmp_path / "in.mp4", seconds=5.0)
    job = options("libsvtav1", preset="12")
    upscale_file(str(source), str(tmp_path / "a.mkv"), options("libsvtav1", preset="12", resume=False))
    assert upscale_file(str(source), str(tmp_path / "b.mkv"), job).segments == 5
    whole, joined = contents(tmp_path / "a.mkv"), contents(tmp_path / "b.mkv")
    for name in ("streams", "video", "packets", "tags"):
        assert joined[name] == whole[name]
    assert [p[0] for p in joined["pictures"]] == [p[0] for p in whole["pictures"]]


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_everything_of_a_rich_film_and_variable_times(ending: str, tmp_path: Path, segments_of: Any) -> None:
    """Eight frames of variable rate from 0.2 s on, two audio tracks, subtitles, chapters, font and cover."""
    segments_of(2)
    source = write_rich(tmp_path / "in.mkv", font=True, cover=True)
    _, joined = both_ways(source, tmp_path / f"out.{ending}", options("libx264"))
    assert joined.segments == 4


def test_segments_of_one_frame(tmp_path: Path, segments_of: Any) -> None:
    segments_of(1)
    source = write_program(tmp_path / "in.mp4", seconds=0.4)
    assert both_ways(source, tmp_path / "out.mp4", options("libx264"))[1].segments == 10


def test_ten_bit_hdr(tmp_path: Path, segments_of: Any) -> None:
    segments_of(1)
    both_ways(write_hdr(tmp_path / "in.mkv"), tmp_path / "out.mp4", options("libx265"))


@pytest.mark.parametrize("name", ["keyboard_phone_rotated_360p.mp4", "bbb_anamorphic_800x640_sar64x45.mp4"])
def test_rotation_and_aspect_of_real_clips(
    name: str, samples: Path, tmp_path: Path, segments_of: Any
) -> None:
    segments_of(4)
    both_ways(samples / name, tmp_path / "out.mp4", options("libx264", scale=1.1, stop=0.7))


def test_a_part_and_a_time_base_that_the_encoder_cannot_have(tmp_path: Path, segments_of: Any) -> None:
    """MPEG-4 stores 16 bits: times are rounded, and frames that are too near are moved, over borders too."""
    segments_of(5)
    times = [n * 3000 + (n % 7) for n in range(40)] + [120_000 + n for n in range(10)]
    source = write_video(tmp_path / "in.mkv", times, time_base=Fraction(1, 90000), codec="ffv1")
    both_ways(source, tmp_path / "out.mp4", options("libx264", start=0.2))
    job = options("mpeg4", crf=1.0)
    whole = upscale_file(str(source), str(tmp_path / "a.mp4"), options("mpeg4", crf=1.0, resume=False))
    joined = upscale_file(str(source), str(tmp_path / "b.mp4"), job)
    assert joined.segments
    assert contents(tmp_path / "b.mp4")["video"] == contents(tmp_path / "a.mp4")["video"]
    assert whole.frames == joined.frames


def test_interlaced_frames_have_their_neighbours_over_borders(tmp_path: Path, segments_of: Any) -> None:
    segments_of(11)
    source = write_interlaced(tmp_path / "in.mkv", 50)
    one, joined = both_ways(source, tmp_path / "out.mkv", options("ffv1"))
    assert any("deinterlaced" in w for w in one.warnings)
    assert joined.segments == 5
    pieces = by_itself(source, tmp_path / "parts.mkv", options("ffv1"))
    assert len(pieces) == 5
    assert contents(tmp_path / "parts.mkv") == contents(tmp_path / "whole.mkv")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_segments_made_by_themselves(ending: str, tmp_path: Path, segments_of: Any) -> None:
    """Long enough that the later ones are sought to (in MP4 and Matroska)."""
    segments_of(300)
    times = [40 * n + 7 * (n % 3 == 0) for n in range(1000)]
    source = write_video(
        tmp_path / f"in.{ending}", times, time_base=MS, size=(32, 32),
        options={"g": "50", "bf": "2", "b_strategy": "0", "sc_threshold": "0"},
        picture=lambda n: flat_frame((32, 32), (16 + n % 220, n % 256, 255 - n % 256)),
    )  # fmt: skip
    job = options("ffv1")
    both_ways(source, tmp_path / "out.mkv", job)
    pieces = by_itself(source, tmp_path / "parts.mkv", job)
    assert [(p.first, p.frames) for p in pieces] == [(0, 300), (300, 300), (600, 300), (900, None)]
    assert (pieces[1].begin is not None) == (ending != "ts")
    assert contents(tmp_path / "parts.mkv") == contents(tmp_path / "whole.mkv")
    with ExitStack() as stack:
        prepared = prepare(stack, str(source), str(tmp_path / "x.mkv"), job)
        assert len(list(frames_of(prepared, pieces[3]))) == 100
        read = prepared.source._reader.stats.packets
    assert read < 400 if ending != "ts" else read == 1000


def test_pieces_leave_out_what_is_done(tmp_path: Path, segments_of: Any) -> None:
    segments_of(10)
    source = write_program(tmp_path / "in.mp4", seconds=2.0)
    job = options("ffv1")
    output = str(tmp_path / "out.mkv")
    with ExitStack() as stack:
        long_job = open_long_job(stack, prepare(stack, str(source), output, job))
        folder, journal = long_job.folder, long_job.journal
        pieces = list_pieces(long_job)
        assert [p.first for p in pieces] == [0, 10, 20, 30, 40]
        short = Piece(first=10, frames=4, begin=pieces[1].begin, end=(pieces[1].begin or 0) + 4 * 512)
        for piece in (short, pieces[3]):
            journal.add(make_segment(str(source), output, job, piece, folder.path, None))
        assert journal.segments[0].frames == 4
        left = list_pieces(long_job)
        assert [(p.first, p.frames) for p in left] == [(0, 10), (14, 6), (20, 10), (40, None)]
        for piece in left:
            journal.add(make_segment(str(source), output, job, piece, folder.path, None))
        assert check_segments(folder, journal) == 0
        join(long_job)
        long_job.finish()
    upscale_file(str(source), str(tmp_path / "whole.mkv"), options("ffv1", resume=False))
    assert contents(tmp_path / "out.mkv") == contents(tmp_path / "whole.mkv")


def test_a_piece_without_frames_is_an_error(tmp_path: Path) -> None:
    source = write_program(tmp_path / "in.mp4", seconds=1.0)
    job = options("ffv1")
    piece = Piece(first=100, frames=10, begin=10**9, end=None)
    with pytest.raises(MediaError, match="no frame could be decoded"):
        make_segment(str(source), str(tmp_path / "out.mkv"), job, piece, str(tmp_path), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize(
    ("more", "output"), [({"resume": False}, "out.mkv"), ({"codec": "wmv2"}, "out.wmv"), ({}, "-")]
)
def test_what_cannot_or_shall_not_be_cut(
    more: dict[str, Any], output: str, tmp_path: Path, segments_of: Any
) -> None:
    segments_of(5)
    source = write_program(tmp_path / "in.mp4", seconds=1.0)
    name = output if output == "-" else str(tmp_path / output)
    with ExitStack() as stack:
        job = prepare(stack, str(source), name, options(**({"codec": "libx264"} | more)))
        assert segment_length(job) == 0


def test_only_long_jobs_are_cut(tmp_path: Path) -> None:
    """A short job must not pay for what it does not need; the border depends on input and options only."""
    times = range(0, 1801 * 40, 40)
    source = write_video(tmp_path / "in.mp4", times, time_base=MS, size=(16, 16), codec="mpeg4")
    for changes, length in (
        ({"width": 1280, "height": 720}, 600),
        ({"width": 1280, "height": 720, "stop": 71.0}, 0),
        ({"width": 3840, "height": 2160}, 66),
        ({"width": 64, "height": 64}, 0),
    ):
        with ExitStack() as stack:
            job = prepare(stack, str(source), str(tmp_path / "out.mkv"), Options(model="lanczos", **changes))
            assert segment_length(job) == length


def test_nothing_to_join_gives_no_times() -> None:
    assert list(restamp([], 2)) == []


@pytest.mark.parametrize("text", ["abc", "0", "-5", "1.5", "²"])
def test_a_length_that_is_no_number_is_refused_by_name(text: str, tmp_path: Path, segments_of: Any) -> None:
    """Regression: UPSCALE_SEGMENT_FRAMES=abc ended in an internal error."""
    segments_of(text)
    source = write_program(tmp_path / "in.mp4", seconds=1.0)
    with pytest.raises(UsageError, match="UPSCALE_SEGMENT_FRAMES must be a number of frames"):
        upscale_file(str(source), str(tmp_path / "out.mkv"), options("ffv1"))
