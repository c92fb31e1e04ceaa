"""One picture in, one larger picture out."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

from upscale.errors import UsageError
from upscale.events import OnEvent, Result, Start
from upscale.job import naming
from upscale.job.prepare import find_model
from upscale.job.report import Reporter
from upscale.job.sizing import target_size
from upscale.model.weights import ModelFiles
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


def upscale_picture(
    input: str, output: str | None = None, options: Options = DEFAULTS, on_event: OnEvent = lambda event: None
) -> Result:
    """Upscale one still picture.

    Args:
        input, output, options: as `upscale.upscale_file`; the output's extension decides its format, the
            default is the input's.
        on_event: called with `Start`, `Warned` and, at the end, `Result`.

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
    model = find_model(options)
    picture = read_picture(input)
    size = target_size(picture, options)
    notes = [*picture.notes, *check_format(picture, path), *_unused(options)]
    for note in notes:
        reporter.warn(note)
    decoded = time.perf_counter()
    with ExitStack() as stack:
        name, backend, enlarger = load_enlarger(stack, model, picture, options)
        reporter.send(
            Start(
                input=input,
                output=path,
                source_size=(picture.width, picture.height),
                size=size,
                frames=1,
                duration=None,
                model=name,
                strength=options.strength,
                backend=backend,
                encoder=kind,
                pix_fmt=picture.pix_fmt,
            )
        )
        processor = time.process_time()
        larger = enlarger(picture, size)
    enlarged = time.perf_counter()
    larger = replace(larger, metadata=resized(larger.metadata, size))
    size_bytes = write_picture(larger, path, overwrite=options.overwrite)
    ended = time.perf_counter()
    result = Result(
        input=input,
        output=path,
        frames=1,
        size=size,
        bytes=size_bytes,
        duration=0.0,
        seconds=ended - reporter.started,
        fps=1 / (ended - reporter.started),
        speed=0.0,
        cpu_seconds=time.process_time() - processor,
        busy={
            "decode": decoded - reporter.started,
            "network": enlarged - decoded,
            "encode": ended - enlarged,
        },
        expected_frames=1,
        decode_errors=0,
        corrupt_frames=0,
        adjusted_timestamps=0,
        model=name,
        strength=options.strength,
        backend=backend,
        warnings=tuple(reporter.warnings),
    )
    reporter.send(result)
    return result


def load_enlarger(
    stack: ExitStack, model: ModelFiles | str, picture: Picture, options: Options
) -> tuple[str, str, Enlarger]:
    """Names of the model and of the runtime, and what enlarges pictures such as this one.

    Args:
        stack: frees the network when it is left.

    Raises:
        BackendError, ModelError, UsageError: as `upscale.backends.load`.
    """
    if isinstance(model, str):
        return model, "Pillow", Enlarger(backend=None, kernel=model)
    from upscale import backends
    from upscale.backends import auto
    from upscale.frame.reuse import ReceptiveField
    from upscale.system.cores import plan_threads

    way, _ = auto.choose(
        model,
        picture.height,
        picture.width,
        backend=options.backend,
        precision=options.precision,
        device=options.device,
        threads=options.threads,
        bits=picture.bits,
    )
    backend = stack.enter_context(
        backends.load(way.backend, model, precision=way.precision, device=way.device, threads=options.threads)
    )
    reach = None if model.config is None else ReceptiveField.of(model.config)
    workers = plan_threads(options.threads).workers
    return model.name, backend.description, Enlarger(backend=backend, reach=reach, workers=workers)


def _unused(options: Options) -> list[str]:
    """A note on the options that a picture has no use for."""
    given = [
        option for name, option in _VIDEO_OPTIONS.items() if getattr(options, name) != getattr(DEFAULTS, name)
    ]
    return [f"{', '.join(given)} only for videos: not used"] if given else []
