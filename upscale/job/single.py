"""One opened input, upscaled in one go."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from upscale.events import Result
from upscale.job.live import LiveJob
from upscale.job.loop import Loop
from upscale.job.prepare import Prepared, choose_runtime, load_network
from upscale.job.report import ProgressMeter, Reporter

if TYPE_CHECKING:
    from upscale.media.output.sink import OutputReport


def run_single(stack: ExitStack, job: Prepared, reporter: Reporter, live: LiveJob) -> Result:
    """Do the whole job, without segments.

    Raises:
        UpscaleError: as `upscale.upscale_file`; nothing is left under the output's name.
    """
    from upscale.media.output.sink import Sink

    network = load_network(stack, job, choose_runtime(job))
    source = job.source
    known = len(source.notes)
    sink = stack.enter_context(Sink(source, job.output, job.plan, job.options))
    reporter.announce(job, network.backend)
    meter = ProgressMeter(job.input, source.estimated_frames, reporter.send, live=live)
    loop: Loop[OutputReport] = Loop(network, sink, meter, live)
    loop.run(source, source.abandon)
    for message in source.notes[known:]:  # what showed only now
        reporter.warn(message)
    report = loop.finish()
    return reporter.result(job, loop.stats, source.stats, report, live=live)
