"""Encoder settings are refused before the first frame, with the names that would have worked."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import pytest

from upscale.errors import OutputError, UsageError
from upscale.media.output.encoder_check import (
    choose_pix_fmt,
    configure,
    encoder_settings,
    find_encoder,
    open_encoder_trial,
)
from upscale.media.output.encoders import (
    COMMON,
    ENCODERS,
    EncoderChoice,
    available_encoders,
    default_codec,
    time_base_candidates,
)
from upscale.media.output.formats import CONTAINERS
from upscale.options import Options

MKV = CONTAINERS["matroska"]


def choice(name: str, options: Options | None = None, **changes: object) -> EncoderChoice:
    codec = av.Codec(name, "w")
    settings, qscale = encoder_settings(codec, options or Options())
    fields: dict[str, object] = {
        "codec": name,
        "codec_id": codec.canonical_name,
        "pix_fmt": choose_pix_fmt(codec, "yuv420p", None),
        "options": settings,
        "qscale": qscale,
        "time_base": Fraction(1, 25),
        "rate": Fraction(25),
    }
    return EncoderChoice(**{**fields, **changes})  # type: ignore[arg-type]


def test_unknown_encoder_suggests_and_lists() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*libx264.*libsvtav1"):
        find_encoder("libx246", MKV)
    with pytest.raises(UsageError, match="unknown video encoder 'aac'"):
        find_encoder("aac", MKV)


@pytest.mark.parametrize(
    ("typed", "encoder"),
    [("h265", "libx265"), ("x264", "libx264"), ("hevc", "libx265"), ("H264", "libx264"), ("av1", "libsvtav1"),
     ("vp9", "libvpx-vp9"), ("prores", "prores_ks"), ("libx264rgb", "libx264rgb")],
)  # fmt: skip
def test_names_of_codecs_mean_their_usual_encoders(typed: str, encoder: str) -> None:
    """`-c:v h265` and `-c:v x264` are what people type."""
    assert find_encoder(typed, MKV).name == encoder


def test_messages_need_no_encoder_that_this_ffmpeg_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An FFmpeg without x265 or SVT-AV1: the error message raised while it listed them."""
    real = av.Codec

    def built(name: str, mode: str = "r") -> av.Codec:
        if mode == "w" and name in ("libx265", "libsvtav1", "libvpx-vp9"):
            raise av.codec.codec.UnknownCodecError(name)
        return real(name, mode)

    monkeypatch.setattr("av.codec.Codec", built)
    with pytest.raises(UsageError, match=r"webm cannot hold libx264 video; it can hold libvpx-vp9$"):
        find_encoder("libx264", CONTAINERS["webm"])
    with pytest.raises(UsageError, match="mp4 cannot hold ffvhuff video; it can hold libx264, ffv1"):
        find_encoder("ffvhuff", CONTAINERS["mp4"])
    for missing in ("libx265", "hevc"):
        with pytest.raises(UsageError, match=f"unknown video encoder '{missing}'.*ones: libx264, prores_ks"):
            find_encoder(missing, MKV)
    assert "libsvtav1" not in available_encoders()


