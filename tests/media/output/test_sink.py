"""The output: everything that the input had is there on re-reading, or nothing is left behind."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from rich_clip import (
    CHAPTERS,
    CUES,
    LAST_DURATION,
    TIMES,
    packet_sizes,
    passage,
    picture,
    video_times,
    write_rich,
)

from upscale.errors import OutputError, UsageError
from upscale.media.input.source import Source
from upscale.media.output.plan import make_plan
from upscale.media.output.sink import Sink
from upscale.options import Options

PAIRS = [("mkv", "mkv"), ("mkv", "mp4"), ("mp4", "mp4"), ("mp4", "mkv"), ("mkv", "mov")]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rich")
    return {
        "mkv": write_rich(folder / "in.mkv", font=True, cover=True),
        "mp4": write_rich(folder / "in.mp4", subtitle="mov_text"),
    }


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_video_times_are_kept_to_the_tick(
    inputs: dict[str, Path], tmp_path: Path, source: str, target: str
) -> None:
    """VFR: ffmpeg-style rebuilding from a frame rate would move every frame."""
    out = tmp_path / f"out.{target}"
    _, report = passage(inputs[source], out)
    assert [t for t, _ in video_times(out)] == [Fraction(t, 1000) for t in TIMES]
    assert report.frames == len(TIMES)


@pytest.mark.parametrize("target", ["mkv", "mp4"])
def test_last_frame_keeps_its_duration(inputs: dict[str, Path], tmp_path: Path, target: str) -> None:
    """Without the encoder's frame_duration flag it shrinks to one frame of the nominal rate."""
    out = tmp_path / f"out.{target}"
    _, report = passage(inputs["mkv"], out, Options(encoder_options={"bf": "0"}))
    time, duration = video_times(out)[-1]
    assert (time, duration) == (Fraction(TIMES[-1], 1000), Fraction(LAST_DURATION, 1000))
    assert report.duration == pytest.approx((TIMES[-1] + LAST_DURATION - TIMES[0]) / 1000)


