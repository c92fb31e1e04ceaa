"""A finished file with something missing is not given its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich_clip import TIMES, write_pcm, write_rich

from upscale.errors import OutputError
from upscale.media.output.verify import Written, read_back, verify


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_rich(tmp_path / "film.mkv", font=True)


def written(film: Path, container: str = "matroska") -> list[Written]:
    found = read_back(str(film), container)
    for entry in found:
        entry.main = entry.kind == "video"
        entry.exact = "packets" if entry.kind == "audio" else None
        entry.packets = entry.packets or 1  # attachments have none to read
    return found


def test_what_was_written_is_accepted(film: Path) -> None:
    counts = written(film)
    assert [c.packets for c in counts if c.main] == [len(TIMES)]
    assert [c.kind for c in counts] == ["video", "audio", "audio", "subtitle", "attachment"]
    verify(str(film), "matroska", counts, 0.002)


def test_missing_frame(film: Path) -> None:
    counts = written(film)
    counts[0].packets += 1
    with pytest.raises(OutputError, match=f"{len(TIMES)} frames, not the {len(TIMES) + 1}"):
        verify(str(film), "matroska", counts, 0.002)


def test_missing_audio_packet(film: Path) -> None:
    counts = written(film)
    counts[1].packets += 1
    with pytest.raises(OutputError, match="audio packets"):
        verify(str(film), "matroska", counts, 0.002)


@pytest.mark.parametrize("kind", ["audio", "subtitle", "attachment", "cover"])
def test_missing_stream(film: Path, kind: str) -> None:
    counts = [*written(film), Written(kind, packets=1)]
    with pytest.raises(OutputError, match=f"{kind} streams"):
        verify(str(film), "matroska", counts, 0.002)


@pytest.mark.parametrize("kind", ["video", "audio", "subtitle", "attachment"])
def test_stream_that_was_not_planned(film: Path, kind: str) -> None:
    """An FLV with odd tags gave a Matroska header with two streams too many, which nobody looked for."""
    counts = written(film)
    gone = next(c for c in reversed(counts) if c.kind == kind)
    counts.remove(gone)
    present = sum(c.kind == kind for c in counts) + 1
    with pytest.raises(OutputError, match=f"holds {present} {kind} streams, but {present - 1} were planned"):
        verify(str(film), "matroska", counts, 0.002)


def test_planned_streams_without_packets_are_no_loss(film: Path) -> None:
    verify(str(film), "matroska", [*written(film), Written("subtitle")], 0.002)


def test_missing_bytes_of_pcm(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "film.mov")
    counts = written(path, "mov")
    counts[1].exact = "size"
    counts[1].packets += 5  # MOV cuts PCM as it likes
    verify(str(path), "mov", counts, 0.002)
    counts[1].size += 4
    with pytest.raises(OutputError, match=r"holds \d+ bytes of audio, not the \d+ written"):
        verify(str(path), "mov", counts, 0.002)


def test_wrong_length(film: Path) -> None:
    counts = written(film)
    assert counts[0].last is not None
    counts[0].last += 0.05
    with pytest.raises(OutputError, match=r"lasts 0\.740 s, not the 0\.790 s"):
        verify(str(film), "matroska", counts, 0.002)
    verify(str(film), "matroska", counts, None)


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    with pytest.raises(OutputError, match="cannot be read back"):
        verify(str(path), "mp4", [], 0.002)
