"""AVI: empty chunks are counted from the index (`upscale.media.input.avi`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_video

from upscale.media.input.avi import empty_chunks


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Frames at 0, 2, 3 and 7 of a constant rate: four chunks are empty."""
    return write_video(tmp_path / "x.avi", [0, 2, 3, 7], codec="mpeg4")


def test_chunks_of_one_stream(capture: Path) -> None:
    assert empty_chunks(str(capture), 0) == 4
    assert empty_chunks(str(capture), 1) == 0


def test_without_a_whole_index_nothing_is_known(capture: Path) -> None:
    data = capture.read_bytes()
    at = data.index(b"idx1")
    for cut in (data[:at], data[: at + 5], data[:-1], b"RIFF", b"", data[4:]):
        capture.write_bytes(cut)
        assert empty_chunks(str(capture), 0) is None
