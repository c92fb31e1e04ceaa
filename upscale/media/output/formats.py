"""What each output container can hold, and which container a file name asks for.

The codec sets were found by muxing and re-reading each pair, not by asking FFmpeg: several muxers
accept codecs that nothing can read back afterwards (mpegts writes them as private data, ogg and
mpeg without any header), and some refuse only when the first packet arrives.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from upscale.errors import UsageError

if TYPE_CHECKING:
    from av.codec import Codec

STDOUT = "-"

_PCM = ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8")
_PCM_MOV = (*_PCM, "pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_f64le", "pcm_f64be")
#: Audio encoders that are used for lossless sources only.
LOSSLESS_ENCODERS = frozenset({"flac", "alac"})
_TS_AUDIO = frozenset({"aac", "ac3", "eac3", "mp2", "mp3", "opus", "dts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Abilities of one muxer.

    Attributes:
        name: FFmpeg's name of the muxer.
        video, audio, subtitles: FFmpeg *codec* names (not encoder names) that survive a round trip.
        text_subtitle: codec that text subtitles are converted to, or None.
        audio_rates: sample rates of those audio codecs that are not held at any.
        audio_encoders: encoders for audio that must be converted, best first; a lossless one is
            used for lossless sources only.
        default_encoder: video encoder when the user names none.
        tags: lower-case names of the file's tags that come back on reading; None for all of them.
        titles: titles of streams come back.
        stream_tags: further tags of streams come back.
        languages: kinds of streams whose language comes back.
        attachments, chapters, rotation, sar: kept or lost.
        cover: "packet" (a video stream with attached_pic), "attachment" or None.
        tick: time base that the muxer forces on every stream, or None if it takes the encoder's.
        pipe: can be written to a pipe as it is.
        vfr: holds a time stamp for every frame; the others count frames of a constant rate.
        b_frames: stores both times of a packet; without, B-frames come back shifted.
        colour: stores the colour description of any codec.
        options: muxer options that are always right. Matroska keeps negative times (the priming of
            AAC) instead of moving everything by them.
    """

    name: str
    video: frozenset[str]
    audio: frozenset[str] = frozenset()
    audio_rates: dict[str, tuple[int, ...]] = field(default_factory=dict)
    subtitles: frozenset[str] = frozenset()
    text_subtitle: str | None = None
    audio_encoders: tuple[str, ...] = ()
    default_encoder: str = "libx264"
    tags: frozenset[str] | None = None
    titles: bool = True
    stream_tags: bool = True
    languages: frozenset[str] = frozenset({"video", "audio", "subtitle"})
    attachments: bool = False
    chapters: bool = False
    rotation: bool = False
    sar: bool = True
    cover: str | None = None
    tick: Fraction | None = None
    pipe: bool = False
    vfr: bool = True
    b_frames: bool = True
    colour: bool = False
    options: dict[str, str] = field(default_factory=dict)


#: Arguments of containers without any tag.
_TAGLESS: dict[str, Any] = {
    "tags": frozenset(),
    "titles": False,
    "stream_tags": False,
    "languages": frozenset(),
}

_MP4 = Container(
    name="mp4",
    video=frozenset("h264 hevc vvc av1 vp9 mpeg1video mpeg2video mpeg4 ffv1 mjpeg png".split()),
    # no PCM: it has a place there, but few players sound it
    audio=frozenset("aac ac3 eac3 mp3 mp2 opus vorbis flac alac dts".split()),
    subtitles=frozenset({"mov_text", "dvd_subtitle"}),
    text_subtitle="mov_text",
    audio_encoders=("alac", "aac"),
    stream_tags=False,
    chapters=True,
    rotation=True,
    cover="packet",
    colour=True,
    # faststart: the index goes to the front, so that the file plays while it is downloaded
    options={"movflags": "+faststart"},
)

_3GP = replace(
    _MP4,
    name="3gp",
    video=frozenset({"h264", "mpeg4", "h263"}),
    audio=frozenset({"aac", "amr_nb", "amr_wb"}),
    subtitles=frozenset({"mov_text"}),
    audio_encoders=("aac",),
    tags=frozenset({"creation_time", "location", "location-eng"}),  # FFmpeg misreads 3GPP's own titles
    titles=False,
    cover=None,
    chapters=False,
)

_MATROSKA_AUDIO = frozenset(
    ("aac ac3 eac3 mp3 mp2 opus vorbis flac alac dts truehd mlp tta wavpack " + " ".join(_PCM)).split()
)

