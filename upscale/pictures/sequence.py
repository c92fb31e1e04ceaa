"""Pictures that are a video: numbered ones, ``frames/%04d.png``, in or out, and animated WebP, in.

FFmpeg's own reader of such names (image2) opens whatever a name stands for, so it is on no list here. The
files are found by their names, and sent through a pipe as one NUT stream::

    files ──read, in a thread──> NUT ──pipe──> `Reader` ──frames──> network ──> any output

PNG and JPEG go into it as they are, other formats as PNG. The pipe has an end, no sound, and cannot be read
again, so such a job is not cut into segments.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from PIL import Image

from upscale.errors import MediaError, UpscaleError, UsageError, first_line
from upscale.events import OnEvent, Result
from upscale.job.loop import Loop
from upscale.job.prepare import Prepared, choose_runtime, find_model, load_network, open_source
from upscale.job.report import ProgressMeter, Reporter
from upscale.job.sizing import target_size
from upscale.media.input.address import piped
from upscale.media.input.open import MAX_PIXELS, TOO_LARGE
from upscale.media.input.stills import picture_format
from upscale.media.output.plan import make_plan
from upscale.media.output.sink import OutputReport
from upscale.media.pixels.rgb import to_rgb
from upscale.options import Options
from upscale.pictures.job import Loaded, upscale_picture
from upscale.pictures.names import is_numbered, numbered_files, numbered_name
from upscale.pictures.picture import Picture
from upscale.pictures.read import picture_errors, read_picture, readable_formats
from upscale.pictures.write import output_format, to_image, write_picture
from upscale.system.safe_file import check_output

if TYPE_CHECKING:
    from av import VideoFrame

#: Frames per second of numbered pictures where `Options.fps` says nothing; FFmpeg's own default.
FPS = 25
#: Format → FFmpeg's codec of files that go into the stream as they are.
_CODECS = {"PNG": "png", "JPEG": "mjpeg"}
#: Milliseconds of a WebP frame that names none, as browsers show it.
_WEBP_DURATION = 100


@contextmanager
def numbered_as_video(pattern: str, options: Options) -> Iterator[list[str]]:
    """While the block runs, `pattern` can be opened as if it were a video; gives what the user should know.

    Raises:
        UsageError: the pictures differ in size, or the rate is impossible.
        MediaError: there are none, or one cannot be read.
    """
    files = numbered_files(pattern)
    formats = _check(files)
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise UsageError(f"frames per second must be more than 0 and at most 1000, not {options.fps:g}")
    assumed = f"{len(files)} pictures at {FPS} frames per second: --fps says another rate"
    tick = 1 / Fraction(options.fps or FPS).limit_denominator(1001)
    codec = _CODECS.get(next(iter(formats))) if len(formats) == 1 else None
    with Image.open(files[0], formats=readable_formats()) as image:
        size = image.size
    packets = ((Path(path).read_bytes() if codec else _as_png(path), 1) for path in files)
    with _piped(pattern, lambda pipe: _mux(pipe, packets, codec or "png", size, tick)):
        yield [assumed] if options.fps is None else []


@contextmanager
def webp_as_video(path: str) -> Iterator[None]:
    """While the block runs, an animated WebP, which FFmpeg does not decode, can be opened as a video.

    Raises:
        MediaError: it is damaged, or too large.
    """

    def packets(image: Any) -> Iterator[tuple[bytes, int]]:
        for number in range(image.n_frames):
            image.seek(number)
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=1)
            yield buffer.getvalue(), int(image.info.get("duration") or _WEBP_DURATION)

    with picture_errors(path):
        image = Image.open(path, formats=("WEBP",))
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise MediaError(TOO_LARGE, path=path)
        with _piped(path, lambda pipe: _mux(pipe, packets(image), "png", image.size, Fraction(1, 1000))):
            yield


@contextmanager
def _piped(text: str, write: Callable[[Any], None]) -> Iterator[None]:
    """While the block runs, the input `text` is what `write` writes, in a thread, into a pipe.

    Raises:
        MediaError: it could not write all; raised when the block is left.
    """
    end, begin = os.pipe()
    failures: list[UpscaleError] = []

    def send() -> None:
        try:
            with open(begin, "wb") as pipe:
                write(pipe)
        except BrokenPipeError:
            pass  # the job needs no more
        except UpscaleError as error:
            failures.append(error)
        except Exception as error:  # as `picture_errors`, whose filter of warnings is not for threads
            failures.append(MediaError(f"a picture cannot be read: {first_line(error)}", path=text))

    thread = threading.Thread(target=send, name="pictures", daemon=True)
    try:
        with piped(text, end):
            thread.start()
            yield
    finally:
        os.close(end)  # ends a thread that still writes
        thread.join()
    if failures:
        raise failures[0]


def _check(files: list[str]) -> set[str]:
    """The formats of the files, whose sizes must be equal; reads their headers only."""
    formats: set[str] = set()
    sizes: dict[tuple[int, int], str] = {}
    for path in files:
        with picture_errors(path), Image.open(path, formats=readable_formats()) as image:
            sizes.setdefault(image.size, path)
        formats.add(picture_format(path) or "")
    if len(sizes) > 1:
        (first, a), (second, b) = list(sizes.items())[:2]
        raise UsageError(f"numbered pictures must be equally large: {a} is {first}, {b} is {second}")
    return formats


def _mux(
    pipe: Any, packets: Iterable[tuple[bytes, int]], codec: str, size: tuple[int, int], tick: Fraction
) -> None:
    """Write pictures, each with its duration in ticks, as a NUT stream."""
    with av.open(pipe, "w", format="nut") as container:
        stream = container.add_mux_stream(codec, rate=1 / tick, width=size[0], height=size[1], time_base=tick)
        at = 0
        for data, duration in packets:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, tick, True
            packet.pts = packet.dts = at
            packet.duration = duration
            at += duration
            container.mux(packet)


def _as_png(path: str) -> bytes:
    buffer = io.BytesIO()
    image = to_image(read_picture(path))
    image.convert("RGB" if image.mode == "CMYK" else image.mode).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@dataclass(slots=True)
class _NumberedSink:
    """Writes every frame that the loop gives into a file of its own."""

    pattern: str
    overwrite: bool
    rotation: int
    size: tuple[int, int]
    frames: int = 0
    bytes: int = 0

    def frame(self, frame: VideoFrame) -> None:
        rgb = np.rot90(to_rgb(frame), -self.rotation // 90)
        planes = tuple(np.ascontiguousarray(rgb[..., k]) for k in range(3))
        self.frames += 1
        path = numbered_name(self.pattern, self.frames)
        self.bytes += write_picture(
            Picture(format="", mode="RGB", planes=planes), path, overwrite=self.overwrite
        )

    def finish(self) -> OutputReport:
        return OutputReport(
            path=self.pattern,
            container="numbered pictures",
            codec=output_format(self.pattern),
            size=self.size,
            frames=self.frames,
            duration=None,
            file_size=self.bytes,
            streams=1,
        )


def upscale_into_pictures(input: str, pattern: str, options: Options, reporter: Reporter) -> Result:
    """Upscale a video into numbered pictures, from 1 on. Each appears when it is whole.

    Args:
        pattern: of their names, as `upscale.pictures.names.is_numbered` takes it.

    Raises:
        UsageError: such pictures exist, and `options.overwrite` is not set; else as `upscale.upscale_file`.
    """
    check_free(input, pattern, options)
    codec = output_format(pattern)
    model = find_model(options)
    with ExitStack() as stack:
        source = open_source(input, options)
        stack.callback(source.close)
        source.select(set())
        video = source.info_video
        size = target_size(video, options)
        # Only the size and the names matter here; a container that takes every pixel format needs no more.
        plain = Options(codec="ffv1", container="matroska")
        plan = make_plan(source.info, "-", plain, size, source.frame_format)
        plan = replace(plan, encoder=replace(plan.encoder, codec=codec, pix_fmt="rgb24"))
        job = Prepared(
            input=input, output=pattern, options=options, source=source, plan=plan, model=model,
            notes=(*source.notes, *_lost(source.info, video)),
        )  # fmt: skip
        for note in job.notes:
            reporter.warn(note)
        network = load_network(stack, job, choose_runtime(job))
        reporter.announce(job, network.backend)
        sink = _NumberedSink(pattern, options.overwrite, video.rotation, size)
        meter = ProgressMeter(input, source.estimated_frames, reporter.send)
        loop: Loop[OutputReport] = Loop(network, sink, meter)
        loop.run(source, source.abandon)
        report = loop.finish()
        return reporter.result(job, loop.stats, source.stats, report)


def _lost(info: Any, video: Any) -> Iterator[str]:
    if any(stream.kind != "video" for stream in info.streams):
        yield "numbered pictures hold no sound, no subtitles and no times: left out"
    if video.bit_depth > 8:
        yield f"{video.bit_depth} bits per sample are written as 8"
    if video.sar != 1:
        yield f"pixels of the video are not square ({video.sar}); those of the pictures are"


def check_free(input: str, pattern: str, options: Options) -> None:
    """Refuse to write among pictures of the same names, or where nothing can be written.

    Raises:
        UsageError: there are some, and `options.overwrite` is not set; they are the input's.
        OutputError: the folder is missing, or cannot be written.
    """
    if is_numbered(input) and os.path.realpath(input) == os.path.realpath(pattern):
        raise UsageError("the output is the input itself", path=pattern)
    check_output(input, numbered_name(pattern, 1), options.overwrite)
    with suppress(MediaError):
        existing = numbered_files(pattern)
        if not options.overwrite:
            raise UsageError(f"{existing[0]} exists; -y overwrites such pictures", path=pattern)


def upscale_numbered(input: str, output: str, options: Options, on_event: OnEvent) -> Result:
    """Upscale numbered pictures one by one, with everything that their files hold; numbers count from 1.

    Returns:
        What came out, all in all.

    Raises:
        UpscaleError: as `upscale.pictures.job.upscale_picture`, of the first that fails.
    """
    check_free(input, output, options)
    results = []
    with ExitStack() as stack:
        loaded = Loaded(stack, options)
        for number, path in enumerate(numbered_files(input), 1):
            results.append(upscale_picture(path, numbered_name(output, number), options, on_event, loaded))
    seconds = sum(result.seconds for result in results)
    return replace(
        results[-1],
        input=input,
        output=output,
        frames=len(results),
        bytes=sum(result.bytes or 0 for result in results),
        seconds=seconds,
        fps=len(results) / seconds,
        expected_frames=len(results),
        warnings=tuple(dict.fromkeys(w for result in results for w in result.warnings)),
    )
