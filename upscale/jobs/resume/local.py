"""One file on this machine: in one go, or in segments where that is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from upscale.errors import Interrupted, LargeEnough, NoVideo, UpscaleError, UsageError
from upscale.events import Failed, OnEvent, Result, Skipped
from upscale.job.live import LiveJob, run_in_thread
from upscale.job.naming import resolve_output
from upscale.job.prepare import prepare
from upscale.job.report import Reporter
from upscale.job.single import run_single
from upscale.jobs.resume.resume import run_long
from upscale.jobs.resume.segments import segment_length
from upscale.jobs.resume.work_folder import remove_joined
from upscale.media.input.stills import is_animated_webp, picture_format
from upscale.options import Options
from upscale.pictures.names import is_numbered
from upscale.system import memory

Outcome = Result | Skipped | Failed


@dataclass(frozen=True, slots=True)
class Task:
    """One input and where its result goes (None: beside it)."""

    input: str
    output: str | None


def upscale_here(input: str, output: str | None, options: Options, on_event: OnEvent) -> Result:
    """`upscale.upscale_file` in this process, whatever `options.cluster` is."""
    try:
        if picture_format(input) is not None:
            from upscale.pictures.job import upscale_picture

            return upscale_picture(input, output, options, on_event)
        if is_numbered(input) or (output is not None and is_numbered(output)):
            return _upscale_numbered(input, output, options, on_event)
        if is_animated_webp(input):
            from upscale.pictures.sequence import webp_as_video

            once = replace(options, resume=False)  # what comes through a pipe cannot be read again
            with webp_as_video(input):
                return _upscale(input, output, once, on_event, LiveJob(input, once))
        if options.fps is not None:
            raise UsageError("--fps is the rate of numbered pictures (frames/%04d.png); a video has its own")
        live = LiveJob(input, options)
        if live.live:
            return run_in_thread(lambda put: _upscale(input, output, options, put, live), live.stop, on_event)
        return _upscale(input, output, options, on_event, live)
    except UpscaleError as error:
        error.path = error.path or input
        raise
    finally:
        memory.trim_heap()


def _upscale_numbered(input: str, output: str | None, options: Options, on_event: OnEvent) -> Result:
    """Numbered pictures in, or out, or both."""
    from upscale.pictures import sequence

    if output is None:
        raise UsageError("numbered pictures need an output: a video, or numbered ones, out/%04d.png")
    if not is_numbered(input):
        return sequence.upscale_into_pictures(input, output, options, Reporter(input, on_event))
    if is_numbered(output):
        return sequence.upscale_numbered(input, output, options, on_event)
    with sequence.numbered_as_video(input, options) as notes:
        return _upscale(input, output, options, on_event, LiveJob(input, options), notes)


def _upscale(
    input: str,
    output: str | None,
    options: Options,
    on_event: OnEvent,
    live: LiveJob,
    notes: Sequence[str] = (),
) -> Result:
    reporter = Reporter(input, on_event)
    path, _ = resolve_output(input, output, options)
    if path != "-":
        remove_joined(path)
    with ExitStack() as stack:
        job = prepare(stack, input, output, options, live)
        for note in (*notes, *job.notes):
            reporter.warn(note)
        if not live.needs_queue and segment_length(job):
            return run_long(stack, job, reporter)
        return run_single(stack, job, reporter, live)


def attempt(task: Task, options: Options, on_event: OnEvent) -> Outcome:
    """One file of several: `upscale_here`, with every error as an outcome. Interruptions are raised."""
    try:
        return upscale_here(task.input, task.output, options, on_event)
    except Interrupted:
        raise
    except Exception as error:
        return outcome_of(error, task.input)


def outcome_of(error: Exception, input: str) -> Skipped | Failed:
    """What an error means for one file of several: it is left out, or failed."""
    match error:
        case LargeEnough() | NoVideo():
            return Skipped(input=input, reason=str(error))
        case UpscaleError():
            return Failed(input=input, message=str(error), exit_code=error.exit_code)
        case _:  # a bug of ours in one file must not cost the user the others
            return Failed(input=input, message=f"internal error: {error!r}", exit_code=1)
