"""The training loop: stages one after the other, each from the averaged weights of the one before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from upscale.errors import Interrupted, ModelError, TrainError
from upscale.model.config import GeneratorConfig
from upscale.train import checkpoint, dataset
from upscale.train.batches import Sampler, prefetch
from upscale.train.config import ADVERSARIAL_KINDS, PIXEL_KINDS, Stage, TrainConfig
from upscale.train.distributed import Group
from upscale.train.recipe import from_mapping
from upscale.train.reparam import TrainableGenerator
from upscale.train.step import StageTrainer, multiplies_bf16
from upscale.train.validate import Scores, Validator

LAST = "last.safetensors"
#: Steps between two reports.
REPORT_EVERY = 50


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of the loop.

    Attributes:
        stage: name; `number` of `stages`, from 1.
        step, iterations: within the stage.
        losses: means since the last report, unweighted.
        scores: after a validation.
    """

    stage: str
    number: int
    stages: int
    step: int
    iterations: int
    losses: dict[str, float]
    steps_per_second: float
    scores: Scores | None = None


@dataclass(slots=True)
class Hooks:
    """What the loop calls, in the one process that writes.

    Attributes:
        progress: every `REPORT_EVERY` steps and after every validation.
        validated: after a validation, with the averaged network; for pictures of it.
        stopping: a context around all steps, in every process; what it gives says after each step
            whether the user wants to stop.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    validated: Callable[[Progress, TrainableGenerator], None] = lambda progress, network: None
    stopping: Callable[[], AbstractContextManager[Callable[[], bool]]] = lambda: nullcontext(lambda: False)


@dataclass(slots=True)
class _Run:
    """One run's settings and the facts that its checkpoints carry."""

    config: TrainConfig
    folder: Path
    hooks: Hooks
    group: Group
    device: torch.device
    bf16: bool
    material: dataset.Material
    validator: Validator | None
    facts: dict[str, Any]


def best_file(run: Path, number: int, stage: Stage) -> Path:
    """The best checkpoint of stage `number` (from 1)."""
    return run / f"{number}-{stage.name}.safetensors"


def train_stages(
    cache: Path,
    run: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    teacher: Path | None = None,
    hooks: Hooks | None = None,
    group: Group | None = None,
) -> list[Path]:
    """Run all stages and keep each one's best averaged weights by held-out score.

    Args:
        cache: crops made by `upscale.train.dataset.build`.
        run: folder for `last.safetensors` (resumable) and the best checkpoint of every stage.
        resume: go on from `last.safetensors` where it exists; other settings are an error.
        start_from: checkpoint whose averaged weights are the initial ones.
        teacher: checkpoint of a larger network for stages with a "distill" loss.
        group: the processes of the run; None is this one alone.

    Returns:
        The best checkpoint of every stage.

    Raises:
        TrainError: the settings are impossible, differ from the checkpoint's, or a loss is not finite.
        Interrupted: the user stopped it; `last.safetensors` was saved.
    """
    check(config, teacher is not None)
    run.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    group, hooks = group or Group(), hooks or Hooks()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = config.bf16 if config.bf16 is not None else multiplies_bf16(device)
    material = dataset.load(cache)
    missing = [name for name in config.versions if name not in material.versions]
    if missing:
        raise TrainError(
            f"the crops were made without {', '.join(missing)}; remove the folder to make them anew",
            path=str(cache),
        )
    validator = Validator(material.clips, device) if group.writes else None
    facts = {"config": asdict(config), "seconds": 0.0, "history": []}
    state = _Run(config, run, hooks, group, device, bf16, material, validator, facts)
    guide = load_network(teacher) if teacher else None
    first, trainer = _resumed(state, guide) if resume and (run / LAST).exists() else (1, None)
    group.check_same((len(material.train), first, state.facts.get("step", 0)), "crops or checkpoints")
    best = [best_file(run, n, s) for n, s in enumerate(config.stages, 1)]
    with hooks.stopping() as stop_asked:
        for number, stage in enumerate(config.stages, 1):
            if number < first:
                continue
            if trainer is None:
                network = _fresh(config)
                origin = best[number - 2] if number > 1 else start_from
                if origin is not None:
                    checkpoint.load(origin, {"ema": network})
                trainer = _trainer(state, stage, network, guide)
                state.facts |= {"stage": number, "step": 0, "best": -math.inf, "scores": None}
            _run_stage(state, number, trainer, stop_asked)
            trainer = None
    return best


def check(config: TrainConfig, has_teacher: bool = False) -> None:
    """Raise TrainError where settings cannot be meant."""
    from upscale.train.losses import LOSSES

    if not config.stages:
        raise TrainError("a run needs at least one stage")
    for stage in config.stages:
        unknown = [name for name in stage.losses if name not in LOSSES]
        if unknown:
            raise TrainError(f"unknown loss {unknown[0]!r}: one of {', '.join(LOSSES)}")
        if not any(weight > 0 for weight in stage.losses.values()):
            raise TrainError(f"stage {stage.name!r} has no loss")
        if stage.pixel not in PIXEL_KINDS or stage.adversarial not in ADVERSARIAL_KINDS:
            raise TrainError(
                f"unknown kind of loss: pixel is one of {', '.join(PIXEL_KINDS)}, "
                f"adversarial one of {', '.join(ADVERSARIAL_KINDS)}"
            )
        shares = stage.mix.values()
        if not math.isclose(sum(shares), 1, abs_tol=1e-6) or min(shares) < 0:
            raise TrainError("the mix must be shares that sum to 1")
        if not 16 <= stage.patch <= dataset.CROP // 2 or stage.patch % 4:
            raise TrainError(f"the patch must be a multiple of 4 from 16 to {dataset.CROP // 2}")
        if stage.losses.get("distill") and not has_teacher:
            raise TrainError("the loss 'distill' needs a teacher: --teacher CHECKPOINT")
    if any(stage.losses.get("perceptual") for stage in config.stages):
        # Missing weights are said now, not when hours of earlier stages are done.
        from upscale.metrics.lpips import find_weights

        try:
            find_weights()
        except ModelError as e:
            raise TrainError(f"{e}; --loss perceptual=0 trains without", path=e.path) from e


