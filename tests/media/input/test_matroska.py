"""The walk through Matroska finds every hole, and none in whole files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import noise_frame, write_program, write_video
from rich_clip import write_rich

from upscale.media.input.matroska import structure


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_video(
        tmp_path / "x.mkv", range(0, 8000, 40), time_base=Fraction(1, 1000), options={"preset": "ultrafast"},
        picture=lambda n: noise_frame((64, 48), seed=n),
    )  # fmt: skip


def packets(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for p in container.demux() if p.size)


def test_whole_files(film: Path, samples: Path, tmp_path: Path) -> None:
    rich = write_rich(tmp_path / "r.mkv", font=True, cover=True)
    program = write_program(tmp_path / "p.mkv", chapters=[(0, 1, "A")])
    for path in (film, rich, program):
        assert structure(str(path)).lost == 0
    assert structure(str(film)).blocks == packets(film) == 200
    assert structure(str(program)).blocks == packets(program)


def test_a_stream_without_sizes(tmp_path: Path) -> None:
    """As it is written to a pipe: every size is unknown, and the end is where the file ends."""
    options = {"live": "1"}
    with (
        (tmp_path / "live.mkv").open("wb") as file,
        av.open(file, "w", format="matroska", options=options) as container,
    ):
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(100):
            frame = noise_frame((64, 48), seed=n)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = structure(str(tmp_path / "live.mkv"))
    assert (found.lost, found.blocks) == (0, 100)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_counts_what_is_gone(film: Path, part: float) -> None:
    whole = film.read_bytes()
    film.write_bytes(whole[: int(len(whole) * part)])
    assert len(whole) - int(len(whole) * part) <= structure(str(film)).lost


@pytest.mark.parametrize("size", [1, 50, 3000])
@pytest.mark.parametrize("damage", ["zero", "removed", "inserted"])
def test_holes(film: Path, damage: str, size: int) -> None:
    """In the middle of a block, zeros change only the picture; else the structure breaks."""
    whole = film.read_bytes()
    at = whole.index(b"\x1f\x43\xb6\x75", len(whole) // 2)  # a cluster
    rest = {"zero": bytes(size) + whole[at + size :], "removed": whole[at + size :],
            "inserted": bytes(size) + whole[at:]}  # fmt: skip
    film.write_bytes(whole[:at] + rest[damage])
    found = structure(str(film))
    assert found.lost > 0
    assert found.blocks >= 200 * 0.4


def test_padding_behind_the_segment_is_no_damage(film: Path) -> None:
    film.write_bytes(film.read_bytes() + bytes(5000))
    assert structure(str(film)).lost == 0


def test_anything_at_all(tmp_path: Path) -> None:
    for content in (
        b"",
        b"\x1a",
        b"\0" * 100,
        b"\xff" * 100,
        b"\x1a\x45\xdf\xa3" * 30,
        bytes(range(256)) * 9,
    ):
        (tmp_path / "x").write_bytes(content)
        assert structure(str(tmp_path / "x")).lost <= len(content)
