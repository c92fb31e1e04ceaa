"""Moving pictures that are the same on every machine: what the bench runs on.

Neither black nor noise: a camera glides over a natural-spectrum texture with sharp edges, while
discs move on their own and a little grain changes from frame to frame, so that the decoder and the
encoder have about the work that a filmed clip of that size gives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av
    from av.video.plane import VideoPlane

    Picture = npt.NDArray[np.uint8]

RATE = 30
_SEED = 20260101


def write_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Encode `frames` pictures of width×height with libx264 CRF 23 as a Matroska file."""
    import av

    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in pictures(width, height, frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def pictures(width: int, height: int, frames: int) -> Iterator[av.VideoFrame]:
    """The uncompressed frames, yuv420p, sides even."""
    import av

    rng = np.random.default_rng(_SEED)
    margin = 160
    scene = _scene(rng, height + margin, width + margin)
    # Colour that follows the scene from a little way off.
    tints = [np.clip(98 + np.roll(scene, -s, axis=0) / 4, 16, 240).astype(np.uint8) for s in (20, 70)]
    grain = rng.normal(0, 4, (4, height, width))
    for n in range(frames):
        # Sub-pixel speeds would need resampling; two incommensurate sines do as well.
        top = int(margin / 2 * (1 + np.sin(n / 37)))
        left = int(margin / 2 * (1 + np.sin(n / 23 + 1)))
        luma = scene[top : top + height, left : left + width].copy()
        _discs(luma, n)
        luma += np.roll(grain[n % 4], n * 7, axis=1)
        frame = av.VideoFrame(width, height, "yuv420p")
        planes = [np.clip(luma, 16, 235).astype(np.uint8)]
        planes += [t[top : top + height : 2, left : left + width : 2] for t in tints]
        for plane, values in zip(frame.planes, planes, strict=True):
            _fill(plane, values)
        frame.pts, frame.time_base = n, Fraction(1, RATE)
        yield frame


def _scene(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """A 1/f texture with rectangles, stripes and letter-like marks, around 120 ± 45."""
    noise = np.fft.rfft2(rng.normal(size=(height, width)))
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    distance[0, 0] = 1
    texture = np.fft.irfft2(noise / distance**1.2, (height, width))
    scene = 120 + 30 * texture / texture.std()
    for _ in range(60):
        y, x = int(rng.integers(0, height - 40)), int(rng.integers(0, width - 60))
        h, w = int(rng.integers(4, 40)), int(rng.integers(4, 60))
        scene[y : y + h, x : x + w] += rng.uniform(-60, 60)
    for _ in range(200):  # strokes as thin as text
        y, x = int(rng.integers(0, height - 12)), int(rng.integers(0, width - 12))
        if rng.random() < 0.5:
            scene[y : y + 10, x : x + 2] = 30
        else:
            scene[y : y + 2, x : x + 10] = 220
    return scene


def _discs(luma: npt.NDArray[np.float64], n: int) -> None:
    """Five discs on orbits of their own."""
    height, width = luma.shape
    y, x = np.ogrid[:height, :width]
    for k in range(5):
        centre_y = height * (0.5 + 0.4 * np.sin(n / (11 + 3 * k) + k))
        centre_x = width * (0.5 + 0.4 * np.cos(n / (13 + 2 * k) + 2 * k))
        luma[(y - centre_y) ** 2 + (x - centre_x) ** 2 < (10 + 6 * k) ** 2] += 15 * (k - 2) + 5


def _fill(plane: VideoPlane, values: Picture) -> None:
    rows = np.zeros((plane.height, plane.line_size), np.uint8)
    rows[:, : plane.width] = values
    plane.update(rows.tobytes())
