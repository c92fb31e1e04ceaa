"""The output: takes upscaled frames and untouched packets, gives a whole file or none."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import av

from upscale.errors import OutputError, UpscaleError
from upscale.media.input.address import is_live
from upscale.media.input.open import TAGS, ffmpeg_reasons
from upscale.media.output.conversion import add_conversion
from upscale.media.output.encode import FrameEncoder, add_encoded, add_encoder, output_errors
from upscale.media.output.formats import CONTAINERS
from upscale.media.output.metadata import container_tags, in_utf8, needs_custom_tags
from upscale.media.output.rehearsal import rehearse
from upscale.media.output.streams import OutputStream, add_copy, attach, movie_timescale
from upscale.media.output.verify import Written, verify
from upscale.options import Options
from upscale.system.safe_file import STDIO, SafeFile, check_output

if TYPE_CHECKING:
    from upscale.media.input.source import Source
    from upscale.media.output.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReport:
    """What was written.

    Attributes:
        path: of the output, "-" for standard output.
        container, codec: muxer and video encoder.
        size: (width, height).
        frames: video frames.
        duration: of the video in seconds, None without frames' durations.
        file_size: bytes, None for standard output.
        streams: number of output streams.
        lost: what the output could not hold (from the plan).
        adjusted_timestamps: time stamps moved because the container needs increasing ones.
    """

    path: str
    container: str
    codec: str
    size: tuple[int, int]
    frames: int
    duration: float | None
    file_size: int | None
    streams: int
    lost: list[str] = field(default_factory=list)
    adjusted_timestamps: int = 0


class Sink:
    """Writes one output.

    A context manager: leaving it without `finish` removes the temporary file. Of a live input, which
    cannot be read again, what was written is kept as ``NAME.incomplete.EXT`` instead. All calls must
    come from one thread.
    """

    def __init__(
        self, source: Source, output: str, plan: Plan, options: Options, encoded: av.VideoStream | None = None
    ) -> None:
        """Open the temporary file, add every stream and write the header.

        Tells `source` which streams to deliver; must be called before iterating over it.

        Args:
            source: the opened input.
            output: file name, or "-" for standard output.
            plan: of `make_plan` for the same input and output.
            options: of the job.
            encoded: a stream of the planned codec, if the video comes encoded already: `encoded_packet`
                takes it then, and `frame` must not be called.

        Raises:
            UsageError: the output must not be written (`check_output`).
            OutputError: it cannot be created, or the muxer refuses a stream (see `rehearse`).
        """
        self.output = output
        self.plan = plan
        self._live = is_live(source.info.path)
        self._encoder: FrameEncoder | None = None
        self._held: Any = None  # the last encoded packet so far
        self._origin: tuple[int, int] | None = None  # pts and dts of the first packet
        self._end = 0  # of the frame that ends last
        self._finished = False
        self._file: SafeFile | None = None
        self._container: Any = None
        self._streams: dict[int, OutputStream] = {}
        self._written: list[Written] = []
        check_output(source.info.path, output, options.overwrite)
        rehearse(source.info, plan, options)
        try:
            if output != STDIO:
                self._file = SafeFile(output, overwrite=options.overwrite, recording=self._live)
                source.notes += [f"found an unfinished recording: {kept}" for kept in self._file.recovered]
            with ffmpeg_reasons(), output_errors(self.output):
                self._open(source, options, encoded)
        except BaseException:
            self._abort()
            raise

    def _open(self, source: Source, options: Options, encoded: av.VideoStream | None) -> None:
        plan, tags = self.plan, container_tags(source.info.metadata)
        url = "pipe:1" if self._file is None else "file:" + self._file.path
        muxer = self._muxer_options(source, tags)
        self._container = av.open(url, "w", format=plan.container, container_options=muxer, **TAGS)
        self._container.metadata.update(tags)
        inputs = {s.index: s for s in source.container.streams}
        for entry in plan.streams:
            stream = inputs.get(entry.index)
            if entry.action == "encode":
                self._add_video(source, stream, encoded)
            elif stream is None:
                raise OutputError(f"input stream #{entry.index} is gone")
            elif entry.action == "attach":
                self._written.append(attach(self._container, source.info.path, options, entry, stream))
            elif entry.action in ("copy", "convert"):
                add = add_copy if entry.action == "copy" else add_conversion
                added = self._streams[entry.index] = add(self._container, plan, entry, stream)
                self._written.append(added.written)
        if source.chapters and CONTAINERS[plan.container].chapters:
            chapters = [{**c, "metadata": in_utf8(c["metadata"])} for c in source.chapters]
            self._container.set_chapters(chapters)
        self._container.start_encoding()
        source.select(set(self._streams))

    def _muxer_options(self, source: Source, tags: dict[str, str]) -> dict[str, str]:
        muxer = dict(self.plan.muxer_options)
        if needs_custom_tags(self.plan.container, tags):
            muxer["movflags"] = muxer.get("movflags", "") + "+use_metadata_tags"
        if "movflags" in muxer:
            muxer["movie_timescale"] = str(movie_timescale(self.plan, source.container.streams))
        if self._file is None or self._live:
            # A player at the other end shows each frame as it comes; of a recording that is killed, all
            # but the last second can be read.
            muxer["flush_packets"] = "1"
            if self.plan.container in ("matroska", "webm"):
                muxer["cluster_time_limit"] = "1000"
        return muxer

    def _add_video(self, source: Source, stream: Any, encoded: av.VideoStream | None) -> None:
        video = source.info_video
        if encoded is None:
            self._stream = add_encoder(self._container, self.plan, video, stream)
            self._encoder = FrameEncoder(self._stream, self.plan, video)
        else:
            self._stream = add_encoded(self._container, self.plan, video, stream, encoded)
        self._main = Written("video", main=True)
        self._written.append(self._main)

    def frame(self, frame: av.VideoFrame) -> None:
        """Encode one frame.

        Args:
            frame: of the planned size, with pts and time base; in any pixel format. May be changed.

        Raises:
            OutputError: the encoder, the disk or the pipe failed.
        """
        assert self._encoder is not None
        frame = self._encoder.prepare(frame)
        with output_errors(self.output):
            self._mux_video(self._encoder.encode(frame))

    def encoded_packet(self, packet: av.Packet, times: tuple[int, int, int]) -> None:
        """Write one packet of the video, encoded elsewhere with the planned encoder.

        Args:
            packet: in decoding order. May be changed.
            times: its pts, dts and duration in ticks of the planned encoder's time base.

        Raises:
            OutputError: the disk failed.
        """
        packet.time_base = self.plan.encoder.time_base
        packet.pts, packet.dts, packet.duration = times
        packet.stream = self._stream
        before, self._held = self._held, packet
        if before is not None:
            with output_errors(self.output):
                self._mux_video([before])

    def _mux_video(self, packets: list[Any], *, last: bool = False) -> None:
        for packet in packets:
            if self._origin is None and packet.dts is not None:
                self._origin = (packet.pts, packet.dts)
            self._end = max(self._end, packet.pts + (packet.duration or 0))
            self._main.add(packet)
            if last:
                self._stretch(packet)
            self._container.mux(packet)

    def packet(self, packet: av.Packet) -> None:
        """Pass on one packet of a selected stream; packets of other streams are ignored.

        Raises:
            OutputError: the disk or the pipe failed, or a conversion did.
        """
        stream = self._streams.get(packet.stream.index)
        if stream is None or packet.size == 0:
            return
        with output_errors(self.output):
            for ready in stream.accept(packet):
                self._container.mux(ready)

    def finish(self) -> OutputReport:
        """Flush the encoders, close, compare with what went in, and give the file its name.

        Raises:
            OutputError: nothing was encoded, writing failed, or the file is not what it must be.
        """
        frames = self._encoder.frames if self._encoder is not None else self._main.packets + bool(self._held)
        if not frames:
            raise OutputError("no frame came out of the input")
        with output_errors(self.output):
            rest = self._encoder.encode(None) if self._encoder is not None else [self._held]
            self._mux_video(rest[:-1])
            self._mux_video(rest[-1:], last=True)
            for stream in self._streams.values():
                for ready in stream.flush():
                    self._container.mux(ready)
            container, self._container = self._container, None
            container.close()
        if self._main.packets != frames:
            raise OutputError(f"the encoder wrote {self._main.packets} of {frames} frames")
        size = None
        if self._file is not None:
            size = self._verify(self._file)
            self._file.commit()
        self._finished = True
        return self._report(size)

    def _stretch(self, packet: Any) -> None:
        """Let the last packet end the track when the last frame does.

        The mov muxer measures a track in decoding times, and with B-frames the packet that it gets
        last is not the frame that is shown last: that frame's duration would be lost.
        """
        if "movflags" not in self.plan.muxer_options or self._origin is None or packet.dts is None:
            return
        first_pts, first_dts = self._origin
        packet.duration = max(1, (self._end - first_pts) - (packet.dts - first_dts))

    def _verify(self, file: SafeFile) -> int:
        container = CONTAINERS[self.plan.container]
        tolerance = float(2 * container.tick) if container.tick else 0.001
        try:
            verify(file.path, container.name, self._written, tolerance if container.vfr else None)
        except OutputError as error:
            error.path = self.output
            raise
        return os.path.getsize(file.path)

    def _report(self, size: int | None) -> OutputReport:
        main = self._main
        adjusted = self._encoder.adjusted if self._encoder is not None else 0
        duration = None if main.start is None or main.end is None else main.end - main.start
        return OutputReport(
            path=self.output,
            container=self.plan.container,
            codec=self.plan.encoder.codec,
            size=self.plan.size,
            frames=main.packets,
            duration=duration,
            file_size=size,
            streams=len(self._written),
            lost=list(self.plan.lost),
            adjusted_timestamps=adjusted + sum(stream.adjusted for stream in self._streams.values()),
        )

    def _abort(self) -> str | None:
        """Close everything and remove the temporary file; where it is, if it is worth keeping."""
        worth = self._live and self._encoder is not None and self._encoder.frames > 0
        # removed first: the mp4 muxer would otherwise rewrite the whole file to move its index
        if self._file is not None and not worth:
            self._file.discard()
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(Exception):  # the error that brought us here counts
                container.close()
        return self._file.keep() if self._file is not None and worth else None

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished and (kept := self._abort()) and isinstance(error, UpscaleError):
            error.args = (f"{error}; what was recorded is in {kept}",)
