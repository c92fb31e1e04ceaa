"""The upscaled video's stream: frames of the planned size in, packets of the planned encoder out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.codec.context import Flags
from av.format import Flags as FormatFlags
from av.video.frame import PictureType

from upscale.errors import OutputError
from upscale.media.input import sidedata
from upscale.media.input.open import output_error
from upscale.media.output import hdr10_plus, picture
from upscale.media.output.encoder_check import configure, quiet_encoders
from upscale.media.output.metadata import stream_tags
from upscale.media.output.projection import model_stream

if TYPE_CHECKING:
    from upscale.media.input.probe import VideoInfo
    from upscale.media.output.plan import Plan


@contextlib.contextmanager
def output_errors(path: str | None = None) -> Iterator[None]:
    """FFmpeg's and the system's errors while writing, as `OutputError`."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise output_error(error, path) from error
    except ValueError as error:
        raise OutputError(str(error), path=path) from error


#: x265 leaves the dts of fewer frames than this to chance, as it learns how far B-frames delay only from the
#: third (Multicorewareinc/x265, issue 781; mended there in August 2026, not in the wheels yet). So few are
#: never reordered.
_X265_SHORT = 3


class FrameEncoder:
    """Feeds one encoder stream; the tags, the pixel format and the times are what the plan says.

    Attributes:
        frames: that went in.
        adjusted: frames whose time stamp was moved because the encoder needs increasing ones.
    """

    def __init__(self, stream: Any, plan: Plan, video: VideoInfo) -> None:
        """
        Args:
            stream: of `add_encoder`.
            plan: of the job.
            video: description of the input's video.
        """
        self.frames = 0
        self.adjusted = 0
        self._stream = stream
        self._plan = plan
        self._video = video
        self._last: int | None = None
        self._messages: dict[int, bytes] = {}  # HDR10+ of the frames that are in the encoder

    def prepare(self, frame: av.VideoFrame) -> av.VideoFrame:
        """What `encode` takes, from a frame of the planned size in any pixel format, which may be changed.

        Raises:
            ValueError: another size, or no pts or time base.
        """
        plan = self._plan
        if (frame.width, frame.height) != plan.size:
            raise ValueError(f"frame is {frame.width}x{frame.height}, the plan says {plan.size}")
        if frame.pts is None or not frame.time_base:
            raise ValueError("frame without pts or time base")
        picture.tag_frame(frame, self._video)
        frame = picture.to_format(frame, plan.encoder.pix_fmt, limited=plan.encoder.limited)
        self._set_times(frame)
        frame.pict_type = PictureType.NONE  # otherwise the source's key frames force key frames
        if (
            plan.hdr10_plus
            and (data := sidedata.read(frame).get("DYNAMIC_HDR_PLUS"))
            and frame.pts is not None
        ):
            self._messages[frame.pts] = hdr10_plus.to_t35(data) or b""
        return frame

    def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        """Encode one prepared frame; gives the packets that are ready. None flushes the encoder."""
        self.frames += frame is not None
        packets: list[av.Packet] = self._stream.encode(frame)
        if frame is None and self._plan.encoder.codec == "libx265" and self.frames < _X265_SHORT:
            for packet in packets:
                packet.dts = packet.pts
        return [self._with_message(p) for p in packets] if self._messages else packets

    def _with_message(self, packet: av.Packet) -> av.Packet:
        """The packet with the HDR10+ message of its frame."""
        message = None if packet.pts is None else self._messages.pop(packet.pts, None)
        if not message:
            return packet
        result = av.Packet(hdr10_plus.insert(bytes(packet), message))
        result.pts, result.dts, result.duration = packet.pts, packet.dts, packet.duration
        result.time_base, result.is_keyframe, result.stream = (
            packet.time_base,
            packet.is_keyframe,
            packet.stream,
        )
        return result

    def _set_times(self, frame: Any) -> None:
        """Times in the encoder's time base, strictly increasing."""
        target = self._plan.encoder.time_base
        factor = Fraction(frame.time_base) / target
        pts = frame.pts
        duration = frame.duration or 0
        if factor != 1:
            begin, end = round(pts * factor), round((pts + duration) * factor)
            pts, duration = begin, end - begin
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
            self.adjusted += 1
        self._last = pts
        frame.pts, frame.duration, frame.time_base = pts, duration, target


def add_encoder(container: Any, plan: Plan, video: VideoInfo, source: Any) -> Any:
    """The upscaled video's stream, with every tag of the source (if it is given)."""
    quiet_encoders()
    choice = plan.encoder
    if plan.model is None:
        stream = container.add_stream(choice.codec, rate=choice.rate)
    else:
        with model_stream(plan.model) as model:
            stream = container.add_stream_from_template(model, opaque=False)
    context = stream.codec_context
    if context.name != choice.codec:
        raise OutputError(
            f"this FFmpeg prefers {context.name} to {choice.codec}, which cannot keep the projection"
        )
    configure(context, choice, plan.size, context.flags)
    _describe(stream, plan, video, source)
    if plan.model is not None:
        # PyAV opens such an encoder at its first frame: too late for the file's header
        if container.format.flags & FormatFlags.global_header.value:
            context.flags |= int(Flags.global_header)
        context.open()
    return stream


def add_encoded(container: Any, plan: Plan, video: VideoInfo, source: Any, encoded: Any) -> Any:
    """The upscaled video's stream, for packets that the planned encoder has made elsewhere.

    Args:
        encoded: a stream with such packets, whose codec header is taken over.
    """
    choice = plan.encoder
    try:
        stream = container.add_stream_from_template(encoded, opaque=True)
    except ValueError as error:
        raise OutputError(f"the encoded video cannot be copied: {error}") from error
    context = stream.codec_context
    context.framerate = choice.rate
    if choice.codec_tag is not None:
        context.codec_tag = choice.codec_tag
    if choice.codec_id == "prores":
        # Matroska keeps the four characters of the kind of ProRes in the place of a header.
        context.extradata, context.codec_tag = None, encoded.codec_context.codec_tag
    _describe(stream, plan, video, source)
    return stream


def _describe(stream: Any, plan: Plan, video: VideoInfo, source: Any) -> None:
    """Everything about the upscaled video's stream that is not the encoder's."""
    picture.tag_context(stream.codec_context, video, limited=plan.encoder.limited)
    stream.time_base = plan.encoder.time_base
    if plan.sar is not None:
        stream.sample_aspect_ratio = plan.sar
    if plan.display_matrix is not None:
        old = (video.width, video.height)
        stream.set_display_matrix(picture.scaled(plan.display_matrix, old, plan.size))
    if source is not None:
        stream.metadata.update(stream_tags(source.metadata, plan.container, encoded=True))
        stream.disposition = source.disposition
    if plan.stereo_mode is not None:
        stream.metadata["stereo_mode"] = plan.stereo_mode
