"""What happens to each stream is decided and told before any work."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from rich_clip import write_rich

from upscale.errors import UsageError
from upscale.media.input.probe import MediaInfo, StreamInfo, VideoInfo, probe
from upscale.media.output.plan import Plan, make_plan
from upscale.options import Options


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    return probe(str(write_rich(tmp_path_factory.mktemp("plan") / "in.mkv", font=True, cover=True)))


def plan(info: MediaInfo, output: str, **options: object) -> Plan:
    return make_plan(info, output, Options(**options), (128, 96), "yuv420p")  # type: ignore[arg-type]


def with_stream(info: MediaInfo, **fields: object) -> MediaInfo:
    """The film with one stream more."""
    defaults: dict[str, object] = {
        "index": len(info.streams),
        "metadata": {},
        "language": None,
        "title": None,
        "disposition": 0,
        "time_base": Fraction(1, 1000),
        "start": 0.0,
        "duration": 1.0,
        "is_cover": False,
        "bit_rate": None,
    }
    return replaced(info, streams=(*info.streams, StreamInfo(**{**defaults, **fields})))  # type: ignore[arg-type]


def replaced(info: MediaInfo, **changes: object) -> MediaInfo:
    import dataclasses

    return dataclasses.replace(info, **changes)  # type: ignore[arg-type]


def with_video(info: MediaInfo, **changes: object) -> MediaInfo:
    import dataclasses

    assert isinstance(info.video, VideoInfo)
    return replaced(info, video=dataclasses.replace(info.video, **changes))  # type: ignore[arg-type]


def actions(found: Plan) -> list[tuple[str, str]]:
    return [(s.kind, s.action) for s in found.streams]


def test_matroska_keeps_everything(film: MediaInfo) -> None:
    found = plan(film, "out.mkv")
    assert found.container == "matroska"
    assert found.warnings == found.lost == []
    assert actions(found) == [
        ("video", "encode"),
        ("audio", "copy"),
        ("audio", "copy"),
        ("subtitle", "copy"),
        ("attachment", "attach"),
        ("video", "attach"),
    ]
    assert (found.encoder.codec, found.encoder.pix_fmt) == ("libx264", "yuv420p")
    assert found.encoder.time_base == Fraction(1, 1000)


def test_mp4_converts_subtitles_silently_and_names_the_font(film: MediaInfo) -> None:
    """srt → mov_text keeps the meaning; an attachment has no place in mp4."""
    found = plan(film, "out.mp4")
    assert found.streams[3].action == "convert"
    assert found.streams[3].to_codec == "mov_text"
    assert found.lost == ["attachment a font.ttf"]
    assert found.warnings == ["will not be in the output: attachment a font.ttf"]


def test_webm_converts_audio_and_names_it_in_the_one_warning(film: MediaInfo) -> None:
    found = plan(film, "out.webm")
    assert found.encoder.codec == "libvpx-vp9"
    assert [s.to_codec for s in found.by_action("convert")] == ["libopus", "libopus", "webvtt"]
    assert len(found.warnings) == 1
    assert "audio #1 aac → opus" in found.warnings[0]
    assert "the cover picture" in found.warnings[0]


def test_styling_lost_in_a_conversion_is_named(film: MediaInfo) -> None:
    found = plan(with_stream(film, kind="subtitle", codec="ass"), "out.mp4")
    assert "subtitle #6 ass → mov_text (styling and positions are lost)" in found.warnings[0]


def test_picture_subtitles_have_no_place_in_mp4(film: MediaInfo) -> None:
    found = plan(with_stream(film, kind="subtitle", codec="hdmv_pgs_subtitle", language="ger"), "out.mp4")
    assert "subtitle #6 (hdmv_pgs_subtitle, ger)" in found.lost


def test_mpegts_takes_only_what_can_be_read_back(film: MediaInfo) -> None:
    """The muxer accepts anything and writes private data."""
    found = plan(with_stream(film, kind="audio", codec="flac"), "out.ts")
    assert found.streams[6].to_codec == "aac"
    assert "subtitle #3 (subrip, swe)" in found.lost
    assert "2 chapters" in found.lost


def test_unknown_codecs_are_named(film: MediaInfo) -> None:
    found = plan(with_stream(film, kind="audio", codec=None), "out.mkv")
    assert found.lost == ["audio #6 (unknown codec)"]


def test_time_code_and_chapter_tracks_are_made_anew(film: MediaInfo) -> None:
    """Copying them breaks the header; the mov muxer writes its own."""
    info = with_stream(film, kind="data", codec=None, metadata={"timecode": "01:00:00:00"})
    info = with_stream(info, kind="data", codec="bin_data", metadata={"handler_name": "SubtitleHandler"})
    info = with_stream(info, kind="data", codec="klv")
    found = plan(info, "out.mkv")
    assert [s.action for s in found.streams[6:]] == ["drop"] * 3
    assert found.lost == ["data #8 (klv)"]


def test_left_out_as_asked_is_no_loss(film: MediaInfo) -> None:
    found = plan(film, "out.mkv", audio=False, subtitles=False)
    assert found.lost == []
    assert [s.action for s in found.streams[1:4]] == ["drop"] * 3


def test_rotation(film: MediaInfo) -> None:
    matrix = (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    turned = with_video(film, display_matrix=matrix, rotation=90)
    assert plan(turned, "out.mp4").display_matrix == matrix
    lost = plan(turned, "out.avi")
    assert lost.display_matrix is None
    assert "the rotation by 90°" in lost.lost


def test_bit_depth_that_is_lost_is_named(film: MediaInfo) -> None:
    found = make_plan(film, "out.mkv", Options(codec="mpeg4"), (128, 96), "yuv444p10le")
    assert found.lost == [
        "10 bit depth (mpeg4 writes 8 bit)",
        "full chroma resolution (mpeg4 writes yuv420p)",
    ]
    asked = make_plan(film, "out.mkv", Options(codec="libx264", pix_fmt="yuv420p"), (128, 96), "yuv444p10le")
    assert asked.lost == []


def test_hevc_in_mp4_has_the_tag_that_apple_plays(film: MediaInfo) -> None:
    assert plan(film, "out.mp4", codec="libx265").encoder.codec_tag == "hvc1"
    assert plan(film, "out.mkv", codec="libx265").encoder.codec_tag is None


def test_sample_aspect_ratio_keeps_the_display_aspect(film: MediaInfo) -> None:
    wide = with_video(film, sar=Fraction(4, 3), sar_set=True)
    assert plan(wide, "out.mkv").sar == Fraction(4, 3)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.xyz", {}, "unknown output extension"),
        ("-", {"container": "mp4"}, "needs a seekable file"),
        ("out.mkv", {"codec": "libx246"}, "unknown video encoder"),
        ("out.mkv", {"preset": "warp"}, "no preset 'warp'"),
        ("out.mkv", {"pix_fmt": "nope"}, "no pixel format 'nope'"),
        ("out.mkv", {"encoder_options": {"bogus": "1"}}, "no option 'bogus'"),
        ("out.mp4", {"codec": "prores_ks"}, "mp4 cannot hold prores_ks"),
    ],
)
def test_refusals_write_nothing(
    film: MediaInfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    options: dict[str, object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        plan(film, output, **options)
    assert list(tmp_path.iterdir()) == []


def test_size_that_the_encoder_refuses(film: MediaInfo) -> None:
    """libx264 needs even sides for 4:2:0: said before the work, not at the first frame."""
    with pytest.raises(UsageError, match="libx264 refuses these settings at 63x65"):
        make_plan(film, "out.mkv", Options(), (63, 65), "yuv420p")
