"""`upscale score`: models on pictures and clips whose original is known."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upscale.cli.arguments import CONTEXT, flag
from upscale.cli.text import json_text, say, status_line, table

if TYPE_CHECKING:
    from upscale.metrics.clips import Upscaler
    from upscale.metrics.meter import Score

#: By title of the table, by name of the upscaler.
Results = dict[str, dict[str, list["Score"]]]


@click.command(context_settings=CONTEXT)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--sets",
    "sets",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of pairs *_HR.png and *_LR.png (x2); may be repeated.",
)
@click.option("--clips", type=click.Path(exists=True, path_type=Path), help="Folder of sharp clips.")
@click.option("--crf", "crfs", type=float, multiple=True, default=(23.0,),
              help="libx264 quality of the halved clips; may be repeated. [23]")  # fmt: skip
@click.option("--frames", default=60, type=click.IntRange(1), help="Frames of each clip. [60]")
@click.option("--measure", "measures", metavar="NAME", multiple=True,
              help="psnr, ssim, lpips, flicker or vmaf (with VMAF-NEG), of clips; may be repeated. [psnr, "
              "ssim, flicker, and lpips where its weights are found]")  # fmt: skip
@click.option("--every", type=click.IntRange(1), metavar="N",
              help="SSIM and LPIPS of every N-th frame only. [6]")  # fmt: skip
@click.option("--peers", type=click.Path(exists=True, path_type=Path), metavar="DIR",
              help="Score the ONNX networks of DIR (luma or RGB) too.")  # fmt: skip
@click.option("--backend", default="onnx", help="Runtime. [onnx]")
@click.option("--precision", metavar="NAME", help="fp32, bf16, fp16 or int8 [the most exact there is].")
@click.option("-o", "--output", metavar="FILE", help="Write every clip's figures to FILE as JSON.")
@flag("-q", "--quiet", help="No progress.")
def score(
    models: tuple[str, ...],
    sets: tuple[Path, ...],
    clips: Path | None,
    crfs: tuple[float, ...],
    frames: int,
    measures: tuple[str, ...],
    every: int | None,
    peers: Path | None,
    backend: str,
    precision: str | None,
    output: str | None,
    quiet: bool,
) -> int:
    """Score each MODEL (default: the default one), and lanczos, against the originals.

    A MODEL is a bundled one, a weights file, or bicubic. PSNR and SSIM are of luma. Sets are measured as
    in the literature: 2 pixels of border left out, luma not rounded to 8 bit. Clips are halved with
    swscale's bicubic, compressed with libx264 at --crf, and upscaled; LPIPS (AlexNet) is of whole frames
    in colour, flicker is 1 where the result is as steady as the original. The last line is JSON.
    """
    from upscale.metrics.clips import score_clips, score_set
    from upscale.metrics.meter import EVERY, Meter

    results: Results = {}
    show = status_line(quiet)
    with ExitStack() as stack:
        upscalers = _upscalers(models, peers, backend, precision, stack)
        for folder in sets:
            results[str(folder)] = {name: score_set(folder, up) for name, up in upscalers.items()}
        if clips is not None:
            meter = Meter(measures or [m for m in usable_measures() if m != "vmaf"], every or EVERY)
            found = score_clips(
                clips, upscalers, crfs=crfs, frames=frames, meter=meter,
                on_turn=lambda clip, crf, name: show(f"{clip} CRF {crf:g} {name}"),
            )  # fmt: skip
            results |= {f"{clips} at CRF {crf:g}": by_name for crf, by_name in found.items()}
    show("")
    for title, by_name in results.items():
        _print(title, by_name)
    if output is not None:
        _save(output, results)
    click.echo(json_text({title: _means(by_name) for title, by_name in results.items()}))
    return 0


def _upscalers(
    models: tuple[str, ...], peers: Path | None, backend: str, precision: str | None, stack: ExitStack
) -> dict[str, Upscaler]:
    from upscale import backends
    from upscale.metrics.clips import bicubic, lanczos
    from upscale.metrics.methods import load_peers
    from upscale.model.weights import find_model

    upscalers: dict[str, Upscaler] = {"lanczos": lanczos}
    for name in models or (None,):
        if name in ("lanczos", "bicubic"):
            upscalers[name] = {"lanczos": lanczos, "bicubic": bicubic}[name]
            continue
        files = find_model(name)
        # Two checkpoints of one name, in two folders, are two models.
        title = files.name if files.name not in upscalers else str(name)
        upscalers[title] = stack.enter_context(backends.load(backend, files, precision=precision))
    return upscalers | (dict(load_peers(peers, taken=upscalers)) if peers is not None else {})


def usable_measures() -> list[str]:
    """What can be measured here; says so where the weights of LPIPS are missing."""
    from upscale.metrics.meter import available_measures

    usable, missing = available_measures()
    if "lpips" not in usable:
        say(missing[0])
    return usable


def _means(by_name: dict[str, list[Score]]) -> dict[str, dict[str, float | None]]:
    from upscale.metrics.meter import mean_score

    return {name: _numbers(mean_score(name, scores)) for name, scores in by_name.items()}


def _numbers(score: Score) -> dict[str, float | None]:
    """The measured figures, rounded; JSON has no infinity, so that of equal pictures is null."""
    given = {field: (getattr(score, field), decimals) for field, _, decimals in _measured([score])}
    return {f: round(v, d + 1) if math.isfinite(v) else None for f, (v, d) in given.items()}


def _print(title: str, by_name: dict[str, list[Score]]) -> None:
    """One table of means, a row for each method, and one of each measure by clip."""
    from upscale.metrics.meter import mean_score

    means = [mean_score(name, scores) for name, scores in by_name.items()]
    pictures = [s.name[:14] for s in next(iter(by_name.values()))]
    click.echo(f"{title}, mean of {len(pictures)}\n{figures_table(means)}\n")
    for field, name, decimals in _measured(means):
        rows = [[n, *(_text(getattr(s, field), decimals) for s in scores)] for n, scores in by_name.items()]
        click.echo(table(rows, [name, *pictures]) + "\n")


def figures_table(scores: list[Score]) -> str:
    """A row for each score, a column for each measure that was taken."""
    used = _measured(scores)
    rows = [[score.name, *(_text(getattr(score, field), d) for field, _, d in used)] for score in scores]
    return table(rows, ["", *(title for _, title, _ in used)])


def _measured(scores: list[Score]) -> list[tuple[str, str, int]]:
    from upscale.metrics.meter import COLUMNS

    return [column for column in COLUMNS if any(getattr(s, column[0]) is not None for s in scores)]


def _text(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _save(path: str, results: Results) -> None:
    from upscale.errors import OutputError

    content = {
        title: {n: {s.name: _numbers(s) for s in scores} for n, scores in by_name.items()}
        for title, by_name in results.items()
    }
    try:
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(error.strerror or str(error), path=path) from error