def load_network(path: Path) -> TrainableGenerator:
    """The averaged weights of a checkpoint in their trainable form.

    Raises:
        TrainError: the file is damaged.
    """
    settings = checkpoint.read_facts(path)["config"]
    shape = GeneratorConfig(settings["unshuffle"], settings["channels"], settings["body"])
    network = TrainableGenerator(shape, settings["expand"])
    checkpoint.load(path, {"ema": network})
    return network


def _fresh(config: TrainConfig) -> TrainableGenerator:
    torch.manual_seed(config.seed)
    return TrainableGenerator(GeneratorConfig(config.unshuffle, config.channels, config.body), config.expand)


def _trainer(
    state: _Run, stage: Stage, network: TrainableGenerator, guide: TrainableGenerator | None
) -> StageTrainer:
    return StageTrainer(
        state.config, stage, network, state.device, bf16=state.bf16, group=state.group, teacher=guide
    )


def _resumed(state: _Run, guide: TrainableGenerator | None) -> tuple[int, StageTrainer]:
    """Number of the stage that `last.safetensors` is in, and its trainer as it was."""
    state.facts = check_resume(state.folder, state.config)
    number = int(state.facts["stage"])
    trainer = _trainer(state, state.config.stages[number - 1], _fresh(state.config), guide)
    checkpoint.load(state.folder / LAST, trainer.modules(), trainer.optimizers())
    return number, trainer


def check_resume(run: Path, config: TrainConfig) -> dict[str, Any]:
    """The facts of the run's last checkpoint, if `config` can go on with it.

    Raises:
        TrainError: the checkpoint is damaged or was made with other settings.
    """
    facts = checkpoint.read_facts(run / LAST)
    # Threads and the length of the intervals may change on another machine; the rest is the run.
    free = {"threads", "validate_every", "checkpoint_every"}
    found = from_mapping(facts["config"])
    other = [k for k, v in asdict(config).items() if k not in free and asdict(found)[k] != v]
    if other:
        raise TrainError(f"cannot resume: the checkpoint was made with another {', '.join(other)}")
    return facts


def _run_stage(
    state: _Run, number: int, trainer: StageTrainer, stop_asked: Callable[[], bool] = lambda: False
) -> None:
    config, stage, facts = state.config, trainer.stage, state.facts
    sampler = Sampler(
        seed=config.seed + 1000 * number,
        batch=stage.batch,
        patch=stage.patch,
        mix=[stage.mix.get(name, 0.0) for name in state.material.versions],
        levels=stage.levels,
        native=stage.native,
        first=state.group.rank * stage.batch,
        chroma=trainer.perceptual is not None,
        before=bool(stage.losses.get("temporal")),
    )
    sums: dict[str, float] = {}
    count, since = 0, time.perf_counter()
    batches = prefetch(state.material.train, sampler, first=facts["step"], last=stage.iterations)
    for step, batch in enumerate(batches, start=facts["step"] + 1):
        losses = state.group.mean(trainer.step(step, batch))
        if not all(map(math.isfinite, losses.values())):
            raise TrainError(f"a loss is no longer a number at step {step} of {stage.name}: lower the rates")
        sums = {k: sums.get(k, 0.0) + v for k, v in losses.items()}
        count, facts["step"] = count + 1, step
        finished = step == stage.iterations
        validating = finished or step % config.validate_every == 0
        if validating or step % REPORT_EVERY == 0:
            seconds = time.perf_counter() - since
            facts["seconds"] += seconds
            means = {k: v / count for k, v in sums.items()}
            report = Progress(
                stage.name, number, len(config.stages), step, stage.iterations, means, count / seconds
            )
            _report(state, trainer, report, validating)
            sums, count, since = {}, 0, time.perf_counter()
        stopping = state.group.any(stop_asked())
        if state.group.writes and (finished or stopping or step % config.checkpoint_every == 0):
            checkpoint.save(state.folder / LAST, trainer.modules(), trainer.optimizers(), facts)
        if stopping:
            raise Interrupted(
                f"stopped at step {step} of {stage.name}; the same command with --resume goes on"
            )
    state.group.wait()


def _report(state: _Run, trainer: StageTrainer, report: Progress, validating: bool) -> None:
    if not state.group.writes:
        return
    if validating and state.validator is not None:
        scores = state.validator(trainer.ema)
        report = replace(report, scores=scores)
        _keep_if_best(state, trainer, report.number, scores)
    state.hooks.progress(report)
    if report.scores is not None:
        state.hooks.validated(report, trainer.ema)


def _keep_if_best(state: _Run, trainer: StageTrainer, number: int, scores: Scores) -> None:
    stage, facts = trainer.stage, state.facts
    selection_score = scores.selection_score(bool(stage.losses.get("perceptual") or stage.has_adversary))
    entry = {"stage": stage.name, "step": facts["step"], "selection_score": selection_score, **asdict(scores)}
    facts["history"] = [*facts["history"], entry]
    if selection_score > facts["best"]:
        facts |= {"best": selection_score, "scores": asdict(scores)}
        target = best_file(state.folder, number, stage)
        checkpoint.save(target, {"ema": trainer.ema}, {}, facts | {"stage": number})
