"""FFmpeg's log is heard only while somebody listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import av.logging
import pytest
from conftest import MakeClip

from upscale import Options, probe, upscale_file
from upscale.media.input.log import ffmpeg_log


def heard() -> bool:
    """Whether a message of FFmpeg gets to PyAV, which takes Python's lock for it."""
    before = av.logging.get_last_error()[0]
    av.logging.log(av.logging.ERROR, "test", "a message")
    return bool(av.logging.get_last_error()[0] > before)


@pytest.fixture
def own_level() -> Iterator[None]:
    yield
    av.logging.set_level(None)


def test_nothing_is_heard_after_a_job(tmp_path: Path, make_clip: MakeClip) -> None:
    """Guards: a log that stayed on made a freed decoder and its threads wait for each other for ever."""
    clip = make_clip(tmp_path / "in.mp4")
    probe(str(clip))
    assert not heard()
    upscale_file(
        str(clip), str(tmp_path / "o.mp4"), Options(model="lanczos", encoder_options={"tune": "grain"})
    )
    assert not heard()


def test_blocks_nest() -> None:
    with ffmpeg_log(av.logging.ERROR):
        assert heard()
        with ffmpeg_log(av.logging.INFO):
            assert heard()
        assert heard()
    assert not heard()
    with ffmpeg_log(av.logging.ERROR):
        assert heard()
    assert not heard()


@pytest.mark.usefixtures("own_level")
def test_what_the_user_had_set_comes_back() -> None:
    av.logging.set_level(av.logging.WARNING)
    with ffmpeg_log(av.logging.ERROR):
        pass
    assert av.logging.get_level() == av.logging.WARNING
    assert heard()
