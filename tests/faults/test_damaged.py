"""Faults 15 to 22: damaged inputs, finished with exit code 3 and counts, or refused with --strict."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import tone
from faults import ask

from upscale.cli import progress
from upscale.events import Start

pytestmark = pytest.mark.timeout(60)

FRAMES = 100
SIZE = (128, 80)
_CODECS = {".webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "b": "800k"}, "libopus")}
_X264 = ("libx264", {"preset": "ultrafast", "g": "20", "bf": "2"}, "mp2")


def write_film(path: Path, **container_options: str) -> Path:
    """Four seconds of a moving texture with sound."""
    codec, options, sound_codec = _CODECS.get(path.suffix, _X264)
    texture = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0] + FRAMES, 3), dtype=np.uint8)
    with av.open(str(path), "w", container_options=container_options) as container:
        video = container.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound = container.add_stream(sound_codec, rate=48000, layout="mono")
        noise = iter(tone(FRAMES / 25))
        for n in range(FRAMES):
            picture = np.ascontiguousarray(texture[:, n : n + SIZE[0]])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
            for _ in range(2):
                if (heard := next(noise, None)) is not None:
                    container.mux(sound.encode(heard))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        "mkv": write_film(folder / "f.mkv"),
        "ts": write_film(folder / "f.ts"),
        "webm": write_film(folder / "f.webm"),
        "mp4": write_film(folder / "f.mp4", movflags="faststart"),
        "fragments.mp4": write_film(folder / "f.fragments.mp4", movflags="frag_keyframe+empty_moov"),
    }


def _cut_half(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 376 * 188 + 100])  # in a packet, where there are packets


def _zeros(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + len(data) // 8] = bytes(len(data) // 8)
    path.write_bytes(data)


def _scatter(path: Path) -> None:
    rng, data = random.Random(1), bytearray(path.read_bytes())
    for _ in range(60):
        data[len(data) // 3 + rng.randrange(len(data) // 3)] = rng.randrange(256)
    path.write_bytes(data)


def _hole(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[len(data) * 5 // 8 :])


#: (id, film, damage, what is said); every one has a good beginning, and is finished.
DAMAGED: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("15-mkv-cut", "mkv", _cut_half, r"\d+ of ~\d+ frames, ends \d\.\d s early"),
    ("15-webm-cut", "webm", _cut_half, r"\d+ of ~\d+ frames, ends \d\.\d s early"),
    ("16-mp4-cut", "mp4", _cut_half, r"\d+ of 100 frames"),
    ("15-ts-cut", "ts", _cut_half, r"bytes? lost|damaged frame"),
    ("17-mkv-zeros", "mkv", _zeros, r"\d+ of ~\d+ frames, .*\d+ bytes lost"),
    ("17-webm-zeros", "webm", _zeros, r"\d+ of ~\d+ frames, .*\d+ bytes lost"),
    ("17-mp4-zeros", "mp4", _zeros, r"\d+ of 100 frames"),
    ("17-ts-zeros", "ts", _zeros, r"\d+ of ~\d+ frames, .*\d+ bytes lost"),
    ("18-mkv-scatter", "mkv", _scatter, "damaged frames"),
    ("18-mp4-scatter", "mp4", _scatter, "damaged frames"),
    ("18-ts-scatter", "ts", _scatter, "damaged frames"),
    ("18-mkv-hole", "mkv", _hole, r"\d+ of ~\d+ frames, .*\d+ bytes lost"),
    ("18-ts-hole", "ts", _hole, r"\d+ of ~\d+ frames, .*\d+ bytes lost"),
]


def _spoilt(films: dict[str, Path], film: str, spoil: Callable[[Path], None], folder: Path) -> Path:
    path = folder / f"in.{film}"
    path.write_bytes(films[film].read_bytes())
    spoil(path)
    return path


def _times(path: Path, kind: str) -> list[float]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [float(p.pts * p.time_base) for p in container.demux(stream) if p.size and p.pts is not None]


@pytest.mark.parametrize(
    ("film", "spoil", "says"), [fault[1:] for fault in DAMAGED], ids=[fault[0] for fault in DAMAGED]
)
def test_damaged_input_is_finished_with_counts(
    film: str, spoil: Callable[[Path], None], says: str, films: dict[str, Path], tmp_path: Path
) -> None:
    path = _spoilt(films, film, spoil, tmp_path)
    says = f"^upscale: {path.name}: the input is damaged: .*({says})"
    answer = ask(tmp_path, path.name, "o.mkv", "--scale", "2", code=3, says=says, new=("o.mkv",))
    frames = _times(tmp_path / "o.mkv", "video")
    assert 0.3 * FRAMES < len(frames) <= FRAMES
    if " of " in answer.line.split("damaged: ")[1].split(", ")[0]:
        assert f"damaged: {len(frames)} of " in answer.line
    # Picture and sound stay where they were: what is lost does not move the rest.
    for kind, tolerance in (("video", 0.002), ("audio", 0.002)):
        origin = _times(films[film], kind)
        first = min(_times(films[film], "video") + _times(films[film], "audio")) if film == "ts" else 0.0
        known = [time - first for time in origin]
        for time in _times(tmp_path / "o.mkv", kind):
            assert min(abs(time - at) for at in known) < tolerance, (kind, time)


@pytest.mark.parametrize(
    ("film", "spoil"),
    [("mkv", _cut_half), ("mp4", _cut_half), ("ts", _hole), ("webm", _zeros), ("mkv", _scatter)],
)
def test_21_strict_refuses_damage(
    film: str, spoil: Callable[[Path], None], films: dict[str, Path], tmp_path: Path
) -> None:
    path = _spoilt(films, film, spoil, tmp_path)
    reason = f"^upscale: {path.name}: the input is damaged: "
    ask(tmp_path, path.name, "o.mkv", "--scale", "2", "--strict", code=1, says=reason)


@pytest.mark.parametrize("film", ["mkv", "mp4", "ts", "webm", "fragments.mp4"])
def test_21_strict_takes_what_is_whole(film: str, films: dict[str, Path], tmp_path: Path) -> None:
    """And nothing is found where nothing is wrong."""
    (tmp_path / f"in.{film}").write_bytes(films[film].read_bytes())
    ask(tmp_path, f"in.{film}", "o.mkv", "--scale", "2", "--strict", code=0, new=("o.mkv",))
    assert len(_times(tmp_path / "o.mkv", "video")) == FRAMES


def test_19_a_fragment_cut_in_its_header(films: dict[str, Path], tmp_path: Path) -> None:
    data = films["fragments.mp4"].read_bytes()
    (tmp_path / "in.mp4").write_bytes(data[: data.index(b"moof") + 20])
    ask(tmp_path, "in.mp4", "o.mkv", code=1, says="^upscale: in.mp4: ")


@pytest.mark.parametrize(
    ("film", "says"),
    [("mkv", r"\d+ of ~\d+ frames"), ("mp4", r"\d+ of 100 frames"), ("ts", "lost|damaged frame")],
)
def test_20_cut_while_it_is_read(
    film: str, says: str, films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"in.{film}"
    path.write_bytes(films[film].read_bytes())
    plain = progress.listener

    @contextlib.contextmanager
    def listener(**talk: Any) -> Iterator[Callable[[Any], None]]:
        with plain(**talk) as show:

            def on_event(event: Any) -> None:
                if isinstance(event, Start):
                    os.truncate(path, path.stat().st_size * 2 // 3)
                show(event)

            yield on_event

    monkeypatch.setattr(progress, "listener", listener)
    ask(tmp_path, path.name, "o.mkv", "--scale", "2", code=3, says=says, new=("o.mkv",), changes=path.name)
    assert len(_times(tmp_path / "o.mkv", "video")) > FRAMES / 3
