"""Numbered pictures as a video's frames, in and out; animated WebP.

Covers upscale/pictures/{sequence,names}.py.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_program
from PIL import Image

from upscale import Options, upscale_file
from upscale.errors import MediaError, OutputError, UsageError
from upscale.pictures.names import is_numbered, numbered_files, numbered_name

LANCZOS = Options(scale=2, model="lanczos")
COUNT = 9


def write_frames(
    folder: Path, pattern: str = "%04d.png", count: int = COUNT, first: int = 1, **how: Any
) -> str:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        levels = np.full((32, 48, 3), 20 + 20 * number % 230, np.uint8)
        Image.fromarray(levels).save(folder / (pattern % (first + number)), **how)
    return str(folder / pattern)


def levels_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]


@pytest.mark.parametrize("pattern", ["%04d.png", "f%d.jpg", "%d.webp", "x%02d.tif", "%d.bmp"])
def test_numbered_pictures_are_frames_in_their_order(tmp_path: Path, pattern: str) -> None:
    given = write_frames(tmp_path / "in", pattern, quality=95)
    options = Options(scale=2, model="lanczos", fps=24000 / 1001, codec="ffv1")
    result = upscale_file(given, tmp_path / "out.mkv", options)
    assert (result.frames, result.size, result.damage) == (COUNT, (96, 64), ())
    found = levels_of(tmp_path / "out.mkv")
    assert found == sorted(found)
    assert np.ptp(np.diff(found)) < 3
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(23.976, abs=0.01)


def test_ten_comes_after_nine_and_gaps_are_closed(tmp_path: Path) -> None:
    given = write_frames(tmp_path / "in", "%d.png", 4, first=8)
    (tmp_path / "in" / "9.png").unlink()
    for name in ("9.png.txt", "a9.png", "009.png"):
        (tmp_path / "in" / name).write_text("another")
    assert [Path(p).name for p in numbered_files(given)] == ["8.png", "10.png", "11.png"]


def test_the_rate_is_said_where_none_is_given(tmp_path: Path) -> None:
    given = write_frames(tmp_path / "in")
    result = upscale_file(given, tmp_path / "out.mp4", LANCZOS)
    assert result.warnings[0] == f"{COUNT} pictures at 25 frames per second: --fps says another rate"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == 25


def test_a_video_becomes_numbered_pictures(tmp_path: Path) -> None:
    write_program(tmp_path / "in.mp4", seconds=0.4)
    (tmp_path / "out").mkdir()
    pattern = str(tmp_path / "out" / "%03d.png")
    result = upscale_file(tmp_path / "in.mp4", pattern, LANCZOS)
    assert (result.frames, result.output) == (10, pattern)
    assert result.warnings == ("numbered pictures hold no sound, no subtitles and no times: left out",)
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == [f"{n:03d}.png" for n in range(1, 11)]
    assert result.bytes == sum(f.stat().st_size for f in files)
    with Image.open(files[3]) as image:
        assert image.size == result.size
        ours = np.asarray(image, int)
    with av.open(str(tmp_path / "in.mp4")) as container:
        frame = list(container.decode(video=0))[3].to_ndarray(format="rgb24").astype(int)
    assert abs(ours.mean() - frame.mean()) < 3
    with pytest.raises(UsageError, match="exists"):
        upscale_file(tmp_path / "in.mp4", pattern, LANCZOS)


def test_pictures_of_a_turned_video_are_upright(samples: Path, tmp_path: Path) -> None:
    turned = samples / "keyboard_phone_rotated_360p.mp4"
    short = Options(scale=1.2, model="lanczos", stop=0.1)
    result = upscale_file(turned, str(tmp_path / "%d.jpg"), short)
    with Image.open(tmp_path / "1.jpg") as image:
        assert image.size == result.size[::-1]


def test_numbered_to_numbered_keeps_what_pictures_hold(tmp_path: Path) -> None:
    given = write_frames(tmp_path / "in", dpi=(200, 200), first=5)
    (tmp_path / "out").mkdir()
    result = upscale_file(given, str(tmp_path / "out" / "%02d.png"), LANCZOS)
    assert result.frames == len(list((tmp_path / "out").iterdir())) == COUNT
    with Image.open(tmp_path / "out" / "01.png") as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert image.getpixel((9, 9)) == (20, 20, 20)


def test_animated_webp_is_a_video(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (40, 24), (25 * n, 25 * n, 25 * n, 255)) for n in range(6)]
    durations = [40, 40, 200, 40, 40, 40]
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, lossless=True)
    result = upscale_file(path, None, LANCZOS)
    assert Path(result.output).name == "a_2x.mp4"
    with av.open(result.output) as container:
        times = [f.time for f in container.decode(video=0)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.28, 0.32, 0.36], abs=0.002)


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    given = write_frames(tmp_path / "in")
    write_program(tmp_path / "in.mp4", seconds=0.2)
    for output, options, words in (
        (None, LANCZOS, "need an output"),
        (given, LANCZOS, "the input itself"),
        (tmp_path / "o.mp4", Options(model="lanczos", scale=2, fps=0), "more than 0"),
    ):
        with pytest.raises(UsageError, match=words):
            upscale_file(given, output, options)
    with pytest.raises(UsageError, match="a video has its own"):
        upscale_file(tmp_path / "in.mp4", tmp_path / "o.mp4", Options(model="lanczos", scale=2, fps=5))
    with pytest.raises(MediaError, match="no pictures called so"):
        upscale_file(str(tmp_path / "x%d.png"), tmp_path / "o.mp4", LANCZOS)
    with pytest.raises(OutputError, match="folder of the output"):
        upscale_file(given, str(tmp_path / "none" / "%d.png"), LANCZOS)
    Image.new("RGB", (10, 10)).save(tmp_path / "in" / "0004.png")
    with pytest.raises(UsageError, match=r"equally large: .*1.png is \(48, 32\), .*4.png is \(10, 10\)"):
        upscale_file(given, tmp_path / "o.mp4", LANCZOS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "in.mp4"]


def test_a_damaged_picture_in_the_middle(tmp_path: Path) -> None:
    """PNG goes to FFmpeg as it is: what does not decode is counted, as in any video."""
    given = write_frames(tmp_path / "in")
    path = tmp_path / "in" / "0005.png"
    path.write_bytes(path.read_bytes()[:50])
    assert upscale_file(given, tmp_path / "out.mp4", LANCZOS).damaged
    given = write_frames(tmp_path / "w", "%d.webp")
    path = tmp_path / "w" / "5.webp"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MediaError):
        upscale_file(given, tmp_path / "w.mp4", LANCZOS)


def test_a_job_that_ends_early_leaves_no_thread(tmp_path: Path) -> None:
    given = write_frames(tmp_path / "in", count=30)
    upscale_file(given, tmp_path / "out.mp4", Options(model="lanczos", scale=2, fps=10, stop=0.5))
    with pytest.raises(UsageError):
        upscale_file(given, tmp_path / "out.mp4", Options(model="lanczos", scale=2, codec="none"))
    assert not [t for t in threading.enumerate() if t.name == "pictures"]


def test_names(tmp_path: Path) -> None:
    assert numbered_name("a/%04d.png", 7) == "a/0007.png"
    assert numbered_name("%d.png", 12345) == "12345.png"
    assert is_numbered("a/%04d.png")
    assert not any(is_numbered(name) for name in ("a/%04d.mp4", "%d/a.png", "%d%d.png", "a.png", "%s.png"))
    (tmp_path / "%d.png").write_text("a file that is called so")
    assert not is_numbered(str(tmp_path / "%d.png"))