def test_encoder_that_the_container_cannot_hold() -> None:
    with pytest.raises(UsageError, match="webm cannot hold libx264 video; it can hold libsvtav1, libvpx-vp9"):
        find_encoder("libx264", CONTAINERS["webm"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("libx264", Options(preset="fastt"), "no preset 'fastt'; it has ultrafast.*placebo"),
        ("libsvtav1", Options(preset="fast"), "no preset 'fast'; it has -2, "),
        ("libvpx-vp9", Options(preset="9"), "no preset '9'"),
        ("prores_ks", Options(preset="hqx"), "proxy, lt, standard, hq, 4444"),
        ("ffv1", Options(preset="fast"), "ffv1 has no presets"),
        ("ffv1", Options(crf=20), "ffv1 has no constant quality"),
        ("libx264", Options(crf=52), "crf 52 is out of range: libx264 takes 0 to 51"),
        ("libx264", Options(crf=-1), "out of range"),
        ("mpeg4", Options(crf=0.5), "mpeg4 takes 1 to 31"),
        ("libx264", Options(encoder_options={"crff": "3"}), "no option 'crff'; did you mean .*crf"),
        ("h264_nvenc", Options(preset="p9"), "h264_nvenc has no preset 'p9'; it has .*p7"),
        ("libx264", Options(encoder_options={"time_base": "1/7"}), "set by upscale itself"),
    ],
)
def test_wrong_names_and_values(name: str, options: Options, message: str) -> None:
    """FFmpeg silently ignores misspelt options."""
    with pytest.raises(UsageError, match=message):
        encoder_settings(av.Codec(name, "w"), options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("libx264", {"tune": "nonsense"}, "tune"),
        ("libx264", {"aq-mode": "banana"}, "aq-mode"),
        ("libsvtav1", {"qp": "99"}, "qp"),
    ],
)
def test_wrong_values_are_found_by_the_trial(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=f"{name} refuses these settings at 64x64.*{message}"):
        open_encoder_trial(choice(name, Options(encoder_options=options)), (64, 64), Fraction(1, 25))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("libx264", {"x264-params": "bframe=2"}, "Error parsing option 'bframe = 2'"),
        ("libx265", {"x265-params": "aqmode=1"}, "Unknown option: aqmode"),
        ("libsvtav1", {"svtav1-params": "tunes=0"}, "Error parsing option tunes: 0"),
    ],
)
def test_misspelt_parameters_inside_lists(name: str, options: dict[str, str], message: str) -> None:
    """FFmpeg only logs them and continues without."""
    with pytest.raises(UsageError, match=message):
        open_encoder_trial(choice(name, Options(encoder_options=options)), (64, 64), Fraction(1, 25))


def test_pixel_format_that_the_encoder_has_not() -> None:
    with pytest.raises(
        UsageError, match="libsvtav1 has no pixel format 'yuv444p'; it has yuv420p, yuv420p10le"
    ):
        choose_pix_fmt(av.Codec("libsvtav1", "w"), "yuv420p", "yuv444p")
    with pytest.raises(UsageError, match="unknown pixel format"):
        choose_pix_fmt(av.Codec("rawvideo", "w"), "yuv420p", "yuv421q")


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuv420p10le", "yuv420p10le"),
        ("libx264", "yuv422p12le", "yuv422p10le"),
        ("libx264", "yuv444p", "yuv444p"),
        ("libx265", "yuv420p12le", "yuv420p12le"),
        ("libsvtav1", "yuv444p10le", "yuv420p10le"),
        ("prores_ks", "yuv420p", "yuv422p10le"),
        ("mpeg4", "yuv444p10le", "yuv420p"),
        ("ffv1", "yuv420p14le", "yuv420p14le"),
        ("h264_nvenc", "yuv420p", "yuv420p"),
    ],
)
def test_nearest_pixel_format(name: str, source: str, expected: str) -> None:
    assert choose_pix_fmt(av.Codec(name, "w"), source, None) == expected


def test_user_options_win_and_parameter_lists_are_joined() -> None:
    codec = av.Codec("libx265", "w")
    options = Options(crf=30, preset="slow", encoder_options={"x265-params": "aq-mode=2", "g": "48"})
    settings, _ = encoder_settings(codec, options, {"x265-params": "hdr10=1"})
    assert settings == {
        "x265-params": "log-level=error:hdr10=1:aq-mode=2",
        "a53cc": "1",
        "preset": "slow",
        "crf": "30",
        "g": "48",
    }


def test_bit_rate_replaces_our_constant_quality() -> None:
    codec = av.Codec("libx264", "w")
    settings, _ = encoder_settings(codec, Options(encoder_options={"b": "2M"}))
    assert "crf" not in settings
    assert settings["b"] == "2M"


def test_quantiser_families_get_a_quality_flag() -> None:
    context = av.CodecContext.create("mpeg4", "w")
    configure(context, choice("mpeg4", Options(crf=5)), (64, 64))
    assert context.qscale
    assert context.global_quality == 5 * 118


