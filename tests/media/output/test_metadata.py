"""Tags: those of the film stay, those of the old file go."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from rich_clip import passage, write_rich

from upscale.media.output.metadata import container_tags, language_for, needs_custom_tags, stream_tags


def test_tags_of_the_old_file_go() -> None:
    tags = {"title": "A", "ENCODER": "x", "major_brand": "isom", "hasVideo": "true", "my.own": "b"}
    assert container_tags(tags) == {"title": "A", "my.own": "b"}


def test_title_of_a_track() -> None:
    """mp4 reads it as 'name' and drops it under that name; a real title wins."""
    assert stream_tags({"name": "x"}, "mp4", encoded=False) == {"title": "x"}
    assert stream_tags({"name": "x", "title": "y"}, "matroska", encoded=False) == {"title": "y"}


def test_statistics_go_only_with_their_packets() -> None:
    tags = {"BPS": "1", "NUMBER_OF_FRAMES": "2", "DURATION": "3", "ENCODER": "e", "note": "n"}
    assert stream_tags(tags, "matroska", encoded=True) == {"note": "n"}
    assert "BPS" in stream_tags(tags, "matroska", encoded=False)
    assert "DURATION" not in stream_tags(tags, "matroska", encoded=False)


def test_default_handlers_stay_in_their_family() -> None:
    tags = {"handler_name": "VideoHandler", "vendor_id": "[0][0][0][0]"}
    assert stream_tags(tags, "matroska", encoded=True) == {}
    assert stream_tags(tags, "mp4", encoded=True) == tags
    assert stream_tags({"handler_name": "Mine"}, "matroska", encoded=True) == {"handler_name": "Mine"}


def test_languages_of_quicktime() -> None:
    """mov has a table of its own; a code outside it would be written as undetermined."""
    assert language_for("mov", "fre") == "fra"
    assert language_for("mov", "zul") is None
    assert language_for("mp4", "zul") == "zul"


def test_when_custom_tags_are_needed() -> None:
    assert needs_custom_tags("mp4", {"com.android.version": "12"})
    assert not needs_custom_tags("mp4", {"title": "x", "creation_time": "y"})
    assert not needs_custom_tags("matroska", {"com.android.version": "12"})


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
def test_custom_tags_come_through_once(tmp_path: Path, target: str) -> None:
    """Neither lost (without use_metadata_tags) nor doubled (creation_time with it)."""
    plain = write_rich(tmp_path / "plain.mkv", audio=(), subtitle=None)
    tags = {"title": "T", "com.android.version": "12", "creation_time": "2020-01-02T03:04:05.000000Z"}
    source = tmp_path / "in.mp4"
    with (
        av.open(str(plain)) as old,
        av.open(str(source), "w", container_options={"movflags": "use_metadata_tags"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        new.metadata.update(tags)
        for packet in old.demux(video=0):
            if packet.size:
                packet.dts = None if packet.dts is None else packet.dts
                packet.stream = stream
                new.mux(packet)
    out = tmp_path / f"out.{target}"
    passage(source, out)
    with av.open(str(out)) as container:
        found = {k.lower(): v for k, v in container.metadata.items()}
    assert {k: found.get(k) for k in tags} == tags


@pytest.mark.parametrize("place", ["film", "stream", "chapter"])
@pytest.mark.parametrize("target", ["mkv", "mp4"])
def test_tags_that_are_not_utf_8_keep_their_bytes(place: str, target: str, tmp_path: Path) -> None:
    """Old AVI files name their films in Latin-1. PyAV's strict decoding refused the whole file.

    Found by the coverage-guided fuzzer.
    """
    source = write_rich(tmp_path / "in.mkv", subtitle=None)
    word = {"film": b"A Film", "stream": b"track 0", "chapter": b"Zwei"}[place]
    data = source.read_bytes()
    assert data.count(word) == 1
    source.write_bytes(data.replace(word, b"\xe9" + word[1:]))
    passage(source, tmp_path / f"out.{target}")
    assert b"\xe9" + word[1:] in (tmp_path / f"out.{target}").read_bytes()
