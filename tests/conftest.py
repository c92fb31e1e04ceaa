"""Shared fixtures: the sample clips, and small videos made on the spot."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Makes a video at a path and returns the path.
MakeClip = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor change what was measured for the user; processes they start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of bundled sample clips."""
    return ROOT / "samples"


def write_clip(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    frames: int = 10,
    rate: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: bool = False,
) -> Path:
    """A moving gradient with `frames` frames and, if asked, a tone of the same length."""
    width, height = size
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        sound = container.add_stream("aac", rate=48000, layout="mono") if audio else None
        y, x = np.mgrid[0:height, 0:width]
        for n in range(frames):
            picture = np.stack([(4 * x + 8 * n) % 256, (5 * y + 3 * n) % 256, (x + y + n) % 256], axis=2)
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24").reformat(
                format=pix_fmt
            )
            frame.pts, frame.time_base = n, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            _tone(container, sound, frames / rate)
    return path


def _tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = int(seconds * 48000)
    wave = (8000 * np.sin(np.arange(samples) * 2 * np.pi * 440 / 48000)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = 48000, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture
def make_clip() -> MakeClip:
    """`write_clip`."""
    return write_clip


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Training crops of two bundled clips, made once for all tests."""
    from upscale.train import dataset

    folder = tmp_path_factory.mktemp("material")
    (folder / "clips").mkdir()
    for name in ("bee_360p.mp4", "bbb_anamorphic_800x640_sar64x45.mp4"):
        shutil.copy(samples / name, folder / "clips")
    dataset.build(folder / "clips", folder / "crops")
    return folder / "crops"
