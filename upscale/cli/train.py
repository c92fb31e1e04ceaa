"""`upscale train CLIPS RUN`."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upscale.cli.text import say
from upscale.errors import BackendError
from upscale.train.config import LOSSES, TrainConfig

if TYPE_CHECKING:
    from upscale.train.loop import Progress

_DEFAULTS = {f.name: f.default for f in fields(TrainConfig)}


def _setting(name: str, kind: Any, help: str) -> Any:
    """A click option for one field of `TrainConfig`, with that field's default in the help."""
    option = "--" + name.replace("_", "-")
    return click.option(option, name, type=kind, help=f"{help} [{_DEFAULTS[name]}].", metavar="N")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("material", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("run", metavar="RUN", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Crops go here [RUN/crops].")
@click.option("--resume", is_flag=True, help="Go on from RUN's last checkpoint.")
@click.option("--from", "start_from", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Checkpoint to begin with.")
@_setting("unshuffle", click.IntRange(1, 2), "1: full resolution inside, 2: half")
@_setting("channels", click.IntRange(1), "Width of the hidden layers")
@_setting("body", click.IntRange(0), "Hidden layers after the first")
@_setting("expand", click.IntRange(1), "Training width of the collapsible blocks")
@_setting("iterations", click.IntRange(1), "Optimiser steps")
@_setting("batch", click.IntRange(1), "Crops per step")
@_setting("patch", click.IntRange(8), "Side of a low-resolution crop")
@_setting("learning_rate", float, "Adam's, before the cosine")
@_setting("ema", float, "Decay of the averaged weights")
@_setting("clean", float, "Share of crops without codec damage")
@_setting("seed", int, "Of weights, crops and augmentation")
@_setting("validate_every", click.IntRange(1), "Steps between validations")
@_setting("checkpoint_every", click.IntRange(1), "Steps between checkpoints")
@_setting("threads", click.IntRange(0), "CPU threads, 0: torch's choice")
@click.option("--loss", type=click.Choice(LOSSES), help=f"Pixel loss [{_DEFAULTS['loss']}].")
@click.option("--bf16/--no-bf16", default=None, help="Autocast [where the processor has it].")
@click.option("--json", "as_json", is_flag=True, help="Reports as JSON lines on stdout.")
def train(
    material: Path,
    run: Path,
    cache: Path | None,
    resume: bool,
    start_from: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a network on the pictures and clips in FOLDER; checkpoints and the log go to RUN."""
    config = TrainConfig(**{name: value for name, value in given.items() if value is not None})
    try:
        from upscale.train import dataset, loop
    except ImportError as error:
        raise BackendError(f"{error.name} is missing: pip install 'upscale[train]'") from error
    cache = cache or run / "crops"
    dataset.build(material, cache, seed=config.seed, on_source=_skipped)
    best = loop.fidelity(
        cache, run, config, resume=resume, start_from=start_from, on_progress=_json if as_json else _line
    )
    say(f"best checkpoint: {best}")


def _skipped(done: int, total: int, name: str, error: str | None) -> None:
    if error is not None:
        say(f"skipped: {error}", name)
    elif done % 20 == 0 or done == total:
        say(f"{done} of {total} sources cut into crops")


def _line(progress: Progress) -> None:
    scores = f", {progress.scores}" if progress.scores is not None else ""
    if progress.scores is not None or progress.step % 1000 == 0:
        say(
            f"step {progress.step}/{progress.iterations}: loss {progress.loss:.5f}, "
            f"{progress.steps_per_second:.1f} steps/s{scores}"
        )


def _json(progress: Progress) -> None:
    from dataclasses import asdict

    print(json.dumps({"event": "progress"} | asdict(progress)), file=sys.stdout, flush=True)
