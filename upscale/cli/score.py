"""`upscale score`: pictures and clips with a known truth, scored on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upscale.score import Score


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--sets",
    "sets",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of pairs *_HR.png and *_LR.png (x2); may be repeated.",
)
@click.option("--clips", type=click.Path(exists=True, path_type=Path), help="Folder of sharp clips.")
@click.option("--crf", default=23.0, help="libx264 quality of the halved clips. [23]")
@click.option("--frames", default=60, type=click.IntRange(1), help="Frames of each clip. [60]")
@click.option("--backend", default="onnx", help="Runtime. [onnx]")
def score(
    models: tuple[str, ...], sets: tuple[Path, ...], clips: Path | None, crf: float, frames: int, backend: str
) -> int:
    """Score each MODEL (default: the default one), and lanczos, against the true pictures.

    PSNR and SSIM are of luma. Sets are measured as in the literature: 2 pixels of border left out, luma
    not rounded to 8 bit.
    Clips are halved with swscale's bicubic, compressed with libx264 at --crf, and upscaled.
    """
    from contextlib import ExitStack

    from upscale import backends
    from upscale.model.weights import find_model
    from upscale.score import Upscaler, lanczos, score_clips, score_set

    with ExitStack() as stack:
        upscalers: dict[str, Upscaler] = {"lanczos": lanczos}
        for name in models or (None,):
            files = find_model(name)
            upscalers[files.name] = stack.enter_context(backends.load(backend, files))
        results = {str(s): {name: score_set(s, up) for name, up in upscalers.items()} for s in sets}
        if clips is not None:
            results[f"{clips} at CRF {crf:g}"] = score_clips(clips, upscalers, crf=crf, frames=frames)
    for title, by_name in results.items():
        _table(title, by_name)
    means = {t: {n: _mean(s) for n, s in by_name.items()} for t, by_name in results.items()}
    click.echo(json.dumps(means))
    return 0


def _mean(scores: list[Score]) -> dict[str, float]:
    n = len(scores)
    return {
        "psnr": round(sum(s.psnr for s in scores) / n, 3),
        "ssim": round(sum(s.ssim for s in scores) / n, 4),
    }


def _table(title: str, by_name: dict[str, list[Score]]) -> None:
    names = list(by_name)
    click.echo(f"{title}\n{'PSNR-Y (dB) / SSIM':32}" + "".join(f"{n:>18}" for n in names))
    for row in zip(*by_name.values(), strict=True):
        click.echo(f"{row[0].name[:31]:32}" + "".join(f"{s.psnr:10.2f} /{s.ssim:6.4f}" for s in row))
    means = [_mean(by_name[n]) for n in names]
    click.echo(f"{'mean':32}" + "".join(f"{m['psnr']:10.2f} /{m['ssim']:6.4f}" for m in means) + "\n")
