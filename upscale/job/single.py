"""One video in, one video out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from upscale.errors import UpscaleError
from upscale.events import OnEvent, Result, ignore
from upscale.job.live import LiveJob, run_apart
from upscale.job.loop import Loop
from upscale.job.prepare import (
    Prepared,
    choose_runtime,
    find_model,
    load_network,
    prepare,
    with_fixed_backend,
)
from upscale.job.report import Effort, ProgressMeter, Reporter
from upscale.options import Options
from upscale.system import memory

if TYPE_CHECKING:
    from upscale.media.output.sink import OutputReport

__all__ = ["find_model", "upscale_file", "with_fixed_backend"]


def upscale_file(
    input: str, output: str | None = None, options: Options | None = None, on_event: OnEvent = ignore
) -> Result:
    """Upscale one video.

    A long job is written in segments first, and goes on where an earlier run of it was stopped
    (`upscale.jobs.resume.resume`), unless `Options.resume` is False.

    Args:
        input: path, "-" for stdin, a URL or a capture device (`upscale.media.input.address`).
        output: path, a directory to put the default name into, "-" for stdout, or None for the
            default name beside the input (`upscale.job.naming.default_output`).
        options: see `Options`.
        on_event: called in this thread with `Start`, `Resumed`, `Warned`, `Progress` and, at the end,
            `Result`.

    Raises:
        UpscaleError: a subclass says what went wrong; nothing is left under the output's name
            that was not there before.
        KeyboardInterrupt: handed on after all threads have stopped and the unfinished file is gone;
            with a URL or a device as the input, after what was recorded is finished under its name.
    """
    options = options or Options()
    if options.cluster is not None:
        from upscale.jobs.cluster.client import upscale_on_cluster

        return upscale_on_cluster(input, output, options, on_event)
    try:
        live = LiveJob(input, options)
        if live.live:
            return run_apart(lambda put: _upscale(input, output, options, put, live), live.stop, on_event)
        return _upscale(input, output, options, on_event, live)
    except UpscaleError as error:
        error.path = error.path or input
        raise
    finally:
        memory.give_back()


def _upscale(input: str, output: str | None, options: Options, on_event: OnEvent, live: LiveJob) -> Result:
    from upscale.jobs.resume.segments import segment_length

    reporter = Reporter(input, on_event)
    with ExitStack() as stack:
        job = prepare(stack, input, output, options, live)
        for note in job.notes:
            reporter.warn(note)
        if not live.gated and segment_length(job):
            from upscale.jobs.resume.resume import run_long

            return run_long(stack, job, reporter)
        return _run(stack, job, reporter, live)


def _run(stack: ExitStack, job: Prepared, reporter: Reporter, live: LiveJob) -> Result:
    """The whole job in one go."""
    from upscale.media.output.sink import Sink

    network = load_network(stack, job, choose_runtime(job))
    source = job.source
    known = len(source.notes)
    sink = stack.enter_context(Sink(source, job.output, job.plan, job.options))
    reporter.announce(job, network.model, network.backend)
    meter = ProgressMeter(job.input, source.estimated_frames, reporter.send, live=live)
    loop: Loop[OutputReport] = Loop(source, network.upscaler, sink, meter, network.workers, live)
    try:
        loop.run()
    finally:
        if loop.hangs:
            source.abandon()
    for message in source.notes[known:]:  # what showed only now
        reporter.warn(message)
    report = loop.finish()
    return reporter.result(job, Effort.of(loop, network), source.stats, report, live=live)
