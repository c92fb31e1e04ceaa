"""Frames of the planned size in, packets of the planned encoder out."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from upscale.media.output import color

if TYPE_CHECKING:
    import av

    from upscale.media.input.probe import VideoInfo
    from upscale.media.output.plan import Plan


class FrameEncoder:
    """Feeds one encoder stream; the tags, the pixel format and the times are what the plan says.

    Attributes:
        frames: that went in.
        adjusted: frames whose time stamp was moved because the encoder needs increasing ones.
    """

    def __init__(self, stream: Any, plan: Plan, video: VideoInfo) -> None:
        """
        Args:
            stream: of `upscale.media.output.streams.add_encoder`.
            plan: of the job.
            video: description of the input's video.
        """
        self.frames = 0
        self.adjusted = 0
        self._stream = stream
        self._plan = plan
        self._video = video
        self._last: int | None = None

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
        color.tag_frame(frame, self._video)
        frame = color.to_format(frame, plan.encoder.pix_fmt, limited=plan.encoder.limited)
        self._set_times(frame)
        frame.pict_type = 0  # otherwise the source's key frames force key frames
        return frame

    def encode(self, frame: av.VideoFrame) -> list[av.Packet]:
        """Encode one prepared frame; gives the packets that are ready."""
        self.frames += 1
        packets: list[av.Packet] = self._stream.encode(frame)
        return packets

    def flush(self) -> list[av.Packet]:
        """The packets that are left; nothing can be encoded afterwards."""
        packets: list[av.Packet] = self._stream.encode(None)
        return packets

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
