"""Interlaced frames become progressive ones, each with its own time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import flat_frame, write_video

from upscale.errors import UsageError
from upscale.media.input.deinterlace import Deinterlacer
from upscale.media.input.probe import probe
from upscale.media.input.source import Source
from upscale.media.pixels.planes import plane_view
from upscale.options import Options

VFR = [0, 40, 80, 300, 340, 341, 700]
DURATIONS = [40, 40, 220, 40, 1, 359, 123]


def combed(n: int) -> av.VideoFrame:
    """A bar that moves 4 pixels between the two fields of each frame."""
    frame = flat_frame((96, 64), (60, 128, 128))
    luma = plane_view(frame, 0)
    for field in (0, 1):
        left = 8 * n + 4 * field
        luma[field::2, left : left + 16] = 200
    return frame


def combing(luma: np.ndarray) -> float:
    """How much each line differs from its neighbours, against how much those differ."""
    lines = luma.astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


@pytest.fixture
def interlaced(tmp_path: Path) -> Path:
    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.flags |= int(av.codec.context.Flags.interlaced_dct)

    return write_video(
        tmp_path / "i.mkv", VFR, time_base=Fraction(1, 1000), durations=DURATIONS, size=(96, 64),
        picture=combed, options={"x264-params": "tff=1", "qp": "4"}, prepare=prepare,
    )  # fmt: skip


def frames_of(source: Source) -> list[av.VideoFrame]:
    return [item for item in source if isinstance(item, av.VideoFrame)]


def test_one_frame_for_each_with_its_own_time(interlaced: Path) -> None:
    """bwdif halves the time base and guesses the last time: both must not show."""
    with Source(str(interlaced)) as source:
        frames = frames_of(source)
        assert source.notes == ["interlaced: deinterlaced with bwdif, frame rate kept"]
    assert [f.pts for f in frames] == VFR
    assert {Fraction(f.time_base) for f in frames} == {Fraction(1, 1000)}
    assert [f.duration for f in frames] == DURATIONS
    assert not any(f.interlaced_frame for f in frames)


def test_the_comb_is_gone(interlaced: Path) -> None:
    with av.open(str(interlaced)) as container:
        before = [combing(plane_view(f, 0)) for f in container.decode(video=0)]
    with Source(str(interlaced)) as source:
        after = [combing(plane_view(f, 0)) for f in frames_of(source)]
    assert len(before) == len(after)
    assert np.mean(after) < 0.2 * np.mean(before)


def test_keep_interlaced_refuses_before_any_work(interlaced: Path) -> None:
    assert probe(str(interlaced)).video.interlaced
    with pytest.raises(UsageError, match="interlaced"):
        Source(str(interlaced), Options(keep_interlaced=True))


def test_progressive_frames_pass_untouched() -> None:
    """Frames of mixed streams that are not marked keep every sample."""
    deinterlacer = Deinterlacer(combed(0))
    given = [combed(n) for n in range(4)]
    copies = [plane_view(f, 0).copy() for f in given]
    for n, frame in enumerate(given):
        frame.pts, frame.time_base, frame.duration = n, Fraction(1, 25), 1
    out = [f for frame in given for f in deinterlacer.push(frame)] + list(deinterlacer.flush())
    assert [f.pts for f in out] == [0, 1, 2, 3]
    assert all(np.array_equal(plane_view(f, 0), c) for f, c in zip(out, copies, strict=True))


def test_every_frame_on_the_containers_word() -> None:
    deinterlacer = Deinterlacer(combed(0), every_frame=True)
    frames = [combed(n) for n in range(6)]
    out = [f for frame in frames for f in deinterlacer.push(frame)] + list(deinterlacer.flush())
    assert len(out) == 6
    assert combing(plane_view(out[3], 0)) < 0.3 * combing(plane_view(combed(3), 0))


def test_interlaced_frames_that_come_late_are_found(tmp_path: Path, interlaced: Path) -> None:
    """A progressive beginning must not decide for the whole of a broadcast."""
    plain = write_video(tmp_path / "p.ts", range(10), size=(96, 64), picture=combed_still)

    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.flags |= int(av.codec.context.Flags.interlaced_dct)

    late = write_video(
        tmp_path / "l.ts", range(10, 16), size=(96, 64), picture=combed,
        options={"x264-params": "tff=1", "qp": "4"}, prepare=prepare,
    )  # fmt: skip
    joined = tmp_path / "joined.ts"
    joined.write_bytes(plain.read_bytes() + late.read_bytes())
    with Source(str(joined)) as source:
        assert source.notes == []
        frames = frames_of(source)
        assert "interlaced: deinterlaced with bwdif, frame rate kept" in source.notes
    assert len(frames) == 16
    assert combing(plane_view(frames[13], 0)) < 0.3 * combing(plane_view(combed(3), 0))


def combed_still(n: int) -> av.VideoFrame:
    return flat_frame((96, 64), (60, 128, 128))
