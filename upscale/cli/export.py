"""`upscale export`: a model as a file for players, pages and other runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from upscale.cli.arguments import CONTEXT, flag
from upscale.cli.text import bytes_text, clean, say, table
from upscale.export.formats import FORMATS, Exported, ExportOptions
from upscale.export.formats import export as write

if TYPE_CHECKING:
    from upscale.export.check import Difference


@click.command(context_settings=CONTEXT)
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("-f", "--format", metavar="NAME", help=f"{', '.join(FORMATS)} [what FILE's name ends like].")
@click.option("-o", "--output", metavar="FILE", help="File, or folder for the default name. [NAME.glsl, …]")
@click.option("--strength", type=float, metavar="S",
              help="Blend with the fidelity model: 0 … 1. Of a page: where its slider begins.")  # fmt: skip
@click.option("--precision", default="fp32", metavar="NAME", help="onnx, tflite: fp32 or int8. [fp32]")
@flag("--portable", help="mpv: fragment passes, for vo=gpu, OpenGL ES, Android.")
@flag("--check", help="Run the file in what this machine has for it; print the differences.")
@flag("-y", "--overwrite", help="Replace files that exist.")
@flag("--list-formats", help="List the formats and stop.")
def export(model: str | None, output: str | None, check: bool, list_formats: bool, **options: object) -> int:
    """Write MODEL (default: the default one) for players, pages and other runtimes.

    MODEL is a bundled one or a weights file; mpv, web and ncnn take .safetensors files. With --check, exit
    code 1 says that the file's pictures differ by more than rounding.
    """
    if list_formats:
        rows = [[name, ", ".join(f.suffixes), f.summary] for name, f in FORMATS.items()]
        click.echo(table(rows, ["format", "files", "for"]))
        return 0
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    exported = write(model, output, ExportOptions(**given))
    for path in exported.files:
        click.echo(f"{clean(path)}: {bytes_text(path.stat().st_size)}")
    return _check(exported, exact=given["precision"] != "int8") if check else 0


def _check(exported: Exported, exact: bool) -> int:
    """The exit code. Integers are not `exact`: their differences are shown, not judged."""
    from upscale.export.check import CannotRun, check

    try:
        found = check(exported)
    except CannotRun as e:
        say(f"not checked: {e}")
        return 0
    for each in found:
        click.echo(_line(each))
    if not exact or all(each.passed for each in found):
        return 0
    say(f"{found[0].runtime} differs from the weights by more than rounding", str(exported.files[0]))
    return 1


def _line(found: Difference) -> str:
    width, height = found.size
    return (
        f"{found.runtime}, {width}x{height}: {found.exact:.2%} of the pixels are exact, the largest "
        f"difference is {found.largest} code values, the mean {found.mean:.4f}"
    )
