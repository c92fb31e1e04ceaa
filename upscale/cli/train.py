"""`upscale train`: options to one `TrainJob`, its progress on stderr, its result on stdout."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from upscale.cli.arguments import CONTEXT, flag
from upscale.cli.text import clean, on_terminal, say, table
from upscale.cli.timecode import format_time
from upscale.errors import Interrupted, TrainError, UpscaleError, UsageError
from upscale.job.stopping import StopRequest, stop_requests_to
from upscale.train.config import TrainConfig, TrainJob
from upscale.train.losses import LOSSES

if TYPE_CHECKING:
    from upscale.train.export import Exported
    from upscale.train.loop import Hooks, Progress
    from upscale.train.validate import Scores

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds between two lines where there is no terminal.
_LINE_EVERY = 20.0
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


@click.command(context_settings=CONTEXT)
@click.argument("folder", metavar="CLIPS", type=_path())
@click.option("-o", "--output", type=_path(), help="Files to write, without suffix.")
@click.option("--run", type=_path(), help="Folder for crops, checkpoints and logs [OUTPUT.run].")
@click.option("--crops", type=_path(exists=True), help="Crops that another run made, RUN/crops.")
@flag("--resume", help="Continue an interrupted run, with its own settings.")
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
@flag("-q", "--quiet", help="Only the result and files that are skipped.")
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
        return _preview(folder, preview_data, _config(recipe, changes))
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    job = TrainJob(
        folder=folder, output=output, config=TrainConfig(), run=run, resume=resume,
        start_from=start_from, teacher=teacher, crops=crops,
    )  # fmt: skip
    if recipe is None and resume and job.kept_recipe.exists():
        recipe = job.kept_recipe
    return _run(replace(job, config=_config(recipe, changes)), quiet)


def _config(recipe: Path | None, changes: dict[str, Any]) -> TrainConfig:
    """The recipe's settings, or the defaults, with the changes of the command line."""
    try:
        from upscale.train.recipe import override, read_recipe
    except ImportError as e:
        raise TrainError(f"training needs {e.name}: pip install '.[train]'") from e

    return override(read_recipe(recipe) if recipe else TrainConfig(), changes)


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
    from upscale.train.distributed import launched
    from upscale.train.job import train as run_training

    leads = launched()[0] == 0
    stop = _Stop(leads)
    try:
        with display(quiet or not leads) as shown:
            exported = run_training(job, shown.source, shown.hooks(stop))
    except Interrupted as stopped:
        if leads:
            say(stopped, str(job.run_folder))
        return (stop.reason or stopped).exit_code
    if exported:
        click.echo(json.dumps(_result(exported)))
    return 0


class _Stop(StopRequest):
    """Lets the first signal wait until the step is done and the state is saved; says so once.

    Args:
        speaks: False in all processes but the first.
    """

    def __init__(self, speaks: bool) -> None:
        super().__init__()
        self._speaks = speaks

    def request(self, reason: UpscaleError) -> None:
        if self._speaks and self.reason is None:
            say("stopping after this step; once more stops at once, without saving")
        super().request(reason)

    @contextmanager
    def while_training(self) -> Iterator[Callable[[], bool]]:
        """For `Hooks.stopping`: gives the function that tells whether to stop."""
        with stop_requests_to(self):
            yield lambda: self.reason is not None


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


@contextmanager
def display(quiet: bool) -> Iterator[PlainDisplay]:
    """A live display on a terminal, else plain lines; with `quiet` only what went wrong."""
    if quiet or not on_terminal():
        yield PlainDisplay(quiet)
        return
    with _Live() as live:
        yield live


