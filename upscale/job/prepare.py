"""What every job does before its first frame: open the input, plan the output, load the network."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from upscale.errors import UsageError
from upscale.job import naming
from upscale.job.parallel import interruptible
from upscale.options import RESAMPLERS, Options

if TYPE_CHECKING:
    from upscale.backends.variants import Variant
    from upscale.frame.upscaler import FrameUpscaler
    from upscale.job.live import LiveJob
    from upscale.media.input.parts import PartSource
    from upscale.media.input.probe import VideoInfo
    from upscale.media.output.plan import Plan
    from upscale.model.weights import ModelFiles

#: What runs the resamplers.
RESAMPLER_RUNTIME = "swscale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An opened input and everything that is decided about its output.

    Attributes:
        input, output: paths; "-" for stdin and stdout.
        options: of the job.
        source: the opened input, not read yet.
        plan: for the output.
        model: the weights files, or the resampler's name.
        notes: human-readable, in the order in which they were found.
    """

    input: str
    output: str
    options: Options
    source: PartSource
    plan: Plan
    model: ModelFiles | str
    notes: tuple[str, ...]

    @property
    def video(self) -> VideoInfo:
        """The description of the video to enlarge."""
        return self.source.info_video

    @property
    def model_name(self) -> str:
        """The network's or the resampler's."""
        return self.model if isinstance(self.model, str) else self.model.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What enlarges the frames.

    Attributes:
        upscaler: callable for one frame.
        backend: human-readable.
        workers: frames to upscale at once.
    """

    upscaler: FrameUpscaler
    backend: str
    workers: int


def prepare(
    stack: ExitStack, input: str, output: str | None, options: Options, live: LiveJob | None = None
) -> Prepared:
    """Open an input, check the output's name, and plan. Nothing is written.

    Args:
        stack: closes the input when it is left.
        input, output, options: as `upscale.upscale_file`.
        live: told of what was opened; what it refuses is refused.

    Raises:
        UpscaleError: as `upscale.upscale_file`.
    """
    from upscale.job.sizing import target_size
    from upscale.media.output.plan import make_plan
    from upscale.system.safe_file import check_output

    path, note = naming.resolve_output(input, output, options)
    check_output(input, path, options.overwrite)
    model = find_model(options)
    source = open_source(input, options)
    stack.callback(source.close)
    if live is not None:
        live.opened(source)
    size = target_size(source.info_video, options)
    plan = make_plan(source.info, path, options, size, source.frame_format)
    if live is not None:
        live.check(source, plan)
    notes = [*([note] if note else []), *source.notes, *plan.warnings]
    return Prepared(
        input=input, output=path, options=options, source=source, plan=plan, model=model, notes=tuple(notes)
    )


def open_source(input: str, options: Options) -> PartSource:
    """The input, with the options that concern reading."""
    from upscale.media.input.parts import PartSource

    def opened() -> PartSource:
        return PartSource(input, options)

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


def with_fixed_backend(options: Options) -> Options:
    """`options` with "auto" replaced by its choice for ordinary sizes, for jobs that must all use one.

    The precision stays open where it was: it depends on each file's bit depth.
    """
    model = find_model(options)
    if options.backend != "auto" or isinstance(model, str):
        return options
    from upscale.backends import auto

    found, _ = auto.choose(
        model, 360, 640, precision=options.precision, device=options.device, threads=options.threads
    )
    return replace(options, backend=found.backend)


def choose_runtime(job: Prepared, before: Variant | None = None) -> Variant | None:
    """The runtime, precision and device that were asked for, or the fastest here.

    Args:
        before: what an earlier run of the job has used: chosen again unless the options forbid it.

    Returns:
        None for a resampler, which is swscale's.
    """
    if isinstance(job.model, str):
        return None
    from av import VideoFormat

    from upscale.backends import auto
    from upscale.media.pixels.planes import bit_depth

    o, video = job.options, job.video
    if before is not None:
        wanted = ((o.backend, before.backend), (o.precision, before.precision), (o.device, before.device))
        if all(asked in ("auto", None, used) for asked, used in wanted):
            return before
    found, _ = auto.choose(
        job.model, video.height, video.width,
        backend=o.backend, precision=o.precision, device=o.device, threads=o.threads,
        bits=bit_depth(VideoFormat(job.source.frame_format)),
    )  # fmt: skip
    return found


def load_network(stack: ExitStack, job: Prepared, runtime: Variant | None) -> Network:
    """Load the network into a runtime.

    Args:
        stack: frees it when it is left.
        runtime: of `choose_runtime`.

    Raises:
        BackendError, ModelError, UsageError: as `upscale.backends.load`.
    """
    from upscale.frame.upscaler import FrameUpscaler
    from upscale.system.cores import plan_threads

    workers = plan_threads(job.options.threads).workers
    if isinstance(job.model, str) or runtime is None:
        resampler = FrameUpscaler(None, job.plan.size, job.model_name)
        return Network(upscaler=resampler, backend=RESAMPLER_RUNTIME, workers=workers)
    from upscale import backends
    from upscale.backends import auto

    loaded = backends.load(
        runtime.backend,
        job.model,
        precision=runtime.precision,
        device=runtime.device,
        threads=job.options.threads,
    )
    backend = stack.enter_context(auto.watched(loaded, job.model, runtime))
    config = job.model.config if job.options.reuse else None
    upscaler = FrameUpscaler(backend, job.plan.size, RESAMPLERS[0], config)
    return Network(upscaler=upscaler, backend=backend.description, workers=workers)
