"""HDR10+ goes with its frame into the HEVC packet, bit for bit, whatever it uses of the standard."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from rich_clip import HDR10_PLUS, passage, write_with_sei

from upscale.media.input import sidedata
from upscale.media.output.hdr10_plus import insert, to_t35
from upscale.options import Options


def message(*fields: tuple[int, int]) -> bytes:
    """T.35 data of (value, bits)."""
    text = "".join(f"{value:0{count}b}" for value, count in fields)
    text += "0" * (-len(text) % 8)
    return b"\xb5\x00\x3c\x00\x01\x04" + int(text, 2).to_bytes(len(text) // 8, "big")


WINDOW = [(n, 17) for n in (91_000, 45_000, 77, 12_345)] + [(3, 4)] + [
    (v, b) for p, q in ((1, 700), (50, 20_000), (99, 99_000)) for v, b in ((p, 7), (q, 17))
] + [(313, 10)]  # fmt: skip
CURVE = [(1, 1), (2046, 12), (511, 12), (4, 4), *((n, 10) for n in (1, 200, 512, 1023)), (1, 1), (13, 6)]
MESSAGES = {
    "everything optional left out": HDR10_PLUS,
    "a curve": message((1, 8), (1, 2), (400, 27), (0, 1), *WINDOW, (0, 1), *CURVE),
    "two windows and tables of peaks": message(
        (1, 8), (2, 2),
        *((n, 16) for n in (10, 20, 300, 200, 150, 100)), (45, 8), *((n, 16) for n in (10, 20, 15)), (1, 1),
        (1000, 27), (1, 1), (2, 5), (3, 5), *((n, 4) for n in range(6)),
        *WINDOW, *WINDOW,
        (1, 1), (3, 5), (2, 5), *((15 - n, 4) for n in range(6)),
        *CURVE, (0, 1), (0, 1),
    ),
}  # fmt: skip


def messages(path: Path) -> list[bytes | None]:
    with av.open(str(path)) as container:
        found = [sidedata.read(f).get("DYNAMIC_HDR_PLUS") for f in container.decode(video=0)]
    return [None if data is None else to_t35(data) for data in found]


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("output", ["out.mkv", "out.mp4", "out.ts"])
def test_it_comes_through_x265(name: str, output: str, tmp_path: Path) -> None:
    """With B-frames, whose packets come in another order than their frames."""
    source = write_with_sei(tmp_path / "in.mkv", MESSAGES[name], "libx265")
    wanted = MESSAGES[name].rstrip(b"\0")
    assert {m.rstrip(b"\0") for m in messages(source) if m is not None} == {wanted}
    plan, _ = passage(source, tmp_path / output, Options(codec="libx265"), (128, 128))
    assert plan.lost == []
    found = messages(tmp_path / output)
    assert len(found) == 10
    assert {None if m is None else m.rstrip(b"\0") for m in found} == {wanted}


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_other_encoders_have_no_place_for_it(codec: str, tmp_path: Path) -> None:
    source = write_with_sei(tmp_path / "in.mkv", HDR10_PLUS, "libx265")
    plan, _ = passage(source, tmp_path / "out.mkv", Options(codec=codec), (128, 128))
    assert plan.lost == ["the HDR10+ metadata (libx265 can keep it)"]


def test_structures_of_another_ffmpeg_are_not_guessed() -> None:
    assert to_t35(bytes(100)) is None
    assert to_t35(bytes(11304)) is None


def test_the_message_stands_before_the_first_slice() -> None:
    """Behind parameter sets, with emulation prevention (H.265, 7.4.2)."""
    sets, slice_ = b"\0\0\0\1\x40\x01vps", b"\0\0\1\x26\x01slice"
    marked = insert(sets + slice_, b"\xb5\0\0\0\2")
    assert marked == sets + b"\0\0\0\1\x4e\x01\x04\x05\xb5\0\0\3\0\2\x80" + slice_
    assert insert(sets, b"x") == sets
    long = insert(slice_, bytes(range(1, 256)) * 2)
    assert b"\x4e\x01\x04\xff\xff\x00\x01\x02" in long
