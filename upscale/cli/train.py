"""`upscale train`: options to one `TrainConfig`, progress to the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from upscale.train.config import LOSSES, TrainConfig

if TYPE_CHECKING:
    from upscale.train.loop import Progress

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS = {f.name: f.default for f in fields(TrainConfig)}


def _setting(name: str, help: str, **kwargs: Any) -> Callable[[F], F]:
    shown = f"{help} [{_DEFAULTS[name]}]" if _DEFAULTS[name] not in (None, 0) else help
    return click.option(f"--{name.replace('_', '-')}", name, default=_DEFAULTS[name], help=shown, **kwargs)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="CLIPS", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Files to write, without suffix."
)
@click.option(
    "--run", type=click.Path(path_type=Path), help="Folder for crops, checkpoints and log [OUTPUT.run]."
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--start-from", type=click.Path(exists=True, path_type=Path), help="Checkpoint to start from.")
@_setting("unshuffle", "1: full, 2: half resolution inside.", type=click.IntRange(1, 2))
@_setting("channels", "Width of the network.", type=click.IntRange(1))
@_setting("body", "Layers between first and last.", type=click.IntRange(0))
@_setting("expand", "Training width of a block, in channels.", type=click.IntRange(1))
@_setting("iterations", "Optimiser steps.", type=click.IntRange(1))
@_setting("batch", "Crops per step.", type=click.IntRange(1))
@_setting("patch", "Side of the low-resolution crop.", type=click.IntRange(16, 96))
@_setting("learning_rate", "Adam's, at its highest.", type=float)
@_setting("loss", "Distance from the true picture.", type=click.Choice(LOSSES))
@_setting("ema", "Decay of the averaged weights.", type=float)
@_setting("mix", "Shares of clean bicubic, clean other, lightly, clearly compressed.", type=float, nargs=4)
@_setting("seed", "Of weights, crops, augmentation.", type=int)
@_setting("validate_every", "Steps between validations.", type=click.IntRange(1))
@_setting("checkpoint_every", "Steps between checkpoints.", type=click.IntRange(1))
@_setting("threads", "CPU threads [torch's choice].", type=click.IntRange(0))
@click.option("--bf16/--no-bf16", default=None, help="bf16 convolutions [where the processor has them].")
@click.option("-q", "--quiet", is_flag=True, help="Only the result.")
def train(
    folder: Path,
    output: Path,
    run: Path | None,
    resume: bool,
    start_from: Path | None,
    quiet: bool,
    **settings: Any,
) -> int:
    """Train a tiny upscaler on the folder CLIPS of videos and pictures.

    Writes OUTPUT.safetensors, OUTPUT.onnx, OUTPUT.tflite and OUTPUT_int8.tflite; `upscale IN
    --model OUTPUT.onnx` uses it. The last line on stdout is a JSON object with the scores.
    """
    from upscale.train.job import Callbacks
    from upscale.train.job import train as run_training

    began = time.time()

    def on_source(done: int, total: int, name: str, error: str | None) -> None:
        if error:
            click.echo(f"upscale: {name}: skipped: {error}", err=True)
        elif not quiet and (done % 20 == 0 or done == total):
            click.echo(f"crops: {done}/{total} files", err=True)

    def on_progress(progress: Progress) -> None:
        if not quiet and (progress.step % 1000 == 0 or progress.scores):
            click.echo(_line(progress, began), err=True)

    exported = run_training(
        folder,
        output,
        TrainConfig(**settings),
        Callbacks(on_source, on_progress),
        run=run,
        resume=resume,
        start_from=start_from,
    )
    facts = exported.facts
    files = {kind: str(path) for kind in exported.files.sha256 if (path := exported.files.path(kind))}
    result = {
        "files": files,
        "psnr": facts["best"],
        "step": facts["step"],
        "hours": facts["seconds"] / 3600,
        "settings": facts["config"],
        "parity": asdict(exported.parity),
    }
    click.echo(json.dumps(result))
    return 0


def _line(progress: Progress, began: float) -> str:
    left = (progress.iterations - progress.step) / max(progress.steps_per_second, 1e-6)
    text = (
        f"step {progress.step}/{progress.iterations}  loss {progress.loss:.5f}  "
        f"{progress.steps_per_second:.1f} it/s  {(time.time() - began) / 60:.0f} min  ETA {left / 60:.0f} min"
    )
    if progress.scores:
        detail = ", ".join(f"{name} {value:.2f}" for name, value in progress.scores.psnr.items())
        text += f"\n  held out: {progress.scores.mean:.3f} dB ({detail})"
    return text
