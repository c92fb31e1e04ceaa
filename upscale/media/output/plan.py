"""What happens to every stream of an input, decided and checked before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from upscale.media.input import hdr as hdr_module
from upscale.media.output.audio import convertible, target_encoder
from upscale.media.output.encoder_check import (
    choose_pix_fmt,
    encoder_settings,
    find_encoder,
    open_encoder_trial,
)
from upscale.media.output.encoders import EncoderChoice, default_codec
from upscale.media.output.formats import Container, canonical, container_for, muxer_options
from upscale.media.output.geometry import is_identity, target_sar
from upscale.media.output.metadata import container_tags, language_for
from upscale.media.output.subtitles import conversion_loss, is_text
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.media.input.probe import MediaInfo, StreamInfo, VideoInfo

_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
#: Codecs that carry their colour description in their own stream.
_COLOUR_CODECS = frozenset({"h264", "hevc", "vvc", "av1", "vp9", "prores"})
#: Encoders whose output is known to be full range, or is told so by the container.
_FULL_CODECS = frozenset({"mjpeg", "wrapped_avframe", "rawvideo", "gif"})


@dataclass(slots=True, kw_only=True)
class StreamPlan:
    """What happens to one input stream.

    Attributes:
        index: in the input.
        kind: "video", "audio", "subtitle", "data" or "attachment".
        codec: FFmpeg's codec name, None if unknown.
        action: "encode" (the upscaled video), "copy" (packets unchanged), "convert" (re-encoded
            into `to_codec`), "attach" (written with the header) or "drop".
        note: why, for people; None where there is nothing to say.
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
    video = info.video
    if video is None:
        raise ValueError("the input has no video stream")
    container = container_for(output, options.container)
    lost: list[str] = []
    changed: list[str] = []
    encoder = _plan_encoder(video, container, options, size, frame_format, lost)
    streams = [_plan_stream(s, info, video, container, options, lost, changed) for s in info.streams]
    for stream in streams:
        if stream.action == "encode":
            stream.to_codec = encoder.codec
    sar = target_sar(video, size)
    if sar is not None and sar != 1 and not container.sar:
        lost.append(f"the sample aspect ratio {sar}")
    matrix = video.display_matrix
    if matrix is not None and is_identity(matrix):
        matrix = None
    if matrix is not None and not container.rotation:
        lost.append(f"the rotation by {video.rotation}°")
        matrix = None
    if info.chapters and not container.chapters:
        lost.append(f"{len(info.chapters)} chapters")
    if not container.metadata and container_tags(info.metadata):
        lost.append("tags")
    return Plan(
        container=container.name,
        streams=streams,
        encoder=encoder,
        size=size,
        sar=sar,
        display_matrix=matrix,
        warnings=_warnings(container, lost, changed),
        lost=lost,
        muxer_options=muxer_options(container, output),
    )


def _warnings(container: Container, lost: list[str], changed: list[str]) -> list[str]:
    """One sentence for everything that is not as it was; empty if all is."""
    parts = []
    if lost:
        parts.append("will not be in the output: " + ", ".join(lost))
    if changed:
        parts.append(f"converted for {container.name}: " + ", ".join(changed))
    return ["; ".join(parts)] if parts else []