_CONTAINERS = (
    _MP4,
    replace(
        _MP4,
        name="mov",
        video=frozenset(
            "h264 hevc mpeg1video mpeg2video mpeg4 mjpeg png prores dnxhd h263 qtrle rawvideo".split()
        ),
        audio=frozenset(
            ("aac ac3 eac3 mp3 mp2 alac pcm_mulaw pcm_alaw amr_nb amr_wb " + " ".join(_PCM_MOV)).split()
        ),
        subtitles=frozenset({"mov_text"}),
        cover=None,  # the muxer takes one and writes nothing
    ),
    _3GP,
    replace(_3GP, name="3g2"),
    Container(
        name="matroska",
        video=frozenset(
            "h264 hevc vvc av1 vp8 vp9 mpeg1video mpeg2video mpeg4 theora mjpeg ffv1 prores".split()
        ),
        audio=_MATROSKA_AUDIO,
        subtitles=frozenset("subrip ass webvtt dvb_subtitle dvd_subtitle hdmv_pgs_subtitle text".split()),
        text_subtitle="subrip",
        audio_encoders=("flac", "aac"),
        attachments=True,
        colour=True,
        chapters=True,
        rotation=True,
        cover="attachment",
        tick=Fraction(1, 1000),
        pipe=True,
        options={"avoid_negative_ts": "disabled"},
    ),
    Container(
        name="webm",
        video=frozenset({"vp8", "vp9", "av1"}),
        audio=frozenset({"opus", "vorbis"}),
        subtitles=frozenset({"webvtt"}),
        text_subtitle="webvtt",
        audio_encoders=("libopus",),
        default_encoder="libvpx-vp9",
        colour=True,
        chapters=True,
        rotation=True,
        tick=Fraction(1, 1000),
        pipe=True,
        options={"avoid_negative_ts": "disabled"},
    ),
    Container(
        name="avi",
        b_frames=False,
        video=frozenset(
            "h264 mpeg1video mpeg2video mpeg4 mjpeg ffv1 huffyuv utvideo wmv2 msmpeg4v3 rawvideo".split()
        ),
        audio=frozenset(
            {"mp3", "mp2", "ac3", "wmav2", "pcm_s16le", "pcm_s24le", "pcm_u8", "pcm_mulaw", "pcm_alaw"}
        ),
        audio_encoders=("pcm_s16le",),
        default_encoder="mpeg4",  # avi keeps no presentation times, so H.264 is read back with a shift
        vfr=False,
        tags=frozenset(
            "artist comment copyright date genre language title album track encoded_by software".split()
        ),
        stream_tags=False,
        languages=frozenset(),
    ),
    Container(
        name="mpegts",
        video=frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}),
        audio=_TS_AUDIO,
        subtitles=frozenset({"dvb_subtitle", "dvb_teletext"}),
        audio_encoders=("aac",),
        tick=Fraction(1, 90000),
        pipe=True,
        **{**_TAGLESS, "languages": frozenset({"audio", "subtitle"})},
    ),
    Container(
        name="nut",  # no subtitles: it stores no durations
        video=frozenset(
            "h264 hevc av1 vp8 vp9 mpeg1video mpeg2video mpeg4 theora mjpeg ffv1 rawvideo".split()
        ),
        audio=frozenset(("aac ac3 eac3 mp3 mp2 opus vorbis flac dts " + " ".join(_PCM)).split()),
        audio_encoders=("flac", "aac"),
        chapters=True,
        pipe=True,
    ),
    Container(
        name="flv",
        video=frozenset({"h264", "flv1", "hevc", "av1", "vp9"}),
        audio=frozenset({"aac", "mp3", "speex", "nellymoser"}),
        audio_rates={"mp3": (48000, 44100, 22050, 11025)},
        audio_encoders=("aac",),
        titles=False,
        stream_tags=False,
        languages=frozenset(),
        tick=Fraction(1, 1000),
        pipe=True,
    ),
    Container(
        name="ogg",
        video=frozenset({"theora", "vp8"}),
        audio=frozenset({"opus", "vorbis", "flac", "speex"}),
        audio_encoders=("flac", "libopus"),
        default_encoder="libvpx",
        pipe=True,
        vfr=False,
    ),
    Container(
        name="asf",
        default_encoder="wmv2",  # H.264 is read back with a shift of one frame
        b_frames=False,
        video=frozenset({"wmv2", "wmv1", "msmpeg4v3", "mpeg4", "mjpeg"}),
        audio=frozenset({"wmav1", "wmav2", "mp3", "aac", "ac3", "pcm_s16le"}),
        audio_encoders=("aac",),
        titles=False,
        stream_tags=False,
        tick=Fraction(1, 1000),
    ),
    Container(
        name="mpeg",
        video=frozenset({"mpeg1video", "mpeg2video", "h264"}),
        audio=frozenset({"mp2", "mp3", "ac3"}),
        audio_encoders=("mp2",),
        default_encoder="mpeg2video",
        vfr=False,
        **_TAGLESS,
        tick=Fraction(1, 90000),
    ),
    Container(
        name="mxf",
        video=frozenset({"mpeg2video", "h264", "prores", "dnxhd", "ffv1", "jpeg2000"}),
        audio=frozenset({"pcm_s16le", "pcm_s24le"}),
        audio_rates={"pcm_s16le": (48000,), "pcm_s24le": (48000,)},
        audio_encoders=("pcm_s16le",),
        vfr=False,
        **_TAGLESS,
    ),
    Container(
        name="yuv4mpegpipe",
        video=frozenset({"wrapped_avframe", "rawvideo"}),
        default_encoder="wrapped_avframe",
        **_TAGLESS,
        pipe=True,
        vfr=False,
        options={"strict": "-1"},  # more than 8 bit is an extension that mpv, x264 and FFmpeg read
    ),
    Container(
        name="gif",
        tick=Fraction(1, 100),
        video=frozenset({"gif"}),
        default_encoder="gif",
        **_TAGLESS,
        sar=False,
        pipe=True,
    ),
)