def test_track_lasts_as_long_as_its_last_frame_with_b_frames(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The mov muxer counts decoding times: the last packet is not the last frame."""
    out = tmp_path / "out.mp4"
    passage(inputs["mkv"], out, Options(encoder_options={"bf": "3", "x264-params": "b-adapt=0"}))
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        order = [p.pts for p in container.demux(video) if p.size]
        assert order != sorted(order)
        assert video.duration is not None
        length = video.duration * Fraction(video.time_base)
    assert length == Fraction(TIMES[-1] + LAST_DURATION - TIMES[0], 1000)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_audio_tracks_are_copied_with_their_times(
    inputs: dict[str, Path], tmp_path: Path, source: str, target: str
) -> None:
    out = tmp_path / f"out.{target}"
    passage(inputs[source], out)
    before, after = packet_sizes(inputs[source], "audio"), packet_sizes(out, "audio")
    assert len(before) == len(after) == 2
    for old, new in zip(before, after, strict=True):
        assert [size for _, size in old] == [size for _, size in new]
        # one tick of Matroska is the coarser of the two clocks
        assert max(abs(a[0] - b[0]) for a, b in zip(old, new, strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_languages_titles_and_dispositions(
    inputs: dict[str, Path], tmp_path: Path, source: str, target: str
) -> None:
    """Templates copy none of them; mp4 reads a title as 'name' and loses it under that name."""
    out = tmp_path / f"out.{target}"
    passage(inputs[source], out)
    with av.open(str(out)) as container:
        audio = container.streams.audio
        # QuickTime has its own list of languages, with "fra" and "sve" in it
        assert [s.language for s in audio] == ["ger", "fra" if target == "mov" else "fre"]
        assert [s.metadata.get("title") or s.metadata.get("name") for s in audio] == ["track 0", "track 1"]
        assert bool(audio[1].disposition & Disposition.default)
        assert not audio[0].disposition & Disposition.default
        assert container.streams.subtitles[0].language == ("sve" if target == "mov" else "swe")


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_subtitles_keep_times_and_words(
    inputs: dict[str, Path], tmp_path: Path, source: str, target: str
) -> None:
    """Also across srt and mov_text, which are converted."""
    out = tmp_path / f"out.{target}"
    passage(inputs[source], out)
    with av.open(str(out)) as container:
        stream = container.streams.subtitles[0]
        cues = [
            (p.pts * Fraction(p.time_base), p.duration * Fraction(p.time_base), p.decode())
            for p in container.demux(stream)
            if p.size > 2
        ]
    assert [(t, d) for t, d, _ in cues] == [(Fraction(t, 1000), Fraction(d, 1000)) for t, d, _ in CUES]
    words = [re.sub(r"\{[^}]*\}", "", cue[0].dialogue.decode()).strip() for _, _, cue in cues]
    assert words == ["first", "second"]
    assert "\\i1" in cues[1][2][0].dialogue.decode()  # italics are the one style that all of them have


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_chapters_and_tags(inputs: dict[str, Path], tmp_path: Path, source: str, target: str) -> None:
    out = tmp_path / f"out.{target}"
    passage(inputs[source], out)
    with av.open(str(out)) as container:
        chapters = container.chapters()
        tags = {k.lower(): v for k, v in container.metadata.items()}
    assert [c["metadata"]["title"] for c in chapters] == ["One", "Zwei"]
    starts = [c["start"] * Fraction(c["time_base"]) for c in chapters]
    assert starts == [c["start"] * c["time_base"] for c in CHAPTERS]
    assert (tags["title"], tags["artist"], tags["comment"]) == ("A Film", "Somebody", "a=b; c")


def test_font_and_cover_come_through_matroska(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    plan, _ = passage(inputs["mkv"], out)
    assert plan.warnings == []
    with av.open(str(inputs["mkv"])) as old, av.open(str(out)) as new:
        fonts = [next(s for s in c.streams if s.type == "attachment") for c in (old, new)]
        assert fonts[0].data == fonts[1].data
        assert fonts[0].metadata == fonts[1].metadata
        covers = [
            next(s for s in c.streams.video if s.disposition & Disposition.attached_pic) for c in (old, new)
        ]
        pictures = [bytes(next(iter(c.container.demux(c)))) for c in covers]
        assert pictures[0] == pictures[1]


def test_cover_comes_through_mp4(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Its packet has no time stamp at all, which must not drop it."""
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    plan, _ = passage(inputs["mkv"], first)
    assert plan.warnings == ["will not be in the output: attachment a font.ttf"]
    passage(first, second, size=(160, 120))
    for path in (first, second):
        with av.open(str(path)) as container:
            covers = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
            assert [(c.width, c.height) for c in covers] == [(32, 24)]


def test_start_offset_between_audio_and_video_is_exact_in_mp4(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """The mov muxer rounds offsets to its movie time scale, by default milliseconds."""

    def shift(stream: av.VideoStream) -> None:
        stream.codec_context.time_base = Fraction(1, 30000)

    source = write_rich(tmp_path / "in.mp4", subtitle=None, prepare=shift)
    out = tmp_path / "out.mp4"
    with Source(str(source)) as opened:
        plan = make_plan(opened.info, str(out), Options(), (128, 96), opened.frame_format)
        with Sink(opened, str(out), plan, Options()) as sink:
            for item in opened:
                if isinstance(item, av.VideoFrame):
                    frame = picture(1, (128, 96))
                    frame.pts, frame.time_base = (
                        round(item.pts * item.time_base * 30000) + 1,
                        Fraction(1, 30000),
                    )
                    sink.frame(frame)
                else:
                    sink.packet(item)
            sink.finish()
    assert video_times(out)[0][0] == Fraction(TIMES[0] * 30 + 1, 30000)


def test_priming_of_aac_does_not_move_the_film_in_matroska(tmp_path: Path) -> None:
    """AAC in mp4 starts 21 ms before zero; by default the muxer would move every stream by that."""
    source = write_rich(tmp_path / "in.mp4", subtitle=None)
    assert packet_sizes(source, "audio")[0][0][0] < 0
    out = tmp_path / "out.mkv"
    passage(source, out)
    assert video_times(out)[0][0] == Fraction(TIMES[0], 1000)
    assert packet_sizes(out, "audio")[0][0][0] == Fraction(-21, 1000)


def test_second_video_stream_is_copied_with_its_order(tmp_path: Path) -> None:
    """Matroska gives no decoding times for the first packets of a stream with B-frames."""
    source = tmp_path / "two.mkv"
    with av.open(str(source), "w") as out:
        streams = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(streams, ((64, 48), (32, 32)), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.max_b_frames = 3
        for n in range(20):
            for stream in streams:
                frame = picture(n, (stream.width, stream.height))
                frame.pts, frame.time_base = n, Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    target = tmp_path / "out.mp4"
    _, report = passage(source, target)
    assert report.adjusted_timestamps == 0
    before, after = packet_sizes(source, "video")[1], packet_sizes(target, "video")[1]
    assert before == after


def test_unsupported_audio_is_converted_and_named(tmp_path: Path) -> None:
    """wmav2 cannot live in mp4: sound must never be dropped silently."""
    source = write_rich(tmp_path / "in.asf", audio=("wmav2",), subtitle=None)
    out = tmp_path / "out.mp4"
    plan, _ = passage(source, out)
    assert plan.warnings == ["converted for mp4: audio #1 wmav2 → aac"]
    with av.open(str(out)) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.name == "aac"
        length = sum(f.samples for f in container.decode(sound)) / 48000
    assert length == pytest.approx(1.0, abs=0.1)


def test_lossless_audio_stays_lossless(tmp_path: Path) -> None:
    """flac cannot live in mov; alac holds the same samples."""
    source = write_rich(tmp_path / "in.mkv", audio=("flac",), subtitle=None)
    out = tmp_path / "out.mov"
    plan, _ = passage(source, out)
    assert [s.to_codec for s in plan.by_action("convert")] == ["alac"]
    assert samples_digest(source) == samples_digest(out)


def samples_digest(path: Path) -> str:
    digest = hashlib.sha256()
    resampler = av.AudioResampler("s16", "mono", 48000)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                digest.update(part.to_ndarray().tobytes())
    return digest.hexdigest()


def test_options_leave_streams_out_without_a_warning(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    plan, _ = passage(inputs["mkv"], out, Options(audio=False, subtitles=False))
    assert plan.warnings == []
    with av.open(str(out)) as container:
        assert not container.streams.audio
        assert not container.streams.subtitles


def test_failure_leaves_no_file(inputs: dict[str, Path], tmp_path: Path) -> None:
    """PyAV writes a valid trailer on an exception: the partial file would look complete."""
    out = tmp_path / "out.mp4"
    with Source(str(inputs["mkv"])) as source:
        plan = make_plan(source.info, str(out), Options(), (128, 96), source.frame_format)
        with pytest.raises(KeyboardInterrupt), Sink(source, str(out), plan, Options()) as sink:
            for item in source:
                if isinstance(item, av.VideoFrame):
                    frame = picture(1, (128, 96))
                    frame.pts, frame.time_base = item.pts, item.time_base
                    sink.frame(frame)
                    assert list(tmp_path.iterdir())
                    raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_no_frames_is_an_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    with Source(str(inputs["mkv"])) as source:
        plan = make_plan(source.info, str(out), Options(), (128, 96), source.frame_format)
        with Sink(source, str(out), plan, Options()) as sink, pytest.raises(OutputError, match="no frame"):
            sink.finish()
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_refused_and_kept(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    out.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"):
        passage(inputs["mkv"], out)
    assert out.read_bytes() == b"precious"
    passage(inputs["mkv"], out, Options(overwrite=True))
    assert out.stat().st_size > 1000


def test_wrong_size_of_a_frame_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The encoder would silently rescale it."""
    out = tmp_path / "out.mkv"
    with Source(str(inputs["mkv"])) as source:
        plan = make_plan(source.info, str(out), Options(), (128, 96), source.frame_format)
        with Sink(source, str(out), plan, Options()) as sink:
            frame = picture(0)
            frame.pts, frame.time_base = 0, Fraction(1, 1000)
            with pytest.raises(ValueError, match="64x48"):
                sink.frame(frame)


def test_repeated_times_are_moved_apart_and_counted(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with Source(str(inputs["mkv"])) as source:
        plan = make_plan(source.info, str(out), Options(), (128, 96), source.frame_format)
        with Sink(source, str(out), plan, Options()) as sink:
            for pts in (0, 40, 40, 30, 80):
                frame = picture(1, (128, 96))
                frame.pts, frame.time_base = pts, Fraction(1, 1000)
                sink.frame(frame)
            report = sink.finish()
    assert report.adjusted_timestamps == 2
    assert [t * 1000 for t, _ in video_times(out)] == [0, 40, 41, 42, 80]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_one_line(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC may come as late as close()."""
    import upscale.media.output.sink as module

    class Full(module.SafeFile):
        def __init__(self, target: str, **how: bool) -> None:
            super().__init__(target, **how)
            self.discard()
            self.path = "/dev/full"

        def discard(self) -> None:
            if self.path != "/dev/full":
                super().discard()

    monkeypatch.setattr(module, "SafeFile", Full)
    with pytest.raises(OutputError, match="no space left on the disk") as caught:
        passage(inputs["mkv"], tmp_path / "out.mkv")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


_PIPE = """
import sys
sys.path.insert(0, {tests!r})
from rich_clip import passage
from upscale.errors import UpscaleError
from upscale.options import Options
try:
    passage({source!r}, "-", Options(container={container!r}))
except UpscaleError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""


def _to_pipe(source: Path, container: str | None) -> subprocess.Popen[bytes]:
    script = _PIPE.format(tests=str(Path(__file__).parents[2]), source=str(source), container=container)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("container", [None, "nut", "mpegts", "yuv4mpegpipe", "fmp4"])
def test_standard_output(inputs: dict[str, Path], tmp_path: Path, container: str | None) -> None:
    data, errors = _to_pipe(inputs["mkv"], container).communicate(timeout=60)
    assert errors == b""
    out = tmp_path / "out"
    out.write_bytes(data)
    with av.open(str(out)) as opened:
        frames = list(opened.decode(video=0))
    assert len(frames) == len(TIMES)
    assert (frames[0].width, frames[0].height) == (128, 96)


def test_reader_of_the_pipe_goes_away(inputs: dict[str, Path]) -> None:
    """`… | head -c 1000` ends with one line, no traceback."""
    process = _to_pipe(inputs["mkv"], "yuv4mpegpipe")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert errors.strip() == b"the reader of the pipe went away"