def _plan_encoder(
    video: VideoInfo,
    container: Container,
    options: Options,
    size: tuple[int, int],
    frame_format: str,
    lost: list[str],
) -> EncoderChoice:
    codec = find_encoder(options.codec or default_codec(container, video.bit_depth), container)
    pix_fmt = choose_pix_fmt(codec, frame_format, options.pix_fmt)
    if options.pix_fmt is None:
        lost.extend(_format_losses(frame_format, pix_fmt, codec.name))
    extra: dict[str, str] = {}
    if video.hdr is not None:
        parameter = hdr_module.PARAMETER_OPTION.get(codec.name)
        if parameter is None:
            able = ", ".join(hdr_module.PARAMETER_OPTION)
            lost.append(f"the HDR10 metadata ({codec.name} cannot write it; {able} can)")
        else:
            extra[parameter] = video.hdr.encoder_params(codec.name)
    if codec.name == "mjpeg" and video.color_range != _FULL_RANGE:
        extra["strict"] = "unofficial"  # JPEG is full range by definition; keeping the range is truer
    if not container.b_frames and codec.name in ("libx264", "libx265"):
        extra["bf"] = "0"
    settings, qscale = encoder_settings(codec, options, extra)
    stores_colour = container.colour or codec.canonical_name in _COLOUR_CODECS
    if not stores_colour and {video.primaries, video.trc, video.matrix} != {2}:
        lost.append(f"the colour tags ({codec.name} in {container.name} has no place for them)")
    if not container.vfr and Fraction(video.time_base) != 1 / _nominal_rate(video.rate):
        lost.append(f"exact frame times ({container.name} has a constant rate)")
    choice = EncoderChoice(
        codec=codec.name,
        codec_id=codec.canonical_name,
        pix_fmt=pix_fmt,
        options=settings,
        qscale=qscale,
        time_base=video.time_base,
        rate=_nominal_rate(video.rate),
        # Apple's players take HEVC in mp4 only under this tag
        limited=video.color_range == _FULL_RANGE and not (stores_colour or codec.name in _FULL_CODECS),
        codec_tag="hvc1" if codec.canonical_name == "hevc" and container.name in ("mp4", "mov") else None,
    )
    return open_encoder_trial(choice, size, Fraction(video.time_base), constant=not container.vfr)


def _nominal_rate(rate: Fraction | None) -> Fraction:
    """A rate that every header can store; VFR sources report wild ones that mean nothing."""
    if not rate or not 0 < rate <= 1000:
        return Fraction(25)
    return max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))


def _format_losses(source: str, target: str, encoder: str) -> Iterable[str]:
    """What a change of pixel format costs."""
    from av.video.format import VideoFormat

    old, new = VideoFormat(source), VideoFormat(target)
    if not old.components or not new.components:
        return
    old_bits, new_bits = old.components[0].bits, new.components[0].bits
    if new_bits < 8:
        yield f"colours beyond 256 ({encoder})"
        return
    if new_bits < old_bits:
        yield f"{old_bits} bit depth ({encoder} writes {new_bits} bit)"
    if len(old.components) >= 3 > len(new.components):
        yield f"colour ({encoder} writes {target})"
    elif len(old.components) >= 3:
        before = (old.chroma_width(64), old.chroma_height(64))
        after = (new.chroma_width(64), new.chroma_height(64))
        if after[0] < before[0] or after[1] < before[1]:
            yield f"full chroma resolution ({encoder} writes {target})"


def _plan_stream(
    stream: StreamInfo,
    info: MediaInfo,
    video: VideoInfo,
    container: Container,
    options: Options,
    lost: list[str],
    changed: list[str],
) -> StreamPlan:
    plan = StreamPlan(index=stream.index, kind=stream.kind, codec=canonical(stream.codec), action="drop")
    if stream.index == video.index:
        plan.action = "encode"
    elif stream.kind == "video":
        _plan_other_video(plan, stream, info, container, lost)
    elif stream.kind == "audio":
        if not options.audio:
            plan.note = "left out as asked"
        else:
            _plan_audio(plan, stream, container, lost, changed)
    elif stream.kind == "subtitle":
        if not options.subtitles:
            plan.note = "left out as asked"
        else:
            _plan_subtitle(plan, stream, container, lost, changed)
    elif stream.kind == "attachment":
        _plan_attachment(plan, stream, info, container, lost)
    else:
        _plan_data(plan, stream, info, lost)
    if plan.action != "drop" and stream.language and language_for(container.name, stream.language) is None:
        lost.append(f"the language {stream.language} of {stream.kind} #{stream.index}")
    return plan


