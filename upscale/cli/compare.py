"""`upscale compare`: the same moments through every way of enlarging."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from upscale.cli.run import Time
from upscale.cli.text import clean, say
from upscale.options import TARGETS

if TYPE_CHECKING:
    from upscale.compare.job import Report


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("input", metavar="IN")
@click.option("--reference", metavar="FILE", help="IN's original: it is shown, and figures are measured.")
@click.option("-o", "--output", metavar="FILE", help="The sheet, a PNG [IN_compare.png].")
@click.option("--video", metavar="FILE", help="Write a side-by-side video too (.mp4, .mkv, .mov).")
@click.option("--models", multiple=True, metavar="NAME|FILE[,...]", help="Models [all bundled ones].")
@click.option("--peers", metavar="DIR", help="Show the ONNX networks of DIR (luma or RGB) too.")
@click.option("--at", "times", multiple=True, type=Time(), metavar="TIME",
              help="A moment, seconds or HH:MM:SS.mmm; may be repeated [three].")  # fmt: skip
@click.option("--crop", "crops", multiple=True, metavar="X,Y,W,H",
              help="A region of the result, in its pixels; may be repeated [chosen].")  # fmt: skip
@click.option("--frames", type=click.IntRange(1), metavar="N",
              help="Frames that are measured from each moment on [24].")  # fmt: skip
@click.option("-t", "seconds", type=Time(), help="Length of the video [10].")
@click.option("--target", type=click.Choice(list(TARGETS)), help="Short side of the result [720p].")
@click.option("--backend", metavar="NAME", help="onnx, torch or tflite [what the model has a file for].")
@click.option("-y", "--overwrite", is_flag=True, help="Replace what exists.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show where an error came from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of the table.")
def compare(
    input: str,
    reference: str | None,
    output: str | None,
    video: str | None,
    models: tuple[str, ...],
    peers: str | None,
    times: tuple[float, ...],
    crops: tuple[str, ...],
    frames: int | None,
    seconds: float | None,
    target: str | None,
    backend: str | None,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Show the same moments of IN through bicubic, lanczos and each model.

    The sheet is a PNG: the whole picture at each moment, and regions of it enlarged, one column for each
    way. The regions are those in which the ways differ most and that hold most detail. With --reference,
    PSNR, SSIM, LPIPS and flicker are measured, and VMAF where the extra "vmaf" is installed.
    """
    from upscale.compare import job
    from upscale.compare.crops import parse_crop

    given = {"frames": frames, "seconds": seconds}
    report = job.compare(
        job.Request(
            input=input,
            reference=reference,
            sheet=output,
            video=video,
            models=tuple(m for text in models for m in text.split(",") if m),
            peers=peers,
            times=times,
            crops=tuple(parse_crop(text) for text in crops),
            target=target,
            backend=backend,
            overwrite=overwrite,
            **{key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]
        ),
        _stepper(quiet),
    )
    if as_json:
        click.echo(json.dumps(report.to_json()))
    elif not quiet:
        _print(report)
    return 0


def _stepper(quiet: bool) -> Callable[[str], None]:
    """What runs now, on one line of a terminal; nothing in a file."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return lambda text: None
    return lambda text: click.echo(f"\r\033[K{text}", err=True, nl=False)


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from upscale.metrics.meter import COLUMNS

    if sys.stderr is not None and sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    for note in report.notes:
        say(note)
    if report.figures:
        used = [c for c in COLUMNS if any(getattr(s, c[0]) is not None for s in report.figures.values())]
        grid = Table(title=f"{report.size[0]}x{report.size[1]}, {len(report.moments)} moments")
        grid.add_column("")
        for _, title, _ in used:
            grid.add_column(title, justify="right")
        for name, score in report.figures.items():
            values = [getattr(score, field) for field, _, _ in used]
            texts = ["-" if v is None else f"{v:.{d}f}" for v, (_, _, d) in zip(values, used, strict=True)]
            grid.add_row(clean(name), *texts)
        Console().print(grid)
    click.echo(f"{clean(report.sheet)}")
    if report.video is not None:
        click.echo(f"{clean(report.video)}: {report.video_frames} frames")
