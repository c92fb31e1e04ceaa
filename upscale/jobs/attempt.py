"""One file of several: what became of it, in place of an exception that would stop the others."""

from __future__ import annotations

from upscale.errors import Interrupted, LargeEnough, NoVideo, UpscaleError
from upscale.events import Failed, OnEvent, Result, Skipped
from upscale.jobs.resume.local import Task, upscale_here
from upscale.options import Options

Outcome = Result | Skipped | Failed


def attempt(task: Task, options: Options, on_event: OnEvent) -> Outcome:
    """`upscale.upscale_file`, with every error as an outcome. Interruptions are handed on."""
    try:
        return upscale_here(task.input, task.output, options, on_event)
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
