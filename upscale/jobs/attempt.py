"""One file of several: what became of it, in place of an exception that would stop the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from upscale.errors import Interrupted, LargeEnough, NoVideo, UpscaleError
from upscale.events import Failed, OnEvent, Result, Skipped
from upscale.options import Options
from upscale.prepare import find_model

Outcome = Result | Skipped | Failed


@dataclass(frozen=True, slots=True)
class Task:
    """One input and where its result goes (None: beside it)."""

    input: str
    output: str | None


def attempt(task: Task, options: Options, on_event: OnEvent) -> Outcome:
    """`upscale.upscale_file`, with every error as an outcome. Interruptions are handed on."""
    from upscale.pipeline import upscale_file

    try:
        return upscale_file(task.input, task.output, options, on_event)
    except Interrupted:
        raise
    except Exception as error:
        return outcome_of(error, task.input)


def outcome_of(error: Exception, input: str) -> Skipped | Failed:
    """What an error means for one file of a directory: it is left out, or failed."""
    match error:
        case LargeEnough() | NoVideo():
            return Skipped(input=input, reason=str(error))
        case UpscaleError():
            return Failed(input=input, message=str(error), exit_code=error.exit_code)
        case _:  # a fault of ours in one file must not cost the user the others
            return Failed(input=input, message=f"internal error: {error!r}", exit_code=1)


def with_fixed_backend(options: Options) -> Options:
    """`options` with "auto" replaced by its choice for ordinary sizes, for jobs that must all use one."""
    model = find_model(options)
    if options.backend != "auto" or isinstance(model, str):
        return options
    from upscale import backends

    name, _ = backends.choose(model, 360, 640, device=options.device, threads=options.threads)
    return replace(options, backend=name)
