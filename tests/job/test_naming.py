"""Default output names and times on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscale import UsageError
from upscale.job.naming import default_output, resolve_output
from upscale.options import Options


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (Options(), "clip_720p.mp4"),
        (Options(target="1440p"), "clip_1440p.mp4"),
        (Options(scale=2), "clip_2x.mp4"),
        (Options(scale=1.5), "clip_1.5x.mp4"),
        (Options(width=1280), "clip_w1280.mp4"),
        (Options(height=720), "clip_h720.mp4"),
        (Options(width=1280, height=720), "clip_1280x720.mp4"),
        (Options(container="matroska"), "clip_720p.mkv"),
    ],
)
def test_the_suffix_follows_the_target(options: Options, name: str) -> None:
    assert default_output("/videos/clip.mp4", options) == (f"/videos/{name}", None)


@pytest.mark.parametrize(
    ("source", "name"),
    [("a.gif", "a_720p.mp4"), ("a.FLV", "a_720p.mp4"), ("a.wmv", "a_720p.mkv"), ("a.ogv", "a_720p.mkv")],
)
def test_formats_that_do_not_fit_the_result_are_changed_and_named(source: str, name: str) -> None:
    path, note = default_output(source, Options())
    assert path == name
    assert note is not None
    assert name.rpartition(".")[2] in note


def test_an_extension_in_capitals_and_dots_in_the_name_stay() -> None:
    assert default_output("my.holiday.2024.MP4", Options()) == ("my.holiday.2024_720p.MP4", None)


@pytest.mark.parametrize("source", ["clip.mkv", "clip.mp4", "clip.webm", "clip"])
def test_what_every_player_plays_is_mp4(source: str) -> None:
    assert default_output(source, Options(compatible=True)) == ("clip_720p.mp4", None)


def test_a_name_without_extension_becomes_matroska() -> None:
    assert default_output("clip", Options()) == ("clip_720p.mkv", None)


def test_a_directory_as_output_takes_the_default_name(tmp_path: Path) -> None:
    assert resolve_output("x/clip.mkv", str(tmp_path), Options())[0] == str(tmp_path / "clip_720p.mkv")


def test_stdin_needs_a_named_output() -> None:
    with pytest.raises(UsageError, match="name an output"):
        resolve_output("-", None, Options())
    assert resolve_output("-", "-", Options()) == ("-", None)
