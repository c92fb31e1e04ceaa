"""What the package offers: which way a job goes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upscale.errors import UpscaleError, UsageError
from upscale.events import OnEvent, Result, ignore
from upscale.jobs.batch import upscale_directory, upscale_files
from upscale.media.input.stills import picture_format
from upscale.options import Options
from upscale.pictures.names import is_numbered

if TYPE_CHECKING:
    from upscale.media.input.probe import MediaInfo
    from upscale.media.output.plan import Plan

__all__ = ["Preview", "preview", "upscale_directory", "upscale_file", "upscale_files"]

#: A path, or one of the words that stand for one: "-", a URL, a capture device.
Place = str | os.PathLike[str]


def upscale_file(
    input: Place, output: Place | None = None, options: Options | None = None, on_event: OnEvent = ignore
) -> Result:
    """Upscale one video or picture.

    A long job is written in segments first, and continues where an earlier run of it was stopped
    (`upscale.jobs.resume`), unless `Options.resume` is False.

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
        KeyboardInterrupt: passed on after all threads have stopped and the unfinished file is removed;
            with a URL or a device as the input, after what was recorded is finished under its name.
    """
    given, wanted, options = os.fspath(input), _path(output), options or Options()
    if options.cluster is not None and not _is_local(given, wanted):
        from upscale.jobs.cluster.client import upscale_on_cluster

        return upscale_on_cluster(given, wanted, options, on_event)
    from upscale.jobs.resume.local import upscale_here

    return upscale_here(given, wanted, options, on_event)


def _is_local(input: str, output: str | None) -> bool:
    """Whether a cluster has nothing to do with a job: pictures, also numbered ones."""
    return picture_format(input) is not None or any(is_numbered(name) for name in (input, output or ""))


def _path(place: Place | None) -> str | None:
    return None if place is None else os.fspath(place)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of a video.

    Attributes:
        info: what is in it.
        output: where the result would be.
        plan: what would be done with each stream; None if the job would be refused.
        refused: why it would be.
    """

    info: MediaInfo
    output: str
    plan: Plan | None
    refused: str | None


def preview(input: Place, output: Place | None = None, options: Options | None = None) -> Preview:
    """Read a video's headers and plan the job, without doing it.

    Args:
        input, output, options: as `upscale_file`; for a URL or a device the default name is
            ``recording.mkv``.

    Raises:
        UpscaleError: the input cannot be read, or holds no video.
    """
    from upscale.job.naming import resolve_output
    from upscale.job.parallel import interruptible
    from upscale.media.input.address import is_live
    from upscale.media.input.probe import probe

    name, options = os.fspath(input), options or Options()
    live = is_live(name)
    wanted = "recording.mkv" if live and output is None else _path(output)
    try:
        place, _ = resolve_output(name, wanted, options)

        def look() -> Preview:
            return Preview(probe(name), place, *_plan(name, place, options))

        # A silent stream would block this thread in a read that no signal can interrupt.
        return interruptible(look) if live else look()
    except UpscaleError as error:
        error.path = error.path or name
        raise


def _plan(input: str, output: str, options: Options) -> tuple[Plan | None, str | None]:
    """The plan, or why there is none."""
    from upscale.job.sizing import target_size
    from upscale.media.input.source import Source
    from upscale.media.output.plan import make_plan

    try:
        with Source(input) as source:
            assert source.info.video is not None
            size = target_size(source.info.video, options)
            plan = make_plan(source.info, output, options, size, source.frame_format)
            plan.warnings[:0] = source.notes
            return plan, None
    except UsageError as error:
        return None, str(error)