def _name(stream: StreamInfo, codec: str | None) -> str:
    """How a warning calls a stream: "subtitle #3 (hdmv_pgs_subtitle, ger)"."""
    details = ", ".join(d for d in (codec or "unknown codec", stream.language) if d and d != "und")
    return f"{stream.kind} #{stream.index} ({details})"


def _plan_other_video(
    plan: StreamPlan, stream: StreamInfo, info: MediaInfo, container: Container, lost: list[str]
) -> None:
    if not stream.is_cover:
        if plan.codec in container.video:
            plan.action, plan.note = "copy", "second video stream: copied, not upscaled"
        elif _is_single_picture(stream, plan) and container.cover == "attachment" and info.reopens:
            plan.action, plan.note = "attach", "a single picture: kept as a cover"
        else:
            lost.append(_name(stream, plan.codec))
    elif container.cover == "packet" and plan.codec in ("mjpeg", "png"):
        plan.action, plan.note = "copy", "cover"
    elif container.cover == "attachment" and info.reopens:
        plan.action, plan.note = "attach", "cover"
    else:
        lost.append("the cover picture")


def _is_single_picture(stream: StreamInfo, plan: StreamPlan) -> bool:
    """True for a video stream of one picture, by its codec and length."""
    is_picture = plan.codec in ("png", "mjpeg", "bmp", "gif", "tiff", "webp")
    return is_picture and stream.duration is not None and stream.duration < 0.5


def _plan_audio(
    plan: StreamPlan, stream: StreamInfo, container: Container, lost: list[str], changed: list[str]
) -> None:
    if plan.codec in container.audio:
        plan.action = "copy"
        return
    encoder = target_encoder(plan.codec, container)
    if encoder is None or stream.codec is None or not convertible(stream.codec):
        lost.append(_name(stream, plan.codec))
        return
    plan.action, plan.to_codec = "convert", encoder
    plan.note = f"{container.name} cannot hold {plan.codec}"
    changed.append(f"audio #{stream.index} {plan.codec} → {encoder.removeprefix('lib')}")


def _plan_subtitle(
    plan: StreamPlan, stream: StreamInfo, container: Container, lost: list[str], changed: list[str]
) -> None:
    if plan.codec in container.subtitles:
        plan.action = "copy"
    elif is_text(plan.codec) and container.text_subtitle is not None:
        plan.action, plan.to_codec = "convert", container.text_subtitle
        plan.note = f"{container.name} cannot hold {plan.codec}"
        loss = conversion_loss(plan.codec, container.text_subtitle)
        if loss is not None:  # a conversion that keeps the meaning is not worth a warning
            changed.append(f"subtitle #{stream.index} {plan.codec} → {plan.to_codec} ({loss})")
    else:
        lost.append(_name(stream, plan.codec))


def _plan_attachment(
    plan: StreamPlan, stream: StreamInfo, info: MediaInfo, container: Container, lost: list[str]
) -> None:
    if container.attachments:
        plan.action = "attach"
    else:
        lost.append(f"attachment {stream.metadata.get('filename') or '#' + str(stream.index)}")


def _is_chapter_track(stream: StreamInfo) -> bool:
    """True for the text track in which the mov family keeps the titles of chapters."""
    handler = stream.metadata.get("handler_name", "").lower()
    return stream.codec == "bin_data" or any(word in handler for word in ("text", "subtitle", "chapter"))


def _plan_data(plan: StreamPlan, stream: StreamInfo, info: MediaInfo, lost: list[str]) -> None:
    """Data streams are never copied: the mov muxer makes time code and chapter tracks itself."""
    if "timecode" in stream.metadata:
        plan.note = "time code: kept as a tag, from which the muxer makes a new track"
    elif info.chapters and _is_chapter_track(stream):
        plan.note = "chapter titles: written anew from the chapters"
    else:
        lost.append(_name(stream, plan.codec))
