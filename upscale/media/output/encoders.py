"""Video encoders: our defaults with their reasons, and the choice of encoder settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from upscale.media.output.formats import Container, find_codec

_X26X_PRESETS = tuple("ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderDefaults:
    """What we set for one encoder, and how the common options reach it.

    Attributes:
        crf: default constant quality, or None if the encoder has no such thing or needs none.
        crf_option: private option that `--crf` sets; "qscale" is FFmpeg's global quality.
        crf_range: valid values, both ends included.
        preset: default preset, None for the encoder's own.
        preset_option: private option that `--preset` sets; None if there are no presets.
        presets: valid presets; empty lets the option's own descriptor decide.
        options: further options that are set unless the user sets them.
        reason: why these values.
    """

    crf: float | None = None
    crf_option: str | None = None
    crf_range: tuple[float, float] = (0, 51)
    preset: str | None = None
    preset_option: str | None = None
    presets: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def summary(self) -> str:
        """Human-readable: "CRF 19, preset veryfast: 720p on 2 cores …"."""
        crf = f"{'quantiser' if self.crf_option == 'qscale' else 'CRF'} {self.crf:g}" if self.crf else None
        preset = f"{self.preset_option} {self.preset}" if self.preset else None
        values = ", ".join(filter(None, (crf, preset)))
        return ": ".join(filter(None, (values, self.reason)))


_QSCALE = EncoderDefaults(
    crf=3,
    crf_option="qscale",
    crf_range=(1, 31),
    reason="quantiser 2-4 is visually transparent for the MPEG-1 to MPEG-4 and JPEG families",
)
_NVENC = EncoderDefaults(
    crf=23,
    crf_option="cq",
    preset="p4",
    preset_option="preset",
    options={"rc": "vbr", "b": "0"},
    reason="constant quality; p4 is the driver's balanced preset and far faster than real time",
)
_QSV = EncoderDefaults(
    crf=23,
    crf_option="global_quality",
    preset_option="preset",
    reason="ICQ, the constant-quality mode of Quick Sync",
)

_X264 = EncoderDefaults(
    crf=19,
    crf_option="crf",
    preset="veryfast",
    preset_option="preset",
    presets=_X26X_PRESETS,
    reason="720p on 2 cores: veryfast takes 22 ms of CPU a frame (superfast 12 for a tenth more bits at"
    " the same PSNR, faster 35) and leaves room for the network at 25-30 fps. CRF 19, not x264's 23: the"
    " input was compressed once already, and 2.9 Mb/s at 45.4 dB is cheap enough",
)
_RAW = EncoderDefaults(reason="raw frames")

#: By FFmpeg's encoder name. Encoders that are not listed run with FFmpeg's own defaults.
ENCODERS = {
    "libx264": _X264,
    "libx264rgb": _X264,
    "libx265": replace(
        _X264,
        crf=20,
        preset="superfast",
        options={"x265-params": "log-level=error", "a53cc": "1"},  # closed captions stay
        reason="720p on 2 cores: superfast takes 76 ms of CPU a frame (veryfast 87, ultrafast 38), the best"
        " near real time; CRF 20 gives 45.1 dB at 1.7 Mb/s, 60 % of libx264's default",
    ),
    "libsvtav1": EncoderDefaults(
        crf=28,
        crf_option="crf",
        crf_range=(1, 63),
        preset="8",
        preset_option="preset",
        presets=tuple(str(p) for p in range(-2, 14)),
        reason="720p on 2 cores: preset 8 takes 25 ms of CPU a frame (9: 17, 7: 44), as much as libx264's"
        " default; CRF 28 gives 45.0 dB at 1.5 Mb/s, half of its bits",
    ),
    "libvpx-vp9": EncoderDefaults(
        crf=28,
        crf_option="crf",
        crf_range=(0, 63),
        preset="7",
        preset_option="cpu-used",
        presets=tuple(str(p) for p in range(-8, 9)),
        options={"deadline": "realtime", "row-mt": "1", "tile-columns": "2", "b": "0", "g": "240"},
        reason="720p on 2 cores: speed 7 takes 21 ms of CPU a frame (6: 22, 8: 19); CRF 28 gives 45.5 dB at"
        " 2.1 Mb/s; row threads use both cores; b=0 makes CRF the only control",
    ),
    "libvpx": EncoderDefaults(
        crf=10,
        crf_option="crf",
        crf_range=(4, 63),
        preset="5",
        preset_option="cpu-used",
        presets=tuple(str(p) for p in range(-16, 17)),
        options={"deadline": "realtime", "b": "8M"},
        reason="VP8 has no pure constant quality: b is the ceiling that CRF works under",
    ),
    "prores_ks": EncoderDefaults(
        preset="hq",
        preset_option="profile",
        presets=("proxy", "lt", "standard", "hq", "4444", "4444xq"),
        reason="ProRes has profiles instead of CRF and preset; hq is what editors ask for",
    ),
    "ffv1": EncoderDefaults(
        options={"level": "3", "slices": "16", "slicecrc": "1", "g": "1"},
        reason="lossless; version 3 with slices runs on all cores and carries checksums",
    ),
    "wrapped_avframe": _RAW,
    "rawvideo": _RAW,
    "gif": EncoderDefaults(reason="256 colours, no settings"),
    **dict.fromkeys(("mpeg4", "mpeg2video", "mpeg1video", "msmpeg4", "wmv2", "mjpeg"), _QSCALE),
    **dict.fromkeys(("h264_nvenc", "hevc_nvenc", "av1_nvenc"), _NVENC),
    **dict.fromkeys(("h264_qsv", "hevc_qsv", "av1_qsv"), _QSV),
}

#: Names of codecs, as they are typed, → the usual encoder for them.
ALIASES = {
    **dict.fromkeys(("h264", "h.264", "x264", "avc"), "libx264"),
    **dict.fromkeys(("h265", "h.265", "x265", "hevc"), "libx265"),
    **dict.fromkeys(("av1", "svtav1", "svt-av1"), "libsvtav1"),
    "vp9": "libvpx-vp9",
    "vp8": "libvpx",
    "prores": "prores_ks",
    "mpeg2": "mpeg2video",
}

#: The usual encoders, best first: what error messages and `--list` name.
COMMON = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "ffv1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """One fully decided encoder.

    Attributes:
        codec: encoder name ("libx264").
        codec_id: name of the codec that it writes ("h264").
        pix_fmt: format of the frames that it is given.
        options: private and generic options, as strings.
        qscale: fixed quantiser, or None.
        time_base: of the encoder; the source's unless the encoder cannot have that one.
        rate: nominal frame rate (container headers, rate control), not used for timing.
        limited: full-range frames are converted to limited range, because neither codec nor container
            can say that they are full.
        codec_tag: four characters, or None for the muxer's own.
    """

    codec: str
    codec_id: str
    pix_fmt: str
    options: dict[str, str]
    qscale: float | None
    time_base: Fraction
    rate: Fraction
    codec_tag: str | None = None
    limited: bool = False


def default_codec(container: Container, bit_depth: int = 8) -> str:
    """The encoder used when the user names none.

    webm gets AV1 for more than 8 bit: the VP9 encoder in the PyAV wheels writes 8 bit only.
    """
    if container.name == "webm" and bit_depth > 8:
        return "libsvtav1"
    return container.default_encoder


def available_encoders() -> list[str]:
    """Names of all video encoders of this PyAV, sorted; hardware ones whether or not they would run."""
    from av.codec import codecs_available

    found = {name: find_codec(name, "w") for name in codecs_available}
    return sorted(n for n, codec in found.items() if codec and codec.type == "video" and codec.name == n)


def time_base_candidates(source: Fraction, rate: Fraction, *, constant: bool = False) -> Iterable[Fraction]:
    """Encoder time bases in order of preference: exact ticks, then as fine as 16 bit allow, then 1/rate.

    `constant` is for containers that count frames: they fill every unused tick with an empty packet.
    MPEG-4 part 2 stores 16-bit denominators; MPEG-1/2 count whole frames of a standard rate.
    """
    if constant:
        yield 1 / rate
    yield source
    if source.denominator > 65535:
        factor = 65535 // rate.numerator
        if factor >= 1:
            yield 1 / (rate * factor)
        yield Fraction(1, 30000)
    yield 1 / rate
