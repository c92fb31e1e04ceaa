"""One picture in, one larger picture out."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from upscale.errors import UsageError
from upscale.events import OnEvent, Result, Start, ignore
from upscale.job import naming
from upscale.job.prepare import find_model
from upscale.job.report import Reporter
from upscale.job.sizing import target_size
from upscale.options import DEFAULTS, Options
from upscale.pictures.enlarge import Enlarger
from upscale.pictures.metadata import resized
from upscale.pictures.picture import Picture
from upscale.pictures.read import read_picture
from upscale.pictures.write import check_format, output_format, write_picture
from upscale.system.safe_file import STDIO, check_output

#: Options that only mean something for videos, and how they are called on the command line.
_VIDEO_OPTIONS = {
    "codec": "-c:v",
    "crf": "-crf",
    "preset": "-preset",
    "pix_fmt": "-pix_fmt",
    "container": "-f",
    "encoder_options": "-e",
    "start": "-ss",
    "stop": "-to",
}


class Loaded:
    """A network that is loaded for the first picture and kept for further ones of as many bits."""

    def __init__(self, stack: ExitStack, options: Options) -> None:
        """
        Args:
            stack: frees the network when it is left.

        Raises:
            UsageError, ModelError: as `upscale.job.prepare.find_model`.
        """
        self._stack, self._options = stack, options
        self._model = find_model(options)
        self._enlargers: dict[int, tuple[str, Enlarger]] = {}
        self.model = self._model if isinstance(self._model, str) else self._model.name

    def for_picture(self, picture: Picture) -> tuple[str, Enlarger]:
        """Name of the runtime, and what enlarges pictures such as this one.

        Raises:
            BackendError, ModelError, UsageError: as `upscale.backends.load`.
        """
        found = self._enlargers.get(picture.bits)
        if found is None:
            found = self._enlargers[picture.bits] = self._load(picture)
        return found

    def _load(self, picture: Picture) -> tuple[str, Enlarger]:
        o, model = self._options, self._model
        if isinstance(model, str):
            return "Pillow", Enlarger(backend=None, kernel=model)
        from upscale import backends
        from upscale.backends import auto
        from upscale.frame.reuse import ReceptiveField
        from upscale.system.cores import plan_threads

        way, _ = auto.choose(
            model, picture.height, picture.width,
            backend=o.backend, precision=o.precision, device=o.device, threads=o.threads, bits=picture.bits,
        )  # fmt: skip
        backend = self._stack.enter_context(
            backends.load(way.backend, model, precision=way.precision, device=way.device, threads=o.threads)
        )
        reach = None if model.config is None else ReceptiveField.of(model.config)
        workers = plan_threads(o.threads).workers
        return backend.description, Enlarger(backend=backend, reach=reach, workers=workers)


def upscale_picture(
    input: str,
    output: str | None = None,
    options: Options = DEFAULTS,
    on_event: OnEvent = ignore,
    loaded: Loaded | None = None,
) -> Result:
    """Upscale one still picture.

    Args:
        input, output, options: as `upscale.upscale_file`; the output's extension decides its format, the
            default is the input's.
        on_event: called with `Warned`, `Start` and, at the end, `Result`.
        loaded: the network, where several pictures share it.

    Raises:
        UpscaleError: as `upscale.upscale_file`; nothing is left under the output's name that was not there
            before.
    """
    reporter = Reporter(input, on_event)
    path, _ = naming.resolve_output(input, output, options)
    if path == STDIO:
        raise UsageError("name a file for a picture: stdout takes videos")
    check_output(input, path, options.overwrite)
    kind = output_format(path)
    with ExitStack() as stack:
        loaded = loaded or Loaded(stack, options)
        picture = read_picture(input)
        size = target_size(picture, options)
        for note in (*picture.notes, *check_format(picture, path), *_unused(options)):
            reporter.warn(note)
        decoded, cpu_begun = time.perf_counter(), time.process_time()
        backend, enlarger = loaded.for_picture(picture)
        start = Start(
            input=input,
            output=path,
            source_size=(picture.width, picture.height),
            size=size,
            frames=1,
            duration=None,
            model=loaded.model,
            strength=options.strength,
            backend=backend,
            encoder=kind,
            pix_fmt=picture.pix_fmt,
        )
        reporter.send(start)
        larger = enlarger(picture, size)
    enlarged = time.perf_counter()
    larger = replace(larger, metadata=resized(larger.metadata, size))
    written = write_picture(larger, path, overwrite=options.overwrite)
    ended = time.perf_counter()
    busy = {"decode": decoded - reporter.started, "network": enlarged - decoded, "encode": ended - enlarged}
    result = _result(start, written, busy, time.process_time() - cpu_begun, tuple(reporter.warnings))
    reporter.send(result)
    return result


def _result(
    start: Start, written: int, busy: dict[str, float], cpu_seconds: float, warnings: tuple[str, ...]
) -> Result:
    """What came of a picture; its stages follow each other."""
    seconds = sum(busy.values())
    return Result(
        input=start.input,
        output=start.output,
        frames=1,
        size=start.size,
        bytes=written,
        duration=0.0,
        seconds=seconds,
        fps=1 / seconds,
        speed=0.0,
        cpu_seconds=cpu_seconds,
        busy=busy,
        expected_frames=1,
        decode_errors=0,
        corrupt_frames=0,
        adjusted_timestamps=0,
        model=start.model,
        strength=start.strength,
        backend=start.backend,
        warnings=warnings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePreview:
    """What would become of a picture.

    Attributes:
        picture: what is in it.
        output: where the result would be.
        size: (width, height) of the result; None if the job would be refused.
        refused: why it would be.
        notes: what would be lost.
    """

    picture: Picture
    output: str
    size: tuple[int, int] | None
    refused: str | None
    notes: tuple[str, ...]


def preview_picture(input: str, output: str | None = None, options: Options = DEFAULTS) -> PicturePreview:
    """Read a picture and plan the job, without doing it.

    Raises:
        UpscaleError: the picture cannot be read.
    """
    path, _ = naming.resolve_output(input, output, options)
    picture = read_picture(input)
    try:
        size, notes = target_size(picture, options), (*picture.notes, *check_format(picture, path))
    except UsageError as error:
        return PicturePreview(
            picture=picture, output=path, size=None, refused=str(error), notes=picture.notes
        )
    return PicturePreview(picture=picture, output=path, size=size, refused=None, notes=notes)


def _unused(options: Options) -> list[str]:
    """A note on the options that a picture has no use for."""
    given = [
        option for name, option in _VIDEO_OPTIONS.items() if getattr(options, name) != getattr(DEFAULTS, name)
    ]
    return [f"{', '.join(given)} only for videos: not used"] if given else []
