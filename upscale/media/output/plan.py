"""What happens to every stream of an input, decided and checked before any work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from av.video.reformatter import ColorRange

from upscale.errors import UsageError
from upscale.media.input import hdr
from upscale.media.output.encoder_check import (
    choose_pix_fmt,
    encoder_settings,
    find_encoder,
    open_encoder_trial,
)
from upscale.media.output.encoders import ALIASES, EncoderChoice, default_codec
from upscale.media.output.formats import (
    LOSSLESS_ENCODERS,
    Container,
    canonical,
    container_for,
    find_codec,
    muxer_options,
)
from upscale.media.output.hdr10_plus import to_t35
from upscale.media.output.losses import advice, conversion_loss, format_losses, lost_extras, tag_losses
from upscale.media.output.picture import UNSPECIFIED, is_identity, target_sar
from upscale.media.output.projection import model_header
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.media.input.probe import MediaInfo, StreamInfo, VideoInfo

#: Codecs that carry their colour description in their own stream.
_COLOUR_CODECS = frozenset({"h264", "hevc", "vvc", "av1", "vp9", "prores"})
#: Encoders whose output is known to be full range, or is told so by the container.
_FULL_CODECS = frozenset({"mjpeg", "wrapped_avframe", "rawvideo", "gif"})

_LOSSLESS_SOURCES = ("pcm_", "flac", "alac", "truehd", "mlp", "tta", "wavpack", "s302m")
#: Matroska's names of 3D arrangements that begin with the left view.
_LEFT_FIRST = frozenset(
    "left_right top_bottom block_lr checkerboard_lr row_interleaved_lr col_interleaved_lr".split()
)
#: Of these the 24 bits of ALAC and FLAC keep all that can be heard, but not every bit.
_BEYOND_24_BIT = frozenset(
    "pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_s64le pcm_s64be".split()
)
#: More than these are mixed down by a conversion.
_MOST_CHANNELS = 8
_TEXT_SUBTITLES = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text"})
#: What every player of H.264 plays.
_PLAYABLE = "yuv420p"


@dataclass(slots=True, kw_only=True)
class StreamPlan:
    """What happens to one input stream.

    Attributes:
        index: in the input.
        kind: "video", "audio", "subtitle", "data" or "attachment".
        codec: FFmpeg's codec name, None if unknown.
        action: "encode" (the upscaled video), "copy" (packets unchanged), "convert" (re-encoded
            into `to_codec`), "attach" (written with the header) or "drop".
        note: why, human-readable; None where there is nothing to say.
        to_codec: encoder of "encode" and "convert".
    """

    index: int
    kind: str
    codec: str | None
    action: str
    note: str | None = None
    to_codec: str | None = None


@dataclass(slots=True, kw_only=True)
class Plan:
    """The decisions for one output.

    Attributes:
        container: muxer name.
        streams: one entry per input stream, in input order.
        encoder: the video encoder with all settings, opened once to be sure.
        size: (width, height) of the output in stored pixels.
        sar: sample aspect ratio of the output, None to leave it unset.
        display_matrix: of the *input*; None if there is none or the container loses it.
        stereo_mode: tag that says how two views share the picture, where the container has a place for it.
        hdr10_plus: the frames' HDR10+ goes into the packets, see `hdr10_plus`.
        model: of `projection.model_header`, where the video's stream must be made from one.
        warnings: whole sentences to show before the work starts; `lost` is in the first one.
        lost: what the container or the encoder cannot hold, one noun phrase each.
        muxer_options: for the muxer.
    """

    container: str
    streams: list[StreamPlan]
    encoder: EncoderChoice
    size: tuple[int, int]
    sar: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    stereo_mode: str | None = None
    hdr10_plus: bool = False
    model: bytes | None = None
    warnings: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    muxer_options: dict[str, str] = field(default_factory=dict)

    def by_action(self, *actions: str) -> list[StreamPlan]:
        """The streams with one of these actions."""
        return [s for s in self.streams if s.action in actions]


def make_plan(
    info: MediaInfo, output: str, options: Options, size: tuple[int, int], frame_format: str
) -> Plan:
    """Decide everything about an output. Nothing is written.

    Args:
        info: the probed input.
        output: file name, or "-" for standard output.
        options: of the job.
        size: (width, height) of the output frames.
        frame_format: pixel format of the frames that will be encoded.

    Raises:
        UsageError: unknown container, encoder, preset, pixel format or option; a value out of
            range; an encoder that refuses the settings.
        OutputError: a hardware encoder that this machine does not have.
    """
    if info.video is None:
        raise ValueError("the input has no video stream")
    return _Planner(info, info.video, output, options).plan(size, frame_format)


class _Planner:
    """Decides one output; `lost` and `changed` collect what the one warning names."""

    def __init__(self, info: MediaInfo, video: VideoInfo, output: str, options: Options) -> None:
        self.info = info
        self.video = video
        self.output = output
        self.options = options
        self.container = container_for(output, options.container)
        if options.compatible:
            self.container = _compatible(self.container, options)
        self.lost: list[str] = []
        self.changed: list[str] = []
        self.copied: list[str] = []

    def plan(self, size: tuple[int, int], frame_format: str) -> Plan:
        video, container = self.video, self.container
        encoder = self._encoder(size, frame_format)
        stereo_mode, model, kept = self._extras(encoder, size)
        streams = [self._stream(s, encoder) for s in self.info.streams]
        sar = target_sar(video, size)
        if sar is not None and sar != 1 and not container.sar:
            self.lost.append(f"the sample aspect ratio {sar}")
        matrix = video.display_matrix
        if matrix is not None and is_identity(matrix):
            matrix = None
        if matrix is not None and not container.rotation:
            self.lost.append(f"the rotation by {video.rotation}°")
            matrix = None
        if self.info.chapters and not container.chapters:
            self.lost.append(f"{len(self.info.chapters)} chapters")
        written = [
            s
            for s, plan in zip(self.info.streams, streams, strict=True)
            if plan.action in ("encode", "copy", "convert") and not s.is_cover
        ]
        lost, changed = tag_losses(self.info, written, container)
        self.lost += lost
        self.changed += changed
        videos = [s for s in self.info.streams if s.kind == "video" and not s.is_cover]
        if self.info.format == "mpegts" and len(videos) > 1:
            self.lost.append("the division into programmes")
        return Plan(
            container=container.name,
            streams=streams,
            encoder=encoder,
            size=size,
            sar=sar,
            display_matrix=matrix,
            stereo_mode=stereo_mode,
            hdr10_plus="DYNAMIC_HDR_PLUS" in kept,
            model=model,
            warnings=self._warnings(encoder, size),
            lost=self.lost,
            muxer_options=muxer_options(container, self.output) | ({"strict": "unofficial"} if model else {}),
        )

    def _extras(
        self, encoder: EncoderChoice, size: tuple[int, int]
    ) -> tuple[str | None, bytes | None, set[str]]:
        """What frames carry besides their picture: `stereo_mode`, `model`, and kinds that are kept so."""
        video = self.video
        if video.dolby_vision == 5:
            raise UsageError(
                "Dolby Vision profile 5: its colours are wrong without Dolby's metadata, which no encoder "
                "here writes; convert it to HDR10 first"
            )
        in_tag = self.container.name in ("matroska", "webm")
        # a frame packing SEI, which libx264 always writes with the left view first
        in_stream = encoder.codec.startswith("libx264") and video.stereo_mode in _LEFT_FIRST
        stereo = None if in_tag or in_stream else video.stereo_mode
        model = None
        if video.spherical is not None:
            model = model_header(encoder.codec, self.container.name, size, video.spherical)
        kept = {"SPHERICAL"} if model else set()
        if encoder.codec == "libx265" and video.hdr10_plus is not None and to_t35(video.hdr10_plus):
            kept.add("DYNAMIC_HDR_PLUS")
        self.lost.extend(lost_extras(video.side_data - kept, encoder))
        if stereo is not None:
            self.lost.append(f"the 3D arrangement {stereo}")
        return video.stereo_mode if in_tag else None, model, kept

    def _warnings(self, encoder: EncoderChoice, size: tuple[int, int]) -> list[str]:
        """One sentence for everything that is not as it was; then advice."""
        parts = []
        if self.lost:
            parts.append("will not be in the output: " + ", ".join(self.lost))
        if self.changed:
            parts.append(f"converted for {self.container.name}: " + ", ".join(self.changed))
        if self.copied:
            parts.append(f"copied, not upscaled: {', '.join(self.copied)}")
        sentence = ["; ".join(parts)] if parts else []
        return sentence + advice(self.video, self.options, encoder, size)

    def _encoder(self, size: tuple[int, int], frame_format: str) -> EncoderChoice:
        video, container, options = self.video, self.container, self.options
        codec = find_encoder(options.codec or default_codec(container, video.bit_depth), container)
        wanted = _PLAYABLE if options.compatible else options.pix_fmt
        pix_fmt = choose_pix_fmt(codec, frame_format, wanted)
        if options.pix_fmt is None:
            self.lost.extend(format_losses(frame_format, pix_fmt, codec.name))
        full_range = video.color_range == ColorRange.JPEG
        extra: dict[str, str] = {}
        if video.hdr is not None:
            parameter = hdr.PARAMETER_OPTION.get(codec.name)
            if parameter is None:
                able = ", ".join(hdr.PARAMETER_OPTION)
                self.lost.append(f"the HDR10 metadata ({codec.name} cannot write it; {able} can)")
            elif values := video.hdr.encoder_params(codec.name):
                extra[parameter] = values
            if parameter is not None and video.hdr.has_part_of_mastering:
                self.lost.append("the HDR10 mastering display (encoders take only primaries with luminance)")
        if codec.name == "mjpeg" and not full_range:
            extra["strict"] = "unofficial"  # JPEG is full range by definition; keeping the range is truer
        if not container.b_frames and codec.name in ("libx264", "libx265"):
            extra["bf"] = "0"
        settings, qscale = encoder_settings(codec, options, extra)
        stores_colour = container.colour or codec.canonical_name in _COLOUR_CODECS
        if not stores_colour and {video.primaries, video.trc, video.matrix} != {UNSPECIFIED}:
            self.lost.append(f"the colour tags ({codec.name} in {container.name} has no place for them)")
        if not container.vfr and Fraction(video.time_base) != 1 / _nominal_rate(video.rate):
            self.lost.append(f"exact frame times ({container.name} has a constant rate)")
        # Apple's players take HEVC in mp4 only under this tag
        apple = codec.canonical_name == "hevc" and container.name in ("mp4", "mov")
        choice = EncoderChoice(
            codec=codec.name,
            codec_id=codec.canonical_name,
            pix_fmt=pix_fmt,
            options=settings,
            qscale=qscale,
            time_base=video.time_base,
            rate=_nominal_rate(video.rate),
            limited=full_range and not (stores_colour or codec.name in _FULL_CODECS),
            codec_tag="hvc1" if apple else None,
        )
        return open_encoder_trial(choice, size, Fraction(video.time_base), constant=not container.vfr)

    def _stream(self, stream: StreamInfo, encoder: EncoderChoice) -> StreamPlan:
        plan = StreamPlan(index=stream.index, kind=stream.kind, codec=canonical(stream.codec), action="drop")
        asked = {"audio": self.options.audio, "subtitle": self.options.subtitles}
        if stream.index == self.video.index:
            plan.action, plan.to_codec = "encode", encoder.codec
        elif not asked.get(stream.kind, True):
            plan.note = "left out as asked"
        elif _is_empty(stream):
            self.lost.append(f"{_name(stream, plan.codec)}: nothing of it can be read")
        else:
            decide = {
                "video": self._other_video,
                "audio": self._audio,
                "subtitle": self._subtitle,
                "attachment": self._attachment,
            }
            decide.get(stream.kind, self._data)(plan, stream)
        return plan

    def _other_video(self, plan: StreamPlan, stream: StreamInfo) -> None:
        as_file = self.container.cover == "attachment" and self.info.reopens
        if not stream.is_cover:
            if plan.codec in self.container.video:
                plan.action, plan.note = "copy", "second video stream: copied, not upscaled"
                self.copied.append(_name(stream, plan.codec))
            elif _is_single_picture(stream, plan) and as_file:
                plan.action, plan.note = "attach", "a single picture: kept as a cover"
            else:
                self.lost.append(_name(stream, plan.codec))
        elif self.container.cover == "packet" and plan.codec in ("mjpeg", "png"):
            plan.action, plan.note = "copy", "cover"
        elif as_file:
            plan.action, plan.note = "attach", "cover"
        else:
            self.lost.append("the cover picture")

    def _audio(self, plan: StreamPlan, stream: StreamInfo) -> None:
        rates = self.container.audio_rates.get(plan.codec or "")
        if plan.codec in self.container.audio and (rates is None or stream.sample_rate in rates):
            plan.action = "copy"
            return
        encoder = target_encoder(plan.codec, self.container)
        decoder = None if stream.codec is None else find_codec(stream.codec, "r")
        if encoder is None or decoder is None or decoder.type != "audio":
            self.lost.append(_name(stream, plan.codec))
            return
        plan.action, plan.to_codec = "convert", encoder
        plan.note = f"{self.container.name} cannot hold {plan.codec}, or few of its players sound it"
        details = "24 bit" if plan.codec in _BEYOND_24_BIT else "lossless"
        if encoder not in LOSSLESS_ENCODERS:
            details = ""
        if (stream.channels or 0) > (2 if encoder == "mp2" else _MOST_CHANNELS):
            details = ", ".join(filter(None, (details, f"{stream.channels} channels → stereo")))
        details = f" ({details})" if details else ""
        self.changed.append(f"audio #{stream.index} {plan.codec} → {encoder.removeprefix('lib')}{details}")

    def _subtitle(self, plan: StreamPlan, stream: StreamInfo) -> None:
        target = self.container.text_subtitle
        if plan.codec in self.container.subtitles:
            plan.action = "copy"
        elif is_text(plan.codec) and target is not None:
            plan.action, plan.to_codec = "convert", target
            plan.note = f"{self.container.name} cannot hold {plan.codec}"
            loss = conversion_loss(plan.codec, target)
            if loss is not None:  # a conversion that keeps the meaning is not worth a warning
                self.changed.append(f"subtitle #{stream.index} {plan.codec} → {target} ({loss})")
        else:
            self.lost.append(_name(stream, plan.codec))

    def _attachment(self, plan: StreamPlan, stream: StreamInfo) -> None:
        if self.container.attachments:
            plan.action = "attach"
        else:
            self.lost.append(f"attachment {stream.metadata.get('filename') or '#' + str(stream.index)}")

    def _data(self, plan: StreamPlan, stream: StreamInfo) -> None:
        """Data streams are never copied: the mov muxer makes time code and chapter tracks itself."""
        if "timecode" in stream.metadata:
            plan.note = "time code: kept as a tag, from which the muxer makes a new track"
        elif self.info.chapters and _is_chapter_track(stream):
            plan.note = "chapter titles: written again from the chapters"
        else:
            self.lost.append(_name(stream, plan.codec))


def _compatible(container: Container, options: Options) -> Container:
    """MP4 with AAC only.

    Raises:
        UsageError: another container, encoder or pixel format was named.
    """
    if container.name != "mp4":
        raise UsageError(f"--compatible writes MP4, not {container.name}: give the output a name in .mp4")
    named = options.codec or "libx264"
    if ALIASES.get(named.lower(), named) != "libx264" or options.pix_fmt not in (None, _PLAYABLE):
        raise UsageError(f"--compatible writes libx264 in {_PLAYABLE}: leave -c:v and --pix-fmt out")
    return replace(container, audio=frozenset({"aac"}), audio_encoders=("aac",))


def target_encoder(codec: str | None, container: Container) -> str | None:
    """The encoder for audio of this codec: lossless only where the source is; None if there is none."""
    lossless = codec is not None and codec.startswith(_LOSSLESS_SOURCES)
    for encoder in container.audio_encoders:
        if encoder not in LOSSLESS_ENCODERS or lossless:
            return encoder
    return None


def is_text(codec: str | None) -> bool:
    """True for subtitles made of text (False: pictures, or unknown)."""
    return codec in _TEXT_SUBTITLES


def _nominal_rate(rate: Fraction | None) -> Fraction:
    """A rate that every header can store; VFR sources report wild ones that mean nothing."""
    if not rate or not 0 < rate <= 1000:
        return Fraction(25)
    return max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))


def _name(stream: StreamInfo, codec: str | None) -> str:
    """How a warning calls a stream: "subtitle #3 (hdmv_pgs_subtitle, ger)"."""
    details = ", ".join(d for d in (codec or "unknown codec", stream.language) if d and d != "und")
    return f"{stream.kind} #{stream.index} ({details})"


def _is_empty(stream: StreamInfo) -> bool:
    """True for a stream that only the header promises (FLV): readers refuse its copy."""
    if stream.kind == "audio":
        return not (stream.sample_rate and stream.channels)
    return stream.kind == "video" and not stream.is_cover and not (stream.width and stream.height)


def _is_single_picture(stream: StreamInfo, plan: StreamPlan) -> bool:
    """True for a video stream of one picture, by its codec and length."""
    is_picture = plan.codec in ("png", "mjpeg", "bmp", "gif", "tiff", "webp")
    return is_picture and stream.duration is not None and stream.duration < 0.5


def _is_chapter_track(stream: StreamInfo) -> bool:
    """True for the text track in which the mov family keeps the titles of chapters."""
    handler = stream.metadata.get("handler_name", "").lower()
    return stream.codec == "bin_data" or any(word in handler for word in ("text", "subtitle", "chapter"))
