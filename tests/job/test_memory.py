"""Arrays and frames in memory."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import MakeClip
from networks import real_luma

import upscale
from upscale.backends import load as load_backend
from upscale.errors import BackendError, LargeEnough, MediaError, UsageError
from upscale.frame.upscaler import FrameUpscaler
from upscale.job.memory import Upscaler, frames, load
from upscale.media.pixels.rgb import to_luma
from upscale.model.weights import find_model, weights_folder
from upscale.options import Options


@pytest.fixture(scope="module")
def enlarge() -> Iterator[Upscaler]:
    with load("fast", backend="onnx", precision="fp32") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def luma(samples: Path) -> np.ndarray:
    return real_luma(samples / "bee_360p.mp4")[90:180, 200:360]


@pytest.fixture(scope="module")
def rgb(samples: Path) -> np.ndarray:
    with av.open(str(samples / "bee_360p.mp4")) as container:
        frame = next(container.decode(video=0))
        return frame.to_ndarray(format="rgb24")[90:180, 200:360]


def test_a_plane_is_what_the_backend_makes(enlarge: Upscaler, luma: np.ndarray) -> None:
    with load_backend("onnx", find_model("fast"), precision="fp32") as backend:
        assert np.array_equal(enlarge(luma), backend(luma))
        deep = luma.astype(np.uint16) * 4
        assert np.array_equal(enlarge(deep, 1023), backend(deep, 1023))
        full = luma.astype(np.uint16) * 257
        assert np.array_equal(enlarge(full), backend(full, 65535))


def test_rgb_has_the_networks_luma_and_its_own_colours(enlarge: Upscaler, rgb: np.ndarray) -> None:
    larger = enlarge(rgb)
    assert larger.shape == (180, 320, 3)
    assert larger.dtype == np.uint8
    expected = enlarge(to_luma(rgb / np.float32(255)))
    inside = ((larger > 0) & (larger < 255)).all(axis=2)
    found = to_luma(larger / np.float32(255)).astype(int)
    assert np.abs(found - expected)[inside].max() <= 1
    small = larger.reshape(90, 2, 160, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - rgb).mean() < 3, "no tint"
    gray = np.repeat(rgb[:, :, :1], 3, axis=2)
    assert np.ptp(enlarge(gray), axis=2).max() == 0, "gray stays gray"


def test_odd_sides_strides_and_single_pixels(enlarge: Upscaler, luma: np.ndarray, rgb: np.ndarray) -> None:
    assert enlarge(luma[:33, :47]).shape == (66, 94)
    assert np.array_equal(enlarge(luma[::2, ::3]), enlarge(luma[::2, ::3].copy()))
    assert enlarge(rgb[:33, :47]).shape == (66, 94, 3)
    assert enlarge(rgb[:1, :1]).shape == (2, 2, 3)


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gray", "rgb24", "bgr24"])
def test_a_frame_keeps_its_kind_times_and_tags(name: str, enlarge: Upscaler, samples: Path) -> None:
    with av.open(str(samples / "bee_360p.mp4")) as container:
        frame = next(container.decode(video=0)).reformat(160, 90, name)
    frame.pts, frame.time_base, frame.color_range = 77, Fraction(1, 25), 1
    larger = enlarge(frame)
    assert (larger.width, larger.height, larger.format.name) == (320, 180, name)
    assert (larger.pts, larger.time_base, larger.color_range) == (77, frame.time_base, frame.color_range)
    if name == "bgr24":
        other = enlarge(frame.reformat(format="rgb24"))
        assert np.abs(other.to_ndarray()[..., ::-1].astype(int) - larger.to_ndarray()).max() <= 1


def test_what_is_no_picture_is_refused(enlarge: Upscaler) -> None:
    for shape, kind in (((4, 4), float), ((4, 4, 4), np.uint8), ((0, 4), np.uint8), ((4, 4, 3), np.uint16)):
        with pytest.raises(ValueError, match="a picture must be"):
            enlarge(np.zeros(shape, kind))
    with pytest.raises(ValueError, match="an empty picture"):
        enlarge(np.zeros((0, 4, 3), np.uint8))
    for name in ("nv12", "pal8", "yuva420p"):
        with pytest.raises(ValueError, match=f"frames of format {name} are not taken"):
            enlarge(av.VideoFrame(16, 16, name))


def test_batches_keep_their_order(enlarge: Upscaler, luma: np.ndarray, rgb: np.ndarray) -> None:
    batch = np.stack([np.roll(luma, n, axis=1) for n in range(7)])
    results = list(enlarge.map(batch))
    assert all(np.array_equal(r, enlarge(p)) for r, p in zip(results, batch, strict=True))
    mixed = list(enlarge.map([luma, rgb, luma[:20]]))
    assert [m.shape for m in mixed] == [(180, 320), (180, 320, 3), (40, 320)]
    with pytest.raises(ValueError, match="a picture must be"):
        list(enlarge.map([luma, luma.astype(float)]))


def test_leaving_a_batch_early_ends_its_threads(enlarge: Upscaler, luma: np.ndarray) -> None:
    results = enlarge.map(luma for _ in range(10_000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("upscale-")]


def test_many_threads_may_call_at_once(enlarge: Upscaler, luma: np.ndarray, rgb: np.ndarray) -> None:
    expected = enlarge(luma), enlarge(rgb)
    with ThreadPoolExecutor(8) as pool:
        for n, result in enumerate(pool.map(enlarge, [luma, rgb] * 10)):
            assert np.array_equal(result, expected[n % 2])


def test_a_closed_one_says_so(luma: np.ndarray) -> None:
    with load("fast", backend="onnx", precision="fp32") as closed:
        assert closed.scale == 2
        assert closed.precision == "fp32"
    with pytest.raises(BackendError, match="closed"):
        closed(luma)


def test_models_strengths_and_paths(luma: np.ndarray) -> None:
    for name, strength in (("gan", 0.5), (weights_folder() / "fast.onnx", None)):
        with load(name, strength=strength, backend="onnx", precision="fp32") as loaded:
            assert loaded(luma).shape == (180, 320)
    with pytest.raises(UsageError, match="no such model"):
        load("nobody")
    with pytest.raises(UsageError, match="no backend"):
        load("fast", backend="nothing")


def test_deep_samples_are_never_integers(luma: np.ndarray) -> None:
    with load("fast", backend="onnx", bits=10) as loaded:
        assert loaded.precision == "fp32"


def test_frames_of_a_file_come_with_their_times(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=5)
    options = Options(model="fast", backend="onnx", precision="fp32", scale=2)
    with av.open(str(clip)) as container:
        expected = list(container.decode(video=0))
    found = list(frames(clip, options))
    assert [time for time, _ in found] == pytest.approx([frame.time for frame in expected])
    size = 2 * expected[0].width, 2 * expected[0].height
    assert {(f.frame.width, f.frame.height) for f in found} == {size}
    with load_backend("onnx", find_model("fast"), precision="fp32") as backend:
        again = FrameUpscaler(backend, size)(expected[0])
    assert np.array_equal(again.to_ndarray(), found[0].frame.to_ndarray())


def test_frames_may_be_left_early_and_resampled(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=40)
    several = frames(clip, Options(model="lanczos", width=320))
    assert next(several).frame.width == 320
    several.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("upscale-")]


def test_faults_of_frames_come_with_the_first_one(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=2)
    with pytest.raises(LargeEnough):
        next(frames(clip, Options(model="fast", width=32)))
    (tmp_path / "b.mp4").write_text("no video")
    with pytest.raises((UsageError, MediaError)):
        next(frames(tmp_path / "b.mp4"))


# -- the README's examples ---------------------------------------------------------------------------------

README = Path(upscale.__file__).parent / "job" / "README.md"


def example(word: str) -> str:
    """The README's block of Python with this word."""
    (found,) = [
        b for b in re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL) if word in b
    ]
    assert len(found.splitlines()) < 30
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("program", "result"), [("ffmpeg", "out.mp4"), ("gst-launch-1.0", "out.y4m")])
def test_the_example_works_between_other_programs(
    program: str, result: str, make_clip: MakeClip, tmp_path: Path
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    make_clip(tmp_path / "in.mp4", size=(320, 184), frames=10)
    (tmp_path / "enlarge.py").write_text(example("sys.stdin.buffer"))
    lines = README.read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{program} ") and "enlarge.py" in line]
    command = line.replace("python ", f"{sys.executable} -W error ")
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / result)) as container:
        found = list(container.decode(video=0))
    assert len(found) == 10
    assert {(f.width, f.height) for f in found} == {(640, 368)}


@pytest.mark.slow
def test_the_vapoursynth_example_gives_frames() -> None:
    vapoursynth = pytest.importorskip("vapoursynth", reason="no Python package vapoursynth")
    exec(example("import vapoursynth"), {})
    frame = vapoursynth.get_output(0).clip.get_frame(1)
    assert (frame.width, frame.height) == (640, 368)


def test_the_first_example_runs(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "in.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    names = {"picture": np.zeros((8, 8), np.uint8)}
    exec(example("upscale.frames"), names)
    assert names["larger"].shape == (16, 16)
