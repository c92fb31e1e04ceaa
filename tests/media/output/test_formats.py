"""File names and containers; the codec tables hold what they claim."""

from __future__ import annotations

import av
import pytest

from upscale.errors import UsageError
from upscale.media.output.formats import CONTAINERS, EXTENSIONS, canonical, container_for, muxer_options


@pytest.mark.parametrize(
    ("name", "muxer"),
    [("a.mp4", "mp4"), ("A.MKV", "matroska"), ("x.y.webm", "webm"), ("b.m2ts", "mpegts"), ("-", "matroska")],
)
def test_container_by_name(name: str, muxer: str) -> None:
    assert container_for(name).name == muxer


def test_container_by_option_wins() -> None:
    assert container_for("a.mp4", "nut").name == "nut"
    assert container_for("noextension", "mkv").name == "matroska"


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.png"])
def test_unknown_extension_lists_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.mkv.*--container"):
        container_for(name)


def test_unknown_container_lists_the_known() -> None:
    with pytest.raises(UsageError, match="matroska"):
        container_for("a.mp4", "divx")


def test_plain_mp4_cannot_go_to_a_pipe() -> None:
    with pytest.raises(UsageError, match="needs a seekable file"):
        container_for("-", "mp4")
    assert "frag_keyframe" in container_for("-", "fmp4").options["movflags"]


def test_bluray_packets_for_m2ts() -> None:
    """The muxer sees the temporary name, so it cannot tell by the extension."""
    assert muxer_options(CONTAINERS["mpegts"], "a.M2TS")["mpegts_m2ts_mode"] == "1"
    assert "mpegts_m2ts_mode" not in muxer_options(CONTAINERS["mpegts"], "a.ts")


def test_every_extension_has_a_container_that_this_ffmpeg_can_write() -> None:
    for muxer in EXTENSIONS.values():
        assert CONTAINERS[muxer].name in av.formats_available


def test_default_encoders_exist_and_fit_their_container() -> None:
    for container in CONTAINERS.values():
        codec = av.Codec(container.default_encoder, "w")
        assert codec.canonical_name in container.video


def test_conversion_targets_fit_their_container() -> None:
    for container in CONTAINERS.values():
        for encoder in container.audio_encoders:
            assert av.Codec(encoder, "w").canonical_name in container.audio
        if container.text_subtitle is not None:
            assert container.text_subtitle in container.subtitles


@pytest.mark.parametrize(
    ("name", "codec"),
    [("dca", "dts"), ("h264", "h264"), ("libdav1d", "av1"), ("mp3float", "mp3"), ("no such", "no such")],
)
def test_canonical_codec_names(name: str, codec: str) -> None:
    """Streams carry the name of their decoder, the tables the name of the codec."""
    assert canonical(name) == codec
