"""`upscale IN... [OUT]`, the main command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from upscale.cli.arguments import (
    COMMANDS,
    CONTEXT,
    encoding_options,
    flag,
    input_options,
    make_options,
    network_options,
    options,
    size_options,
)
from upscale.errors import UpscaleError, UsageError
from upscale.media.input.address import is_live
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.events import OnEvent

_CALLS = "\n".join(
    f"  {f'upscale {name} {usage}':27} {summary}" for name, (usage, summary) in COMMANDS.items()
)
EPILOG = f"""\b
Commands (a file of that name is ./bench):
{_CALLS}

\b
Exit codes: 0 done, 1 failed, 2 refused before any work, 3 done but the input was damaged,
130 and 143 stopped by a signal."""


def _version() -> None:
    import av

    from upscale.version import __version__

    click.echo(f"upscale {__version__} (PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info})")


def _list() -> None:
    from upscale.cli.listing import print_lists

    print_lists()


def _instead(show: Callable[[], None]) -> Callable[[click.Context, click.Parameter, bool], None]:
    """A callback of a flag that shows something and ends the command."""

    def callback(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            show()
            ctx.exit()

    return callback


def _no_flag_needed(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(f"the input needs no -i: upscale {value} [OUT]", ctx)


_network_extras = options(
    click.option("--strength", type=float, metavar="0-1",
                 help="From the fidelity model (0) to the GAN model (1) [1]."),
    click.option("--no-reuse", "reuse", flag_value=False, default=None,
                 help="Compute unchanged parts of the picture too."),
)  # fmt: skip
_file_options = options(
    click.option("-o", "--output", "named", metavar="OUT", help="Output, instead of the last argument."),
    click.option("-i", hidden=True, expose_value=False, callback=_no_flag_needed),
    flag("-y", "--overwrite", help="Replace what exists."),
    flag("-n", "--no-overwrite", help="Never replace (the default)."),
    flag("-r", "--recursive", help="Directories: subfolders too."),
    click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="Several files: at once [1]."),
    flag("--no-resume", help="Write long jobs in one go, not in segments."),
    click.option("--cluster", metavar="ADDRESS",
                 help="Let the workers of a Dask scheduler do it; local starts one here."),
    flag("--skip-existing", "skip_done", help="Leave out what is done (several files: the default)."),
)  # fmt: skip
_display_options = options(
    flag("-q", "--quiet", help="Say nothing but errors."),
    flag("-v", "--verbose", help="Say more; show where an error came from."),
    flag("--no-progress", help="No progress display."),
    flag("--json", "as_json", help="One JSON object per line on stdout."),
    click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_instead(_list),
                 help="Show models, backends, devices and encoders."),
    click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_instead(_version),
                 help="Show the version, PyAV's and FFmpeg's."),
)  # fmt: skip


@click.command(epilog=EPILOG, context_settings=CONTEXT)
@click.argument("paths", metavar="IN... [OUT]", nargs=-1, required=True)
@size_options
@encoding_options
@input_options
@network_options
@_network_extras
@_file_options
@_display_options
def run(paths: tuple[str, ...], **given: Any) -> int:
    """Upscale the video or picture IN to OUT, or all of the directory IN into the directory OUT.

    Without OUT the result is written beside IN as NAME_720p.EXT. Several inputs need a directory as OUT.
    IN and OUT may be - for stdin and stdout, or numbered pictures, frames/%04d.png. Everything else in the
    file (audio, subtitles, chapters, metadata, timestamps) is kept.
    """
    if paths[0] in COMMANDS:
        raise click.UsageError(f"a command comes first: upscale {paths[0]} ...; a file is ./{paths[0]}")
    if given["overwrite"] and (given["no_overwrite"] or given["skip_done"]):
        raise click.UsageError("-y excludes -n and --skip-existing")
    inputs, output = inputs_and_output(paths, given["named"])
    if output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal: redirect it, or name a file")
    job = Job(inputs, output, make_options(given), given["skip_done"], given["as_json"])
    if given["named"] is None and not given["overwrite"] and not given["skip_done"]:
        job.refuse_two_inputs()
    from upscale.cli.progress import listener

    with listener(
        quiet=given["quiet"],
        verbose=given["verbose"],
        progress=not given["no_progress"],
        as_json=given["as_json"],
        to_stderr=output == "-",
    ) as show:
        return job.run(show)


def inputs_and_output(paths: tuple[str, ...], named: str | None) -> tuple[tuple[str, ...], str | None]:
    """Which of the names are inputs, and where the result goes: named with -o, or by the last of them.

    Raises:
        UsageError: several inputs, and the last name is no directory.
    """
    if named is not None:
        if len(paths) == 2 and not os.path.exists(paths[1]):
            raise click.UsageError(f"the output is given twice: as {paths[1]} and with -o")
        return paths, named
    if len(paths) == 1:
        return paths, None
    output = paths[-1]
    if len(paths) > 2 and not (os.path.isdir(output) or output.endswith(("/", os.sep))):
        raise click.UsageError("several inputs need a directory for the results: -o DIR")
    return paths[:-1], output


@dataclass(frozen=True, slots=True)
class Job:
    """What the command line asks for.

    Attributes:
        inputs, output: as `inputs_and_output` gives them.
        options: of the library call.
        skip_done: a single file whose output exists is skipped, as in a directory.
        as_json: for those who read JSON a failure is an event, too.
    """

    inputs: tuple[str, ...]
    output: str | None
    options: Options
    skip_done: bool | None = None
    as_json: bool | None = None

    def refuse_two_inputs(self) -> None:
        """``upscale a.mp4 b.mp4``, both of them videos: maybe meant as two inputs, and -y would destroy one.

        Raises:
            UsageError: so it is.
        """
        from upscale.job.naming import EXTENSIONS

        output = self.output
        if output and os.path.isfile(output) and _extension(output) in EXTENSIONS:
            how = "two names are an input and its output; to upscale both, name a directory: -o DIR"
            raise UsageError(f"exists already; {how}", path=output)

    def run(self, show: OnEvent) -> int:
        """Make the one library call; returns the exit code."""
        from upscale import api
        from upscale.events import Failed

        input, output = self.inputs[0], self.output
        try:
            if len(self.inputs) > 1:
                assert output is not None
                return api.upscale_files(self.inputs, output, self.options, show).exit_code
            if input != "-" and not is_live(input):
                if os.path.isdir(input):
                    return api.upscale_directory(input, output, self.options, show).exit_code
                if self.skip_done and self._is_done(show):
                    return 0
            return 3 if api.upscale_file(input, output, self.options, show).damaged else 0
        except UpscaleError as error:
            if self.as_json:
                show(Failed(input=input, message=str(error), exit_code=error.exit_code))
            raise
        except Exception as error:
            error.upscale_path = input  # type: ignore[attr-defined]
            raise

    def _is_done(self, show: OnEvent) -> bool:
        """Whether a single file's output exists; reports that."""
        from upscale.events import Skipped
        from upscale.job.naming import resolve_output

        path, _ = resolve_output(self.inputs[0], self.output, self.options)
        if path == "-" or not os.path.exists(path):
            return False
        show(Skipped(input=self.inputs[0], reason=f"{path} exists already"))
        return True


def _extension(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()