class PlainDisplay:
    """Plain lines on stderr."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._last = time.monotonic()
        self._skipped: list[tuple[str, str]] = []

    def hooks(self, stop: _Stop) -> Hooks:
        """What the loop calls."""
        from upscale.train.loop import Hooks

        stopping: Callable[[], AbstractContextManager[Callable[[], bool]]] = stop.while_training
        return Hooks(progress=self.progress, stopping=stopping)

    def source(self, done: int, total: int, name: str, error: str | None) -> None:
        """One file of the material was read; the last one names all that were skipped."""
        if error:
            self._skipped.append((name, error))
        if done == total:
            self._total(total)
        elif self._due():
            self._say(f"crops: {done} of {total} files")

    def _total(self, total: int) -> None:
        for name, error in self._skipped:
            self._say(f"skipped: {error}", name)
        if not self._quiet:
            self._say(f"crops: {total - len(self._skipped)} of {total} files read")

    def progress(self, report: Progress) -> None:
        """Some steps were taken."""
        if report.scores is not None and not self._quiet:
            self._say(f"{step_text(report)}, {losses_text(report)}; {scores_text(report.scores)}")
        elif self._due():
            self._say(f"{step_text(report)}, {losses_text(report)}")

    def _say(self, text: str, path: str | None = None) -> None:
        say(text, path)

    def _due(self) -> bool:
        if self._quiet or time.monotonic() - self._last < _LINE_EVERY:
            return False
        self._last = time.monotonic()
        return True


class _Live(PlainDisplay):
    """A bar at the bottom of the terminal with the losses and the last validation under it."""

    def __enter__(self) -> _Live:
        from rich.console import Console
        from rich.live import Live

        self._scores = ""
        self._began = time.monotonic()
        self._live = Live(
            "", console=Console(stderr=True), refresh_per_second=4, transient=True, redirect_stdout=False
        )
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def source(self, done: int, total: int, name: str, error: str | None) -> None:
        if error:
            self._skipped.append((name, error))
        self._show(done, total, [f"crops: {done} of {total} files, {clean(name)}"])
        if done == total:
            self._total(total)

    def progress(self, report: Progress) -> None:
        if report.scores is not None:
            self._scores = f"{report.stage} {report.step}: {scores_text(report.scores)}"
            self._say(f"{step_text(report)}; {scores_text(report.scores)}")
        lines = [step_text(report), losses_text(report)]
        if self._scores:
            lines.append(f"held out, {self._scores}")
        self._show(report.step, report.iterations, lines)

    def _say(self, text: str, path: str | None = None) -> None:
        where = f"{clean(path)}: " if path else ""
        self._live.console.print(f"upscale: {where}{clean(text)}", markup=False, highlight=False)

    def _show(self, done: int, total: int, lines: list[str]) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = Table.grid(expand=True)  # a bar that is in no table does not end its line
        rows.add_row(ProgressBar(total, done))
        for line in [*lines, f"{format_time(time.monotonic() - self._began)} so far"]:
            rows.add_row(Text(line))
        self._live.update(rows)


def step_text(report: Progress) -> str:
    """``gan (2/2), step 50/200, 8.1 it/s, 0:18 left``."""
    left = (report.iterations - report.step) / max(report.steps_per_second, 1e-6)
    number = f" ({report.number}/{report.stages})" if report.stages > 1 else ""
    return (
        f"{report.stage}{number}, step {report.step}/{report.iterations}, "
        f"{report.steps_per_second:.1f} it/s, {format_time(left)} left"
    )


def losses_text(report: Progress) -> str:
    """``pixel 0.0123, adversarial 0.69``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())


def scores_text(scores: Scores) -> str:
    """Held-out scores, and what lanczos has on the same frames."""
    base = scores.lanczos
    parts = [f"PSNR {scores.psnr:.2f} dB (lanczos {base['psnr']:.2f})", f"SSIM {scores.ssim:.4f}"]
    if scores.lpips is not None:
        parts.append(f"LPIPS {scores.lpips:.4f} (lanczos {base['lpips']:.4f})")
    if scores.flicker is not None:
        parts.append(f"flicker {scores.flicker:.2f}")
    return ", ".join(parts)
