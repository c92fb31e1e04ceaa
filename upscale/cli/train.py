"""`upscale train`: options to one `TrainJob`, its result to stdout."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from upscale.cli.text import say, table
from upscale.errors import Interrupted, TrainError, UsageError

try:
    from upscale.train.config import TrainConfig, TrainJob
    from upscale.train.job import RECIPE
    from upscale.train.losses import LOSSES
    from upscale.train.recipe import override, read_recipe
except ImportError as e:
    raise TrainError(f"training needs {e.name}: pip install 'upscale[train]'") from e

if TYPE_CHECKING:
    from upscale.train.export import Exported

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS = {f.name: f.default for f in fields(TrainConfig)}


def _setting(name: str, help: str, kind: click.ParamType | type) -> Callable[[F], F]:
    """One setting of the recipe; what it may be is checked where recipes are."""
    shown = f"{help} [{_DEFAULTS[name]}]" if _DEFAULTS.get(name) else help
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, help=shown)


def _path(**kwargs: Any) -> click.Path:
    return click.Path(path_type=Path, **kwargs)


def _list_losses(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    rows = [[i.name, i.constraint, f"{i.weight:g}", i.source] for i in LOSSES.values()]
    click.echo(table(rows, ["loss", "constraint", "default weight", "source"]))
    context.exit()


def _pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` texts to a dict; values are written as in TOML, text also without quotes."""
    found: dict[str, Any] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", context, option)
        try:
            found[key.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="CLIPS", type=_path())
@click.option("-o", "--output", type=_path(), help="Files to write, without suffix.")
@click.option("--run", type=_path(), help="Folder for crops, checkpoints and logs [OUTPUT.run].")
@click.option("--crops", type=_path(exists=True), help="Crops that another run made, RUN/crops.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, with its own settings.")
@click.option("--start-from", type=_path(exists=True), help="Checkpoint to start from.")
@click.option(
    "--teacher", type=_path(exists=True), help="Checkpoint of a larger network that guides this one."
)
@click.option("--recipe", type=_path(), help="Settings in a TOML file; options change single ones.")
@_setting("unshuffle", "1: full, 2: half resolution inside.", int)
@_setting("channels", "Width of the network.", int)
@_setting("body", "Layers between first and last.", int)
@_setting("expand", "Training width of a block, in channels.", int)
@_setting("iterations", "Optimiser steps of every stage.", int)
@_setting("batch", "Crops per step, in every stage.", int)
@_setting("patch", "Side of the low-resolution crop, in every stage.", int)
@_setting("learning_rate", "At its highest, in every stage.", float)
@_setting("seed", "Of weights, crops, augmentation.", int)
@_setting("validate_every", "Steps between validations.", int)
@_setting("checkpoint_every", "Steps between checkpoints.", int)
@_setting("threads", "CPU threads [torch's choice].", int)
@click.option("--bf16/--no-bf16", default=None, help="bf16 convolutions [where the processor has them].")
@click.option(
    "--loss", "losses", multiple=True, callback=_pairs, metavar="[STAGE.]NAME=WEIGHT",
    help="Weight of a loss in the stages that use it, or in one.",
)  # fmt: skip
@click.option(
    "--set", "more", multiple=True, callback=_pairs, metavar="[STAGE.]KEY=VALUE",
    help="Any setting of the recipe, e.g. gan.iterations=2000.",
)  # fmt: skip
@click.option(
    "--list-losses", is_flag=True, is_eager=True, expose_value=False, callback=_list_losses,
    help="Show all losses and stop.",
)  # fmt: skip
@click.option("--preview-data", type=_path(), metavar="PNG", help="Only draw pairs of every degradation.")
@click.option("-q", "--quiet", is_flag=True, help="Only the result and files that are skipped.")
def train(
    folder: Path,
    output: Path | None,
    resume: bool,
    recipe: Path | None,
    losses: dict[str, Any],
    more: dict[str, Any],
    preview_data: Path | None,
    quiet: bool,
    run: Path | None,
    crops: Path | None,
    start_from: Path | None,
    teacher: Path | None,
    **settings: Any,
) -> int:
    """Train a tiny upscaler on the folder CLIPS of videos and pictures.

    Writes OUTPUT.safetensors, OUTPUT.onnx, OUTPUT.tflite, OUTPUT_int8.tflite, OUTPUT_int8.onnx and the
    model card OUTPUT.md; `upscale IN --model OUTPUT.onnx` uses it. Where the last stage has an adversary, the
    model before it is written as OUTPUT_fidelity. The last line on stdout is a JSON object.
    """
    changes = {key: value for key, value in settings.items() if value is not None}
    changes |= {_loss_key(key): value for key, value in losses.items()} | more
    if preview_data is not None:
        config = override(read_recipe(recipe) if recipe else TrainConfig(), changes)
        return _preview(folder, preview_data, config)
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    job = TrainJob(
        folder=folder, output=output, config=TrainConfig(), run=run, resume=resume,
        start_from=start_from, teacher=teacher, crops=crops,
    )  # fmt: skip
    kept = job.run_folder / RECIPE
    if recipe is None and resume and kept.exists():
        recipe = kept
    config = override(read_recipe(recipe) if recipe else TrainConfig(), changes)
    return _run(replace(job, config=config), quiet)


def _loss_key(name: str) -> str:
    """``adversarial`` → ``losses.adversarial``, ``gan.adversarial`` → ``gan.losses.adversarial``."""
    stage, dot, loss = name.rpartition(".")
    return f"{stage}{dot}losses.{loss}"


def _preview(folder: Path, out: Path, config: TrainConfig) -> int:
    from upscale.train.preview import preview_sheet

    if not folder.is_dir():
        raise UsageError("not a folder", path=str(folder))
    click.echo(json.dumps({"preview": str(out), "sources": preview_sheet(folder, out, config)}))
    return 0


def _run(job: TrainJob, quiet: bool) -> int:
    from upscale.cli.training import StopFlag, display
    from upscale.train.distributed import launched
    from upscale.train.job import train as run_training

    leads = launched()[0] == 0
    flag = StopFlag(leads)
    try:
        with display(quiet or not leads) as shown:
            exported = run_training(job, shown.source, shown.hooks(flag))
    except Interrupted as stopped:
        if leads:
            say(stopped, str(job.run_folder))
        return 128 + flag.number if flag.number else stopped.exit_code
    if exported:
        click.echo(json.dumps(_result(exported)))
    return 0


def _result(exported: list[Exported]) -> dict[str, Any]:
    """What scripts read: the exported model, and its partner where there is one."""
    result = _model(exported[0])
    result["settings"] = exported[0].metadata["config"]
    if len(exported) > 1:
        result["fidelity"] = _model(exported[1])
    return result


def _model(exported: Exported) -> dict[str, Any]:
    metadata, files = exported.metadata, exported.files
    return {
        "files": {kind: str(path) for kind in files.sha256 if (path := files.path(kind))},
        "stage": metadata["config"]["stages"][metadata["stage"] - 1]["name"],
        "step": metadata["step"],
        "hours": metadata["seconds"] / 3600,
        "psnr": metadata["scores"]["psnr"],
        "scores": metadata["scores"],
        "parity": asdict(exported.parity),
    }
