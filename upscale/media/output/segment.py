"""One segment of a long job: a run of frames in a Matroska file of its own.

Matroska counts milliseconds and keeps no decoding times, so the exact times stand beside the file, in
the job's journal (`upscale.media.output.times`). What is in the file plays by itself, at its place in time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import av

from upscale.errors import OutputError
from upscale.media.input.open import ffmpeg_reasons, reason
from upscale.media.output.encode import FrameEncoder, add_encoder, output_errors
from upscale.media.output.formats import CONTAINERS
from upscale.media.output.times import PacketTimes
from upscale.system.locks import open_plain

if TYPE_CHECKING:
    from av.container import InputContainer

    from upscale.media.input.probe import VideoInfo
    from upscale.media.output.plan import Plan

#: Containers that take H.264 and HEVC as Matroska keeps them, with lengths in place of start codes.
_TAKE_LENGTHS = frozenset({"mp4", "mov", "3gp", "3g2", "matroska", "mpegts", "flv"})


def can_be_joined(plan: Plan) -> bool:
    """Whether the planned codec can go through Matroska files into the planned container."""
    codec = plan.encoder.codec_id
    if codec in ("h264", "hevc", "vvc") and plan.container not in _TAKE_LENGTHS:
        return False
    if codec == "mpeg4" and plan.container == "mpegts":
        return False  # its header would have to be in the packets
    return codec in CONTAINERS["matroska"].video


class SegmentWriter:
    """Encodes one segment. All calls but `abort` may come from one thread at a time only.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: str, plan: Plan, video: VideoInfo) -> None:
        """Create the file, which must not exist, and open the encoder.

        Raises:
            OutputError: one of them failed.
        """
        self.path = path
        self._pts: list[int] = []
        self._dts: list[int | None] = []
        self._durations: list[int] = []
        self._container: Any = None
        with output_errors():
            # Created here, so that FFmpeg, which follows links, finds a plain file.
            os.close(open_plain(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            # Without FFmpeg's log: other threads decode meanwhile, see `upscale.media.input.reader`.
            muxer = CONTAINERS["matroska"]
            self._container = av.open("file:" + path, "w", format=muxer.name, container_options=muxer.options)
            self._encoder = FrameEncoder(add_encoder(self._container, plan, video, None), plan, video)
            self._container.start_encoding()

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._encoder.frames

    @property
    def adjusted(self) -> int:
        """Time stamps that were moved."""
        return self._encoder.adjusted

    def frame(self, frame: av.VideoFrame) -> None:
        """Encode one frame, see `FrameEncoder`.

        Raises:
            OutputError: the encoder or the disk failed.
        """
        frame = self._encoder.prepare(frame)
        with output_errors():
            self._mux(self._encoder.encode(frame))

    def finish(self) -> PacketTimes:
        """Flush the encoder, close the file, and bring it to the disk.

        Raises:
            OutputError: the encoder or the disk failed, or frames are missing.
        """
        with output_errors():
            self._mux(self._encoder.encode(None))
            container, self._container = self._container, None
            container.close()
            handle = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        if len(self._pts) != self.frames:
            raise OutputError(f"the encoder wrote {len(self._pts)} of {self.frames} frames")
        return PacketTimes.measured(self._pts, self._dts, self._durations)

    def abort(self) -> None:
        """Close and remove the file; may be called again, and after `finish`."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(Exception):  # the error that brought us here counts
                container.close()

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._pts.append(packet.pts)
            self._dts.append(packet.dts)
            self._durations.append(packet.duration or 0)
            self._container.mux(packet)


@contextlib.contextmanager
def open_segment(path: str) -> Iterator[InputContainer]:
    """A segment for reading.

    Raises:
        OutputError: it is gone, no plain file, or damaged.
    """
    try:
        if os.path.islink(path):
            raise OutputError("a segment is a link: links are not followed", path=path)
        with ffmpeg_reasons():
            container = av.open("file:" + path, format="matroska", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        raise OutputError(f"a segment cannot be read: {reason(error)}", path=path) from error
    with container:
        if len(container.streams.video) != 1:
            raise OutputError("a segment holds no video", path=path)
        yield container


def packets(path: str) -> Iterator[av.Packet]:
    """The packets of a segment in decoding order; their times are Matroska's.

    Raises:
        OutputError: it cannot be read.
    """
    with open_segment(path) as container:
        try:
            yield from (packet for packet in container.demux(container.streams.video[0]) if packet.size)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"a segment cannot be read: {reason(error)}", path=path) from error


def extradata(path: str) -> bytes | None:
    """The codec's header of a segment: packets of several can only be joined where it is the same."""
    with open_segment(path) as container:
        context: Any = container.streams.video[0].codec_context
        return None if context is None else context.extradata
