"""What happens to each stream is decided and told before any work."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from rich_clip import TIMES, passage, video_times, write_rich

from upscale.errors import UsageError
from upscale.media.input.hdr import HdrMetadata
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
        "sample_rate": 48000,
        "channels": 2,
        "width": 64,
        "height": 48,
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


def test_time_code_and_chapter_tracks_are_written_again(film: MediaInfo) -> None:
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


@pytest.mark.parametrize(
    ("pix_fmt", "words"),
    [
        ("yuv420p10le", "10-bit 4:2:0"),
        ("yuv422p", "8-bit 4:2:2"),
        ("yuv444p", "8-bit 4:4:4"),
        ("yuv420p", None),
    ],
)
def test_h264_that_few_devices_play_is_said(film: MediaInfo, pix_fmt: str, words: str | None) -> None:
    """Exactness is the default; Hi10P, 4:2:2 and 4:4:4 stop many phones and players."""
    found = make_plan(film, "out.mkv", Options(), (128, 96), pix_fmt)
    assert found.encoder.pix_fmt == pix_fmt
    advice = [w for w in found.warnings if "H.264" in w]
    assert bool(advice) == (words is not None)
    if words is not None:
        assert advice == [
            f"{words} H.264, which many phones, browsers and televisions do not play: --compatible writes "
            "8-bit 4:2:0 in MP4"
        ]
    asked = make_plan(film, "out.mkv", Options(pix_fmt=pix_fmt), (128, 96), pix_fmt)
    other = make_plan(film, "out.mkv", Options(codec="ffv1"), (128, 96), pix_fmt)
    assert asked.warnings == other.warnings == []


def test_compatible(film: MediaInfo) -> None:
    film = with_stream(film, kind="audio", codec="ac3", sample_rate=48000, channels=6)
    found = make_plan(film, "out.mp4", Options(compatible=True), (128, 96), "yuv444p10le")
    assert (found.container, found.encoder.codec, found.encoder.pix_fmt) == ("mp4", "libx264", "yuv420p")
    assert found.muxer_options == {"movflags": "+faststart"}
    assert [s.action for s in found.streams if s.kind == "audio"] == ["copy", "copy", "convert"]
    assert found.lost[:2] == [
        "10 bit depth (libx264 writes 8 bit)",
        "full chroma resolution (libx264 writes yuv420p)",
    ]
    assert "audio #6 ac3 → aac" in found.warnings[0]
    assert len(found.warnings) == 1
    hdr = plan(with_video(film, trc=16), "out.mp4", compatible=True)
    assert hdr.warnings[-1] == "HDR in 8 bit: screens and players without HDR show it pale"
    for options in ({"codec": "x264"}, {"pix_fmt": "yuv420p"}):
        assert plan(film, "out.mp4", compatible=True, **options).encoder.codec == "libx264"


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.mkv", {}, "--compatible writes MP4, not matroska: give the output a name in .mp4"),
        ("out.mp4", {"codec": "hevc"}, "--compatible writes libx264 in yuv420p"),
        ("out.mp4", {"pix_fmt": "yuv444p"}, "--compatible writes libx264 in yuv420p"),
    ],
)
def test_what_contradicts_compatible(
    film: MediaInfo, output: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan(film, output, compatible=True, **options)


def test_a_banner_that_becomes_huge(film: MediaInfo) -> None:
    """468x60 became 5616x720 without a word; who names a size means it."""
    banner = with_video(film, width=468, height=60)

    def warnings(**options: object) -> list[str]:
        return make_plan(banner, "out.mkv", Options(**options), (5616, 720), "yuv420p").warnings  # type: ignore[arg-type]

    message = "468x60 becomes 5616x720, 12.0 times as large: --scale 2 makes it smaller"
    assert warnings() == [message]
    assert warnings(scale=12.0) == warnings(target="720p") == warnings(height=720) == []
    small = with_video(film, width=320, height=180)
    assert make_plan(small, "out.mkv", Options(), (1280, 720), "yuv420p").warnings == []


def test_a_second_video_is_named(film: MediaInfo) -> None:
    """Also that a transport stream's programmes come into one."""
    two = with_stream(film, kind="video", codec="h264", duration=10.0)
    assert plan(two, "out.mkv").warnings == ["copied, not upscaled: video #6 (h264)"]
    found = plan(replaced(two, format="mpegts"), "out.ts")
    assert "the division into programmes" in found.lost
    assert "copied, not upscaled: video #6 (h264)" in found.warnings[0]


def test_half_of_the_mastering_display_is_named(film: MediaInfo) -> None:
    """HDR10 with luminance only was dropped unnamed: no encoder takes it without primaries."""
    luminance = HdrMetadata(min_luminance=Fraction(1, 10000), max_luminance=Fraction(1000))
    found = plan(with_video(film, hdr=luminance), "out.mkv")
    assert found.lost == ["the HDR10 mastering display (encoders take only primaries with luminance)"]
    with_light = HdrMetadata(max_luminance=Fraction(1000), max_cll=5)
    found = plan(with_video(film, hdr=with_light), "out.mkv")
    assert found.encoder.options["x264-params"].endswith("cll=5,0")
    assert len(found.lost) == 1


@pytest.mark.parametrize("name", ["mp4", "mov", "3gp"])
def test_the_index_of_the_mov_family_is_in_front(film: MediaInfo, name: str, tmp_path: Path) -> None:
    """Files for the web play while they are downloaded; fragments and pipes have no index."""
    source = write_rich(tmp_path / "in.mkv")
    passage(source, tmp_path / f"out.{name}")
    data = (tmp_path / f"out.{name}").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    fragments = plan(film, "-", container="fmp4").muxer_options["movflags"]
    assert "faststart" not in fragments
    assert "delay_moov" in fragments


def test_fragments_keep_the_offset_between_sound_and_picture(tmp_path: Path) -> None:
    """Without `delay_moov` there is no edit list: the picture came 0.2 s early, and the check failed."""
    source = write_rich(tmp_path / "in.mkv", subtitle=None)
    passage(source, tmp_path / "out.mp4", Options(container="fmp4"))
    assert [t for t, _ in video_times(tmp_path / "out.mp4")] == [Fraction(t, 1000) for t in TIMES]


@pytest.mark.parametrize(
    ("kind", "codec", "unknown"),
    [("audio", "speex", "channels"), ("audio", "aac", "sample_rate"), ("video", "flv1", "width")],
)
def test_streams_that_only_a_header_promises(film: MediaInfo, kind: str, codec: str, unknown: str) -> None:
    """An FLV with odd tags gave a Matroska header with two streams too many, which readers refuse."""
    found = plan(with_stream(film, kind=kind, codec=codec, **{unknown: None}), "out.mkv")
    assert found.streams[6].action == "drop"
    assert found.lost == [f"{kind} #6 ({codec}): nothing of it can be read"]
