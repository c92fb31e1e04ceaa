"""`upscale IN [OUT]`: the options of the main command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from upscale.cli.text import say
from upscale.cli.timecode import parse_time
from upscale.errors import UpscaleError, UsageError
from upscale.media.input.address import is_live
from upscale.options import RESAMPLERS, TARGETS, Options

if TYPE_CHECKING:
    from upscale.events import OnEvent

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Commands (a file of that name is ./bench):
  upscale bench [FILE]        measure this machine, or predict how long FILE takes
  upscale compare IN          a sheet and a video of IN through every model; figures with --reference
  upscale doctor              versions of everything here, and what is wrong
  upscale info MODEL|FILE     what a model costs; what would become of a video's streams
  upscale score ...           PSNR, SSIM, LPIPS, ... of models on pictures and clips with a known truth
  upscale train ...           train a network

\b
Exit codes: 0 done, 1 failed, 2 refused before any work, 3 done but the input was damaged,
130 and 143 stopped by a signal."""


class Time(click.ParamType[float]):
    """Seconds or [HH:]MM:SS[.mmm]."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_time(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", ctx, param)
        pairs[key] = rest
    return pairs


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import av

    from upscale.version import __version__

    click.echo(f"upscale {__version__} (PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info})")
    ctx.exit()


def _list(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from upscale.cli.listing import print_lists

    print_lists()
    ctx.exit()


def _stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


size_options = _stack(
    click.option("--target", type=click.Choice(list(TARGETS)), help="Short side of the result [720p]."),
    click.option("--scale", type=float, metavar="N", help="Factor on both sides."),
    click.option("--width", type=int, metavar="N", help="Width; alone it keeps the aspect."),
    click.option("--height", type=int, metavar="N", help="Height; alone it keeps the aspect."),
)
encoding_options = _stack(
    click.option("-c:v", "--codec", "codec", metavar="NAME", help="Encoder, e.g. libx264, libx265, ffv1."),
    click.option("-crf", "--crf", "crf", type=float, metavar="N", help="Constant quality of the encoder."),
    click.option("-preset", "--preset", "preset", metavar="NAME", help="Preset of the encoder."),
    click.option("-pix_fmt", "--pix-fmt", "pix_fmt", metavar="NAME", help="Pixel format [the input's]."),
    click.option("-e", "pairs", multiple=True, callback=_pairs, metavar="KEY=VALUE", help="Encoder option."),
    click.option("-f", "--container", "container", metavar="NAME", help="Output format [from its name]."),
)
_part = _stack(
    click.option("-ss", "start", type=Time(), help="Begin here: seconds or HH:MM:SS.mmm."),
    click.option("-t", "length", type=Time(), help="Keep this much."),
    click.option("-to", "stop", type=Time(), help="End here, on the input's clock."),
    click.option("-an", "no_audio", is_flag=True, help="Leave out audio."),
    click.option("-sn", "no_subtitles", is_flag=True, help="Leave out subtitles."),
    click.option("--keep-interlaced", is_flag=True, help="Refuse interlaced video, do not deinterlace."),
    click.option("--strict", is_flag=True, help="Refuse damaged video, do not finish what can be read."),
)
network_options = _stack(
    click.option("--model", metavar="NAME|FILE", help=f"Model, weights file, {' or '.join(RESAMPLERS)}."),
    click.option("--backend", metavar="NAME", help="onnx, torch, tflite or auto (the fastest here)."),
    click.option("--precision", metavar="NAME", help="fp32, bf16, fp16, int8 or auto (fastest near fp32)."),
    click.option("--device", metavar="NAME", help="cpu, cuda, mps, ... [the runtime's choice]."),
    click.option(
        "--threads", type=click.IntRange(1), metavar="N", help="Threads of the network [all cores]."
    ),
)
_reuse = click.option("--no-reuse", "reuse", flag_value=False, default=None,
                      help="Compute unchanged parts of the picture too.")  # fmt: skip
_live = _stack(
    click.option(
        "--realtime/--no-realtime",
        default=None,
        help="Drop frames before the network if the machine cannot keep up [cameras, RTSP, RTP, UDP].",
    ),
    click.option(
        "--timeout", type=float, metavar="S", help="URLs, cameras: seconds of silence that end it [20]."
    ),
    click.option(
        "--input-option",
        "input_pairs",
        multiple=True,
        callback=_pairs,
        metavar="KEY=VALUE",
        help="URLs, cameras: e.g. rtsp_transport=tcp, video_size=640x360.",
    ),
)
_strength = click.option("--strength", type=float, metavar="0-1",
                         help="From the fidelity model (0) to the GAN model (1) [1].")  # fmt: skip
_files = _stack(
    click.option("-o", "--output", "named", metavar="OUT", help="Output, instead of the second argument."),
    click.option("-y", "--overwrite", "yes", is_flag=True, help="Replace what exists."),
    click.option("-n", "--no-overwrite", "no", is_flag=True, help="Never replace (the default)."),
    click.option("-r", "--recursive", is_flag=True, help="Directories: subfolders too."),
    click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="Directories: files at once [1]."),
    click.option("--no-resume", is_flag=True, help="Write long jobs in one go, not in segments."),
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Let the workers of a Dask scheduler do it; local starts one here.",
    ),
    click.option("--skip-existing", is_flag=True, help="Leave out what is done (directories: the default)."),
)
_talk = _stack(
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
    click.option("-v", "--verbose", is_flag=True, help="Say more; show where an error came from."),
    click.option("--no-progress", is_flag=True, help="No progress display."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object per line on stdout."),
    click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list,
                 help="Show models, backends, devices and encoders."),
    click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
                 help="Show the version, PyAV's and FFmpeg's."),
)  # fmt: skip


@click.command(
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.argument("input", metavar="IN")
@click.argument("output", metavar="[OUT]", required=False)
@size_options
@encoding_options
@_part
@_live
@network_options
@_strength
@_reuse
@_files
@_talk
def run(input: str, output: str | None, named: str | None, **given: Any) -> int:
    """Upscale the video IN to OUT, or every video of the directory IN into the directory OUT.

    Without OUT the result is written beside IN as NAME_720p.EXT. IN and OUT may be - for stdin and
    stdout. Everything else in the file (audio, subtitles, chapters, metadata, timestamps) is kept.
    """
    if output is not None and named is not None:
        raise click.UsageError("the output is given twice: as OUT and with -o")
    output = output if named is None else named
    if output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal: redirect it, or name a file")
    talk = {name: given.pop(name) for name in ("quiet", "verbose", "no_progress", "as_json")}
    options = make_options(**given)
    if given["skip_existing"] and _exists(input, output, options):
        return 0
    return start(input, output, options, **talk)


def make_options(
    *,
    length: float | None,
    pairs: dict[str, str],
    no_audio: bool,
    no_subtitles: bool,
    backend: str | None,
    yes: bool,
    no: bool,
    skip_existing: bool,
    no_resume: bool,
    start: float | None,
    stop: float | None,
    input_pairs: dict[str, str] | None = None,
    **same: Any,
) -> Options:
    """The command line's values as `Options`; what was not given keeps the dataclass's default."""
    if length is not None and stop is not None:
        raise click.UsageError("-t and -to exclude each other")
    if yes and (no or skip_existing):
        raise click.UsageError("-y excludes -n and --skip-existing")
    if length is not None:
        stop = (start or 0.0) + length
    if stop is not None and stop <= (start or 0.0):
        raise click.UsageError("nothing is left between -ss and its end")
    fields = {k: v for k, v in same.items() if k in Options.__dataclass_fields__ and v is not None}
    if backend is not None:
        fields["backend"] = backend
    return Options(
        encoder_options=pairs,
        input_options=input_pairs or {},
        start=start,
        stop=stop,
        audio=not no_audio,
        subtitles=not no_subtitles,
        overwrite=yes,
        resume=not no_resume,
        **fields,
    )


def _exists(input: str, output: str | None, options: Options) -> bool:
    """Whether a single file's output is there; says so."""
    if input == "-" or is_live(input) or os.path.isdir(input):
        return False
    from upscale.job.naming import resolve_output

    path, _ = resolve_output(input, output, options)
    if path == "-" or not os.path.exists(path):
        return False
    say(f"skipped: {path} is there already", input)
    return True


def start(
    input: str,
    output: str | None,
    options: Options,
    *,
    quiet: bool,
    verbose: bool,
    no_progress: bool,
    as_json: bool,
) -> int:
    """Run the job with a listener; returns the exit code."""
    from upscale.cli.progress import listener

    with listener(
        quiet=quiet, verbose=verbose, progress=not no_progress, as_json=as_json, to_stderr=output == "-"
    ) as show:
        if input != "-" and not is_live(input) and os.path.isdir(input):
            from upscale.jobs.batch import upscale_directory

            return 1 if upscale_directory(input, output, options, show).failed else 0
        return _one(input, output, options, show, as_json)


def _one(input: str, output: str | None, options: Options, show: OnEvent, as_json: bool) -> int:
    """Upscale one file; for those who read JSON a failure is an event too."""
    from upscale.api import upscale_file
    from upscale.events import Failed

    try:
        return 3 if upscale_file(input, output, options, show).damaged else 0
    except UpscaleError as error:
        if as_json:
            show(Failed(input=input, message=str(error), exit_code=error.exit_code))
        raise
    except Exception as error:
        error.upscale_path = input  # type: ignore[attr-defined]
        raise
