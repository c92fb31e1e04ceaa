"""`upscale compare`: the same moments through every method of upscaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from upscale.cli.arguments import CONTEXT, Time, flag, target_option
from upscale.cli.score import figures_table
from upscale.cli.text import clean, json_text, say, status_line

if TYPE_CHECKING:
    from upscale.compare.job import Report


@click.command(context_settings=CONTEXT)
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
@target_option
@click.option("--backend", metavar="NAME", help="onnx, torch or tflite [what the model has a file for].")
@flag("-y", "--overwrite", help="Replace what exists.")
@flag("-q", "--quiet", help="Say nothing but errors.")
@flag("-v", "--verbose", help="Show where an error came from.")
@flag("--json", "as_json", help="One JSON object on stdout instead of the table.")
def compare(
    output: str | None,
    models: tuple[str, ...],
    crops: tuple[str, ...],
    quiet: bool | None,
    verbose: bool | None,
    as_json: bool | None,
    **given: Any,
) -> int:
    """Show the same moments of IN through bicubic, lanczos and each model.

    The sheet is a PNG: the whole picture at each moment, and regions of it enlarged, one column per
    method. The regions are those in which the methods differ most and that hold most detail. With
    --reference, PSNR, SSIM, LPIPS and flicker are measured, and VMAF where the extra "vmaf" is installed.
    """
    from upscale.compare import job
    from upscale.compare.crops import parse_crop

    request = job.Request(
        sheet=output,
        models=tuple(m for text in models for m in text.split(",") if m),
        crops=tuple(parse_crop(text) for text in crops),
        **{name: value for name, value in given.items() if value is not None},
    )
    show = status_line(bool(quiet))
    report = job.compare(request, show)
    show("")
    if as_json:
        click.echo(json_text(report.to_json()))
    elif not quiet:
        _print(report)
    return 0


def _print(report: Report) -> None:
    for note in report.notes:
        say(note)
    if report.figures:
        click.echo(f"{report.size[0]}x{report.size[1]}, {len(report.moments)} moments")
        click.echo(figures_table(list(report.figures.values())) + "\n")
    click.echo(clean(report.sheet))
    if report.video is not None:
        click.echo(f"{clean(report.video)}: {report.video_frames} frames")
