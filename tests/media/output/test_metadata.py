"""Tags: those of the film stay, those of the old file go."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest
from rich_clip import passage, write_rich

from upscale.media.output.formats import CONTAINERS
from upscale.media.output.metadata import (
    container_tags,
    language_for,
    lost_file_tags,
    needs_custom_tags,
    stream_tags,
)
from upscale.options import Options


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
    if target != "mkv":  # FFmpeg 9 joins the times of MP4's header and of its keys
        assert set(found["creation_time"].split(";")) == {tags["creation_time"]}
        found["creation_time"] = tags["creation_time"]
    assert {k: found.get(k) for k in tags} == tags


@pytest.mark.parametrize("place", ["film", "stream", "chapter"])
@pytest.mark.parametrize("target", ["mkv", "mp4", "avi"])
def test_tags_that_are_not_utf_8_are_converted_and_named(place: str, target: str, tmp_path: Path) -> None:
    """Old AVI, MOV and MP3 files write Latin-1; Matroska must hold UTF-8 (RFC 8794, section 7.5).

    PyAV's strict decoding refused the whole file (found by the coverage-guided fuzzer).
    """
    source = write_rich(tmp_path / "in.mkv", subtitle=None)
    word = {"film": b"A Film", "stream": b"track 0", "chapter": b"Zwei"}[place]
    data = source.read_bytes()
    assert data.count(word) == 1
    source.write_bytes(data.replace(word, b"\xe9" + word[1:]))
    plan, _ = passage(source, tmp_path / f"out.{target}")
    written = (tmp_path / f"out.{target}").read_bytes()
    assert b"\xe9" + word[1:] not in written
    if (place, target) != ("chapter", "avi"):
        assert "é".encode() + word[1:] in written
    assert plan.warnings[0].endswith("the tags title, which are not UTF-8, read as Windows-1252")


#: A tag of every kind: of those that some container knows by name, and of nobody's.
FILE_TAGS = {
    "title": "A Film", "artist": "Somebody", "comment": "a=b; c", "description": "what", "date": "2001-02-03",
    "genre": "Drama", "copyright": "(c)", "album": "An Album", "encoded_by": "me", "track": "3", "show": "Sh",
    "composer": "Co", "publisher": "Pu", "language": "eng", "creation_time": "2020-01-02T03:04:05.000000Z",
    "MY_TAG": "custom",
}  # fmt: skip
#: Names under which some containers give tags back.
SYNONYMS = {"product": "album", "location-eng": "location"}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def tag(video: av.VideoStream) -> None:
        video.metadata.update(language="fin", MY_STREAM_TAG="custom")
        video.container.metadata.update(FILE_TAGS)

    return write_rich(tmp_path_factory.mktemp("tags") / "in.mkv", audio=("aac",), prepare=tag)


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_every_tag_comes_back_or_is_named(name: str, tagged: Path, tmp_path: Path) -> None:
    """ "Or named in one warning" was broken by containers that drop tags, titles and languages silently."""
    out = tmp_path / "out"
    plan, _ = passage(tagged, out, Options(container=name))
    assert len(plan.warnings) <= 1
    assert not plan.lost or "will not be in the output" in plan.warnings[0]
    named = [
        word.lower()
        for entry in plan.lost
        if re.match("the tags? ", entry) and " of " not in entry
        for word in re.findall(r"\w+", entry)
    ]
    with av.open(str(out)) as container:
        found = {SYNONYMS.get(k.lower(), k.lower()): v for k, v in container.metadata.items()}
        if name == "ogg":
            assert "the file's tags → tags of each stream" in plan.warnings[0]
            found |= {k.lower(): v for k, v in container.streams.video[0].metadata.items()}
        if name in ("ogg", "asf"):
            found["description"] = found["comment"]  # FFmpeg reads both into one
        for key, value in FILE_TAGS.items():
            if (name, key) == ("asf", "creation_time"):
                continue  # named: FFmpeg 8 does not read it back, 9 does
            kept = value in found.get(key.lower(), "")
            assert kept == (key.lower() not in named), (key, found.get(key.lower()))
        for stream in container.streams:
            written = [s for s in plan.streams if s.action in ("encode", "copy", "convert")]
            if stream.index >= len(written):
                continue  # the mov family's chapter track
            entry = written[stream.index]
            place = f"{entry.kind} #{entry.index}"
            old = {"video": "fin", "audio": "ger", "subtitle": "swe"}[entry.kind]
            lost_language = f"the language {old} of {place}" in plan.lost
            assert (stream.metadata.get("language") in (old, "sve")) != lost_language
            title = {"video": "picture", "audio": "track 0", "subtitle": "ord"}[entry.kind]
            lost_title = any(w.startswith("the title") and place in w for w in plan.lost)
            read = stream.metadata.get("title") or stream.metadata.get("name")
            assert (read == title) != lost_title
            if entry.kind == "video":
                lost_tag = f"the tag MY_STREAM_TAG of {place}" in plan.lost
                assert (stream.metadata.get("MY_STREAM_TAG") == "custom") != lost_tag


def test_what_asf_keeps_in_one_place(tagged: Path) -> None:
    assert lost_file_tags(CONTAINERS["asf"], ["title", "comment"]) == []
    assert lost_file_tags(CONTAINERS["asf"], ["comment", "description"]) == ["comment"]