#: By muxer name; "fmp4" is mp4 cut into fragments, which a pipe can take.
CONTAINERS = {c.name: c for c in _CONTAINERS}
CONTAINERS["fmp4"] = replace(
    _MP4, pipe=True, options={"movflags": "+frag_keyframe+empty_moov+delay_moov+default_base_moof"}
)

_EXTENSIONS_OF = {
    "mp4": "mp4 m4v f4v",
    "mov": "mov qt",
    "3gp": "3gp",
    "3g2": "3g2",
    "matroska": "mkv",
    "webm": "webm",
    "avi": "avi",
    "mpegts": "ts mts m2t m2ts",
    "nut": "nut",
    "flv": "flv",
    "ogg": "ogv ogg",
    "asf": "wmv asf",
    "mpeg": "mpg mpeg",
    "mxf": "mxf",
    "yuv4mpegpipe": "y4m",
    "gif": "gif",
}

#: File name extension → muxer name.
EXTENSIONS = {extension: name for name, them in _EXTENSIONS_OF.items() for extension in them.split()}

#: Other names for `--container`.
_ALIASES = {"mkv": "matroska", "ts": "mpegts", "ogv": "ogg", "y4m": "yuv4mpegpipe", "wmv": "asf"}


def container_for(output: str, name: str | None = None) -> Container:
    """The container of an output.

    Args:
        output: file name, or "-" for standard output (matroska unless `name` says otherwise).
        name: muxer name or common extension given by the user, or None.

    Raises:
        UsageError: unknown name or extension (the message lists the known ones), or a container
            that needs a seekable file on standard output.
    """
    if name is not None:
        found = CONTAINERS.get(_ALIASES.get(name, name))
        if found is None:
            raise UsageError(f"unknown container {name!r}; known: {', '.join(sorted(CONTAINERS))}")
    elif output == STDOUT:
        found = CONTAINERS["matroska"]
    else:
        extension = os.path.splitext(output)[1].lower().lstrip(".")
        if extension not in EXTENSIONS:
            what = f"extension '.{extension}'" if extension else "container: the output has no extension"
            known = ", ".join("." + e for e in EXTENSIONS)
            raise UsageError(f"unknown output {what}; known: {known}; or name one with --container")
        found = CONTAINERS[EXTENSIONS[extension]]
    if output == STDOUT and not found.pipe:
        pipes = ", ".join(name for name, c in CONTAINERS.items() if c.pipe and name != "fmp4")
        raise UsageError(
            f"{found.name} needs a seekable file; standard output takes {pipes}; fmp4 is mp4 in fragments"
        )
    return found


def muxer_options(container: Container, output: str) -> dict[str, str]:
    """Options for the muxer that depend on the name as well: blu-ray packets for `.m2ts`."""
    options = dict(container.options)
    if container.name == "mpegts" and output.lower().endswith((".m2ts", ".mts")):
        options["mpegts_m2ts_mode"] = "1"
    return options


def find_codec(name: str, mode: Literal["r", "w"]) -> Codec | None:
    """FFmpeg's decoder ("r") or encoder ("w") of this name; None if this PyAV has none."""
    from av.codec import Codec

    try:
        return Codec(name, mode)
    except Exception:  # unknown name or no such half: PyAV has several classes for this by version
        return None


def canonical(codec: str | None) -> str | None:
    """FFmpeg's codec name for a codec or decoder name: "dca" → "dts", "libdav1d" → "av1"."""
    found = None if codec is None else find_codec(codec, "r")
    return codec if found is None else str(found.canonical_name)
