"""`upscale score`: pictures and clips with a known truth, scored on this machine."""

from __future__ import annotations

import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upscale.cli.text import say, table

if TYPE_CHECKING:
    from upscale.metrics.clips import Upscaler
    from upscale.metrics.meter import Score

#: By title of the table, by name of the upscaler.
Results = dict[str, dict[str, list["Score"]]]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
              help="SSIM and LPIPS look at every N-th frame only. [6]")  # fmt: skip
@click.option("--peers", type=click.Path(exists=True, path_type=Path), metavar="DIR",
              help="Score the ONNX networks of DIR (luma or RGB) too.")  # fmt: skip
@click.option("--backend", default="onnx", help="Runtime. [onnx]")
@click.option("--precision", metavar="NAME", help="fp32, bf16, fp16 or int8 [the most exact there is].")
@click.option("-o", "--output", metavar="FILE", help="Write every clip's figures to FILE as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
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
    """Score each MODEL (default: the default one), and lanczos, against the true pictures.

    A MODEL is a bundled one, a weights file, or bicubic. PSNR and SSIM are of luma. Sets are measured as
    in the literature: 2 pixels of border left out, luma not rounded to 8 bit. Clips are halved with
    swscale's bicubic, compressed with libx264 at --crf, and upscaled; LPIPS (AlexNet) is of whole frames
    in colour, flicker is 1 where the result is as steady as the original. The last line is JSON.
    """
    from upscale.metrics.clips import score_clips, score_set
    from upscale.metrics.meter import EVERY, Meter

    results: Results = {}
    with ExitStack() as stack:
        upscalers = _upscalers(models, peers, backend, precision, stack)
        for folder in sets:
            results[str(folder)] = {name: score_set(folder, up) for name, up in upscalers.items()}
        if clips is not None:
            meter = Meter(measures or _usable_measures(), every or EVERY)
            found = score_clips(clips, upscalers, crfs=crfs, frames=frames, meter=meter,
                                on_turn=_progress(quiet))  # fmt: skip
            results |= {f"{clips} at CRF {crf:g}": by_name for crf, by_name in found.items()}
    if not quiet and sys.stderr is not None and sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    for title, by_name in results.items():
        _print(title, by_name)
    if output is not None:
        _save(output, results)
    click.echo(json.dumps({title: _means(by_name) for title, by_name in results.items()}))
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
    return upscalers | (dict(load_peers(peers)) if peers is not None else {})


def _usable_measures() -> list[str]:
    """All but VMAF, which is slow; without LPIPS and with a remark where its weights are missing."""
    from upscale.metrics.meter import available_measures

    usable, missing = available_measures()
    if "lpips" not in usable:
        say(missing[0])
    return [m for m in usable if m != "vmaf"]


def _progress(quiet: bool) -> Any:
    """What runs now, on one line of a terminal; nothing in a file."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return lambda clip, crf, name: None
    return lambda clip, crf, name: click.echo(f"\r\033[K{clip} CRF {crf:g} {name}", err=True, nl=False)


def _means(by_name: dict[str, list[Score]]) -> dict[str, dict[str, float | None]]:
    from upscale.metrics.meter import mean_score

    return {name: _numbers(mean_score(name, scores)) for name, scores in by_name.items()}


def _numbers(score: Score) -> dict[str, float | None]:
    """The measured figures, rounded; JSON has no infinity, so that of equal pictures is null."""
    from upscale.metrics.meter import COLUMNS

    given = {field: getattr(score, field) for field, _, _ in COLUMNS if getattr(score, field) is not None}
    digits = {field: decimals + 1 for field, _, decimals in COLUMNS}
    return {f: round(v, digits[f]) if math.isfinite(v) else None for f, v in given.items()}


def _print(title: str, by_name: dict[str, list[Score]]) -> None:
    """One table of means, a row for each method, and one of each measure by clip."""
    from upscale.metrics.meter import COLUMNS, mean_score

    means = [mean_score(name, scores) for name, scores in by_name.items()]
    used = [c for c in COLUMNS if any(getattr(m, c[0]) is not None for m in means)]
    click.echo(f"{title}, mean of {len(next(iter(by_name.values())))}")
    rows = [[m.name, *(_text(getattr(m, f), d) for f, _, d in used)] for m in means]
    click.echo(table(rows, ["", *(t for _, t, _ in used)]) + "\n")
    for field, name, decimals in used:
        rows = [[n, *(_text(getattr(s, field), decimals) for s in scores)] for n, scores in by_name.items()]
        pictures = [s.name[:14] for s in next(iter(by_name.values()))]
        click.echo(table(rows, [name, *pictures]) + "\n")


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
    except OSError as e:
        raise OutputError(e.strerror or str(e), path=path) from e