@pytest.mark.parametrize("name", sorted(ENCODERS.keys() & set(available_encoders())))
def test_every_default_is_accepted_by_its_encoder(name: str) -> None:
    """Names in the table are checked against the encoder's own descriptors, hardware ones too."""
    codec = av.Codec(name, "w")
    settings, _ = encoder_settings(codec, Options())
    descriptors = av.CodecContext.create(name, "w").supported_options
    known = {o.name for o in (*descriptors.private, *descriptors.generic)}
    assert set(settings) <= known
    if not name.endswith(("_nvenc", "_qsv")):
        source = "rgb24" if name in ("libx264rgb", "gif") else "yuv420p"
        if name == "mjpeg":
            settings["strict"] = "unofficial"
        ready = replace(choice(name), pix_fmt=choose_pix_fmt(codec, source, None), options=settings)
        open_encoder_trial(ready, (64, 64), Fraction(1, 25))


def test_common_encoders_have_a_reason() -> None:
    assert all(ENCODERS[name].reason for name in COMMON)
    assert ENCODERS["libx264"].summary.startswith("CRF 19, preset veryfast: 720p on 2 cores")
    assert ENCODERS["mpeg4"].summary.startswith("quantiser 3: ")
    assert ENCODERS["ffv1"].summary.startswith("lossless")


def test_hardware_encoder_without_hardware() -> None:
    """A clear answer instead of a failure at the first frame (skipped where it runs)."""
    message = ""
    try:
        open_encoder_trial(choice("h264_nvenc"), (256, 256), Fraction(1, 25))
    except OutputError as error:
        message = str(error)
    if not message:
        pytest.skip("this machine has the hardware")
    assert message.startswith("h264_nvenc does not run on this machine: ")


def test_time_base_stays_the_source_where_possible() -> None:
    found = open_encoder_trial(choice("libx264"), (64, 64), Fraction(1, 90000))
    assert found.time_base == Fraction(1, 90000)


def test_mpeg4_gets_the_finest_time_base_it_can_store() -> None:
    """Its denominators are 16 bit: 1/90000 is refused."""
    rate = Fraction(30000, 1001)
    found = open_encoder_trial(choice("mpeg4", rate=rate), (64, 64), Fraction(1, 90000))
    assert found.time_base == Fraction(1001, 60000)
    assert list(time_base_candidates(Fraction(1, 1000), rate)) == [Fraction(1, 1000), Fraction(1001, 30000)]


def test_containers_of_constant_rate_count_frames() -> None:
    """avi fills every unused tick with an empty packet: 1/30000 would be 1000 of them a frame."""
    found = open_encoder_trial(choice("mpeg4"), (64, 64), Fraction(1, 30000), constant=True)
    assert found.time_base == Fraction(1, 25)


def test_mpeg2_counts_frames_of_a_standard_rate() -> None:
    found = open_encoder_trial(choice("mpeg2video"), (64, 64), Fraction(1, 1000))
    assert found.time_base == Fraction(1, 25)


def test_x264_threads_work_on_frames() -> None:
    """PyAV presets slices, which cost quality: x264 would cut each picture for its threads."""
    context = av.CodecContext.create("libx264", "w")
    configure(context, choice("libx264"), (64, 64))
    assert context.thread_type.name == "AUTO"


def test_default_codec() -> None:
    assert default_codec(MKV) == "libx264"
    assert default_codec(CONTAINERS["webm"]) == "libvpx-vp9"
    assert default_codec(CONTAINERS["webm"], 10) == "libsvtav1"


def test_x264_looks_ahead_in_a_thread_of_its_own() -> None:
    """Regression: sync-lookahead=0, to save 20 MB on few cores, made the thread that encodes do the
    look-ahead: jobs took 30 to 45 % longer than the same encoder in plain threads."""
    assert "x264-params" not in choice("libx264").options
    given = Options(encoder_options={"x264-params": "bframes=2:sync-lookahead=0"})
    assert choice("libx264", given).options["x264-params"] == "bframes=2:sync-lookahead=0"
