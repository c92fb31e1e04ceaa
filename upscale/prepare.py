"""What every job does before its first frame: open the input, plan the output, load the network."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upscale import naming
from upscale.errors import UsageError
from upscale.options import RESAMPLERS, Options
from upscale.ordered import interruptible

if TYPE_CHECKING:
    from upscale.frames import FrameUpscaler
    from upscale.media.plan import Plan
    from upscale.media.probe import VideoInfo
    from upscale.media.source import Source
    from upscale.model.weights import ModelFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An opened input and everything that is decided about its output.

    Attributes:
        input, output: paths; "-" for stdin and stdout.
        options: of the job.
        source: the opened input, not read yet.
        plan: for the output.
        model: the weights files, or the resampler's name.
        notes: for people, in the order in which they were found.
    """

    input: str
    output: str
    options: Options
    source: Source
    plan: Plan
    model: ModelFiles | str
    notes: tuple[str, ...]

    @property
    def video(self) -> VideoInfo:
        """The description of the video to enlarge."""
        return self.source.info_video


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What enlarges the frames.

    Attributes:
        upscaler: callable for one frame.
        model, backend: names for people.
        runtime: name in `upscale.backends.NAMES`; "swscale" for a resampler.
        workers: frames to upscale at once.
    """

    upscaler: FrameUpscaler
    model: str
    backend: str
    runtime: str
    workers: int


def prepare(stack: ExitStack, input: str, output: str | None, options: Options) -> Prepared:
    """Open an input, check the output's name, and plan. Nothing is written.

    Args:
        stack: closes the input when it is left.
        input, output, options: as `upscale.upscale_file`.

    Raises:
        UpscaleError: as `upscale.upscale_file`.
    """
    from upscale.jobs.workfolder import remove_joined
    from upscale.media.plan import make_plan
    from upscale.media.safefile import check_output
    from upscale.sizing import target_size

    path, note = naming.resolve_output(input, output, options)
    if path != "-":
        remove_joined(path)
    check_output(input, path, options.overwrite)
    model = find_model(options)
    source = open_source(input, options)
    stack.callback(source.close)
    size = target_size(source.info_video, options)
    plan = make_plan(source.info, path, options, size, source.frame_format)
    notes = [*([note] if note else []), *source.notes, *plan.warnings]
    return Prepared(
        input=input, output=path, options=options, source=source, plan=plan, model=model, notes=tuple(notes)
    )


def open_source(input: str, options: Options) -> Source:
    """The input, with the options that concern reading."""
    from upscale.media.source import Source

    def opened() -> Source:
        return Source(
            input,
            start=options.start,
            stop=options.stop,
            keep_interlaced=options.keep_interlaced,
            audio=options.audio,
            subtitles=options.subtitles,
        )

    # A silent stdin would block this thread in a read that no signal can interrupt.
    return interruptible(opened) if input == "-" else opened()


def find_model(options: Options) -> ModelFiles | str:
    """The weights files of a job, or the resampler's name.

    Raises:
        UsageError, ModelError: as `upscale.model.weights.find_model`, or a resampler with a strength.
    """
    if options.model in RESAMPLERS:
        if options.strength is not None:
            raise UsageError(f"{options.model} has no weights to blend: leave the strength out")
        return str(options.model)
    from upscale.model import weights

    return weights.find_model(options.model, options.strength)


def choose_runtime(job: Prepared) -> str:
    """Name of the runtime that was asked for, or of the fastest one here; "swscale" for a resampler."""
    if isinstance(job.model, str):
        return "swscale"
    if job.options.backend != "auto":
        return job.options.backend
    from upscale import backends

    o, video = job.options, job.video
    return backends.choose(job.model, video.height, video.width, device=o.device, threads=o.threads)[0]


def load_network(stack: ExitStack, job: Prepared, runtime: str) -> Network:
    """Load the network into a runtime.

    Args:
        stack: frees it when it is left.
        runtime: of `choose_runtime`.

    Raises:
        BackendError, ModelError, UsageError: as `upscale.backends.load`.
    """
    from upscale.backends.threads import plan_threads
    from upscale.frames import FrameUpscaler

    workers = plan_threads(job.options.threads).workers
    if isinstance(job.model, str):
        upscaler = FrameUpscaler(None, job.plan.size, job.model)
        return Network(
            upscaler=upscaler, model=job.model, backend="swscale", runtime=runtime, workers=workers
        )
    from upscale import backends

    o = job.options
    backend = stack.enter_context(backends.load(runtime, job.model, device=o.device, threads=o.threads))
    return Network(
        upscaler=FrameUpscaler(backend, job.plan.size, RESAMPLERS[0]),
        model=job.model.name,
        backend=backend.description,
        runtime=runtime,
        workers=workers,
    )
