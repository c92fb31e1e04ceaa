"""What the package offers: which way a job goes."""

from __future__ import annotations

from upscale.events import OnEvent, Result, ignore
from upscale.options import Options


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
    from upscale.jobs.resume.local import upscale_here

    return upscale_here(input, output, options, on_event)
