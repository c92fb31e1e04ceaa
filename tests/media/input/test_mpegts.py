"""Transport streams: lost packets are found by their numbers and by the sync byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_program

from upscale.media.input import mpegts
from upscale.media.input.mpegts import find_losses


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return write_program(tmp_path / "p.ts", seconds=2, subtitles=())


def counts(path: Path) -> tuple[int, int]:
    found = find_losses(str(path))
    return found.bytes, found.breaks


def test_a_whole_stream(program: Path) -> None:
    assert counts(program) == (0, 0)


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chunks_make_no_difference(program: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpegts, "_CHUNK", chunk)
    assert counts(program) == (0, 0)
    data = program.read_bytes()
    program.write_bytes(data[: 188 * 40] + data[188 * 43 :])
    assert counts(program)[0] == 0
    assert counts(program)[1] > 0


@pytest.mark.parametrize(("distance", "before", "behind"), [(192, 4, 0), (204, 0, 16)])
def test_other_layouts(program: Path, distance: int, before: int, behind: int) -> None:
    data = program.read_bytes()
    rows = [data[n : n + 188] for n in range(0, len(data), 188)]
    program.write_bytes(b"".join(b"\1" * before + row + b"\2" * behind for row in rows))
    assert counts(program) == (0, 0)
    program.write_bytes(b"".join(b"\1" * before + row + b"\2" * behind for row in rows[:60] + rows[63:]))
    assert counts(program)[1] > 0


def test_bytes_between_packets(program: Path) -> None:
    data = program.read_bytes()
    for junk in (b"x", b"x" * 100, bytes(100_000)):
        program.write_bytes(data[: 188 * 50] + junk + data[188 * 50 :])
        assert counts(program) == (len(junk), 0)


def test_overwritten_and_cut(program: Path) -> None:
    data = program.read_bytes()
    program.write_bytes(data[: 188 * 50] + bytes(188 * 4) + data[188 * 54 :])
    lost, breaks = counts(program)
    assert lost == 188 * 4
    assert breaks > 0
    program.write_bytes(data[: 188 * 50 + 100])
    assert counts(program) == (100, 0)


def test_few_good_packets_between_two_holes_are_found(program: Path) -> None:
    """Guards: 11 packets in a row were needed, because the search overwrote what it still had to read."""
    data = program.read_bytes()
    for between in (5, 6, 10):
        parts = data[: 188 * 50], b"x" * 350, data[188 * 50 : 188 * (50 + between)], b"x" * 350
        program.write_bytes(b"".join([*parts, data[188 * (50 + between) :]]))
        assert counts(program) == (700, 0)
    program.write_bytes(
        data[: 188 * 50] + b"x" * 350 + data[188 * 50 : 188 * 54] + b"x" * 350 + data[188 * 54 :]
    )
    assert counts(program)[0] == 700 + 4 * 188  # too few to be sure


def test_every_other_stretch_is_overwritten(program: Path) -> None:
    """Guards: of 2.7 MB with a hole in every 16 packets half was called lost, not a sixteenth."""
    data = bytearray(program.read_bytes() * 40)
    holes = range(8 * 188, len(data) - 188, 16 * 188)
    for at in holes:
        data[at : at + 188] = bytes(188)
    program.write_bytes(data)
    assert counts(program)[0] == 188 * len(holes)


@pytest.mark.parametrize("last", [1, 2, 4])
def test_the_last_packets_count_though_they_are_few(program: Path, last: int) -> None:
    data = program.read_bytes()
    program.write_bytes(data[: 188 * 50] + b"x" * 350 + data[-188 * last :])
    assert counts(program)[0] == 350


def test_before_the_first_packet(program: Path) -> None:
    """A recording may begin within a packet; more than that was overwritten."""
    data = program.read_bytes()
    program.write_bytes(data[100:])
    assert counts(program) == (0, 0)
    program.write_bytes(b"x" * 350 + data)
    assert counts(program) == (350, 0)


def test_nothing_but_damage_at_the_end(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpegts, "_CHUNK", 10)
    data = program.read_bytes()
    program.write_bytes(data[: 188 * 50] + b"x" * 300_000)
    assert counts(program) == (300_000, 0)


def test_marked_as_wrong_by_the_receiver(program: Path) -> None:
    data = bytearray(program.read_bytes())
    data[188 * 30 + 1] |= 0x80
    program.write_bytes(data)
    assert counts(program)[0] == 188


def test_announced_jumps_and_repeats_are_right(program: Path) -> None:
    """A splicer says so in the adaptation field; a packet may be sent twice."""
    data = program.read_bytes()
    rows = [bytearray(data[n : n + 188]) for n in range(0, len(data), 188)]
    at = next(n for n, row in enumerate(rows) if n > 20 and row[3] & 0x30 == 0x10)
    program.write_bytes(b"".join([*rows[: at + 1], rows[at], *rows[at + 1 :]]))
    assert counts(program) == (0, 0)


def test_anything_at_all(tmp_path: Path) -> None:
    for content in (b"", b"G", b"G" * 5000, bytes(5000), bytes(range(256)) * 30):
        (tmp_path / "x").write_bytes(content)
        find_losses(str(tmp_path / "x"))
