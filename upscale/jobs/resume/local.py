"""One file on this machine: in one go, or in segments where that is worth it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from upscale.errors import UpscaleError
from upscale.events import OnEvent, Result
from upscale.job.live import LiveJob, run_in_thread
from upscale.job.naming import resolve_output
from upscale.job.prepare import prepare
from upscale.job.report import Reporter
from upscale.job.single import run_single
from upscale.jobs.resume.resume import run_long
from upscale.jobs.resume.segments import segment_length
from upscale.jobs.resume.work_folder import remove_joined
from upscale.options import Options
from upscale.system import memory


@dataclass(frozen=True, slots=True)
class Task:
    """One input and where its result goes (None: beside it)."""

    input: str
    output: str | None


def upscale_here(input: str, output: str | None, options: Options, on_event: OnEvent) -> Result:
    """`upscale.upscale_file` in this process; `options.cluster` is not looked at."""
    try:
        live = LiveJob(input, options)
        if live.live:
            return run_in_thread(lambda put: _upscale(input, output, options, put, live), live.stop, on_event)
        return _upscale(input, output, options, on_event, live)
    except UpscaleError as error:
        error.path = error.path or input
        raise
    finally:
        memory.trim_heap()


def _upscale(input: str, output: str | None, options: Options, on_event: OnEvent, live: LiveJob) -> Result:
    reporter = Reporter(input, on_event)
    path, _ = resolve_output(input, output, options)
    if path != "-":
        remove_joined(path)
    with ExitStack() as stack:
        job = prepare(stack, input, output, options, live)
        for note in job.notes:
            reporter.warn(note)
        if not live.gated and segment_length(job):
            return run_long(stack, job, reporter)
        return run_single(stack, job, reporter, live)
