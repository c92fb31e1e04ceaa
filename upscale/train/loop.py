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
from upscale.metrics.lpips import find_weights
from upscale.model.config import GeneratorConfig
from upscale.train import checkpoint, dataset
from upscale.train.batches import Sampler, prefetch
from upscale.train.config import Stage, TrainConfig
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
    """One run's settings, and the metadata that its checkpoints carry."""

    config: TrainConfig
    folder: Path
    hooks: Hooks
    group: Group
    device: torch.device
    material: dataset.Material
    validator: Validator | None
    teacher: TrainableGenerator | None
    metadata: dict[str, Any]

    def new_network(self) -> TrainableGenerator:
        config = self.config
        torch.manual_seed(config.seed)
        shape = GeneratorConfig(config.unshuffle, config.channels, config.body)
        return TrainableGenerator(shape, config.expand)

    def trainer(self, number: int, network: TrainableGenerator) -> StageTrainer:
        """For stage `number` (from 1)."""
        wanted, stage = self.config.bf16, self.config.stages[number - 1]
        bf16 = multiplies_bf16(self.device) if wanted is None else wanted
        return StageTrainer(
            self.config, stage, network, self.device, bf16=bf16, group=self.group, teacher=self.teacher
        )


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
        resume: continue from `last.safetensors` where it exists; other settings are an error.
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
    material = dataset.load(cache)
    missing = [name for name in config.versions if name not in material.versions]
    if missing:
        raise TrainError(
            f"the crops were made without {', '.join(missing)}; remove the folder to renew them",
            path=str(cache),
        )
    validator = Validator(material.clips, device) if group.writes else None
    metadata = {"config": asdict(config), "seconds": 0.0, "history": []}
    guide = load_network(teacher) if teacher else None
    state = _Run(config, run, hooks, group, device, material, validator, guide, metadata)
    first, trainer = _resumed(state) if resume and (run / LAST).exists() else (1, None)
    group.check_same((len(material.train), first, state.metadata.get("step", 0)), "crops or checkpoints")
    best = [best_file(run, n, s) for n, s in enumerate(config.stages, 1)]
    with hooks.stopping() as stop_asked:
        for number in range(first, len(config.stages) + 1):
            if trainer is None:
                network = state.new_network()
                origin = best[number - 2] if number > 1 else start_from
                if origin is not None:
                    checkpoint.load(origin, {"ema": network})
                trainer = state.trainer(number, network)
                state.metadata |= {"stage": number, "step": 0, "best": -math.inf, "scores": None}
            _run_stage(state, number, trainer, stop_asked)
            trainer = None
    return best


def check(config: TrainConfig, has_teacher: bool = False) -> None:
    """Refuse settings that cannot be meant, and those whose material is missing, before any work.

    Raises:
        UsageError: a setting is impossible.
        TrainError: a teacher or the weights of LPIPS are missing.
    """
    from_mapping(asdict(config))
    if any(stage.losses.get("distill") for stage in config.stages) and not has_teacher:
        raise TrainError("the loss 'distill' needs a teacher: --teacher CHECKPOINT")
    if any(stage.losses.get("perceptual") for stage in config.stages):
        try:
            find_weights()
        except ModelError as e:
            raise TrainError(f"{e}; --loss perceptual=0 trains without", path=e.path) from e


def load_network(path: Path) -> TrainableGenerator:
    """The averaged weights of a checkpoint in their trainable form.

    Raises:
        TrainError: the file is damaged.
    """
    settings = checkpoint.read_metadata(path)["config"]
    shape = GeneratorConfig(settings["unshuffle"], settings["channels"], settings["body"])
    network = TrainableGenerator(shape, settings["expand"])
    checkpoint.load(path, {"ema": network})
    return network


def _resumed(state: _Run) -> tuple[int, StageTrainer]:
    """Number of the stage that `last.safetensors` is in, and its trainer as it was."""
    state.metadata = check_resume(state.folder, state.config)
    number = int(state.metadata["stage"])
    trainer = state.trainer(number, state.new_network())
    checkpoint.load(state.folder / LAST, trainer.modules(), trainer.optimizers())
    return number, trainer


def check_resume(run: Path, config: TrainConfig) -> dict[str, Any]:
    """The metadata of the run's last checkpoint, if `config` can continue it.

    Raises:
        TrainError: the checkpoint is damaged or was made with other settings.
    """
    metadata = checkpoint.read_metadata(run / LAST)
    # Threads and the length of the intervals may change on another machine; the rest is the run.
    free = {"threads", "validate_every", "checkpoint_every"}
    found = from_mapping(metadata["config"])
    other = [k for k, v in asdict(config).items() if k not in free and asdict(found)[k] != v]
    if other:
        raise TrainError(f"cannot resume: the checkpoint was made with another {', '.join(other)}")
    return metadata


def _run_stage(state: _Run, number: int, trainer: StageTrainer, stop_asked: Callable[[], bool]) -> None:
    config, stage, metadata = state.config, trainer.stage, state.metadata
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
    batches = prefetch(state.material.train, sampler, first=metadata["step"], last=stage.iterations)
    for step, batch in enumerate(batches, start=metadata["step"] + 1):
        losses = state.group.mean(trainer.step(step, batch))
        if not all(map(math.isfinite, losses.values())):
            raise TrainError(f"a loss is no longer a number at step {step} of {stage.name}: lower the rates")
        sums = {k: sums.get(k, 0.0) + v for k, v in losses.items()}
        count, metadata["step"] = count + 1, step
        finished = step == stage.iterations
        validating = finished or step % config.validate_every == 0
        if validating or step % REPORT_EVERY == 0:
            seconds = time.perf_counter() - since
            metadata["seconds"] += seconds
            means = {k: v / count for k, v in sums.items()}
            report = Progress(
                stage.name, number, len(config.stages), step, stage.iterations, means, count / seconds
            )
            _report(state, trainer, report, validating)
            sums, count, since = {}, 0, time.perf_counter()
        stopping = state.group.any(stop_asked())
        if state.group.writes and (finished or stopping or step % config.checkpoint_every == 0):
            checkpoint.save(state.folder / LAST, trainer.modules(), trainer.optimizers(), metadata)
        if stopping:
            raise Interrupted(
                f"stopped at step {step} of {stage.name}; the same command with --resume continues"
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
    stage, metadata = trainer.stage, state.metadata
    score = scores.selection_score(bool(stage.losses.get("perceptual") or stage.has_adversary))
    entry = {"stage": stage.name, "step": metadata["step"], "selection_score": score, **asdict(scores)}
    metadata["history"] = [*metadata["history"], entry]
    if score > metadata["best"]:
        metadata |= {"best": score, "scores": asdict(scores)}
        target = best_file(state.folder, number, stage)
        checkpoint.save(target, {"ema": trainer.ema}, {}, metadata | {"stage": number})
