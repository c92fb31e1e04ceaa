"""What both fuzzers share: small whole videos to spoil, and the check of what the program makes of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clips import noise_frame, write_program, write_video
from rich_clip import write_rich

from upscale import Options, upscale_file
from upscale.errors import UpscaleError

#: 0, 1 and 3 are what a damaged file may get; 2 is for one that now is a still picture, or too large.
ALLOWED = (0, 1, 2, 3)
OPTIONS = Options(model="lanczos", scale=2, encoder_options={"preset": "ultrafast"}, threads=1)


def _webm(path: Path) -> Path:
    """VP8 and Opus."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("libopus", rate=48000, layout="mono")
        for n in range(12):
            frame = noise_frame((64, 48), seed=n)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
            silence = av.AudioFrame("s16", "mono", 1920)
            silence.sample_rate, silence.pts, silence.time_base = 48000, n * 1920, Fraction(1, 48000)
            container.mux(sound.encode(silence))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


_CUES = [(0.1, 0.3, "one"), (0.3, 0.5, "two")]
_PARTS = [(0.0, 0.3, "A"), (0.3, 0.6, "B")]

#: The four containers that the seeded fuzz spoils.
COMMON: dict[str, Callable[[Path], Path]] = {
    "p.mkv": lambda path: write_program(path, seconds=0.6, subtitles=_CUES, chapters=_PARTS),
    "r.mp4": lambda path: write_rich(path, subtitle="mov_text"),
    "p.ts": lambda path: write_program(path, seconds=0.6, offset=6.4),
    "o.webm": _webm,
}
#: More, for the coverage-guided one.
RARE: dict[str, Callable[[Path], Path]] = {
    "f.mp4": lambda path: write_program(
        path, seconds=0.6, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "r.mkv": lambda path: write_rich(path, font=True, cover=True),
    "m.avi": lambda path: write_video(path, range(8), codec="mpeg4"),
    "v.flv": lambda path: write_video(path, range(8), codec="flv"),
    "l.ts": lambda path: write_video(path, range(8), codec="mpeg2video", options={"flags": "+ildct+ilme"}),
    "h.mov": lambda path: write_video(path, range(8), codec="prores_ks", pix_fmt="yuv422p10le"),
    "n.mkv": lambda path: write_video(path, range(3), codec="ffv1", pix_fmt="yuv420p10le"),
    "r.h264": lambda path: write_video(path, range(8), format="h264"),
    "a.gif": lambda path: write_video(path, range(0, 40, 10), codec="gif", pix_fmt="rgb8",
                                      picture=lambda n: noise_frame((64, 48), seed=n).reformat(format="rgb8"),
                                      time_base=Fraction(1, 100)),
}  # fmt: skip


def write_seeds(folder: Path, makers: dict[str, Callable[[Path], Path]]) -> list[Path]:
    """Make the whole videos."""
    folder.mkdir(parents=True, exist_ok=True)
    return [make(folder / name) for name, make in makers.items()]


def answer(path: Path, folder: Path) -> int:
    """Upscale `path` into the empty `folder`, which is empty again afterwards; gives the exit code.

    Raises:
        AssertionError: an answer that is not allowed, of more than one line, or that leaves a file.
        BaseException: whatever got through, which is a fault of the program.
    """
    output = folder / "out.mkv"
    words = ""
    try:
        result = upscale_file(str(path), str(output), OPTIONS)
        code = 3 if result.damaged else 0
        words = "; ".join(result.damage)
        assert result.frames > 0
        assert output.stat().st_size > 0
        output.unlink()
    except UpscaleError as error:
        code, words = error.exit_code, str(error)
        assert words, "an error without words"
    assert words.isprintable(), f"unprintable: {words!r}"
    assert code in ALLOWED, f"exit code {code}: {words}"
    assert os.listdir(folder) == [], f"left behind: {os.listdir(folder)}"
    return code
