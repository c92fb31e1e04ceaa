"""The fidelity stage: a generator learns to come near the true picture."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import TrainError
from upscale.model.config import GeneratorConfig
from upscale.train import checkpoint, dataset
from upscale.train.batches import prefetch
from upscale.train.config import LOSSES, TrainConfig
from upscale.train.reparam import TrainableGenerator
from upscale.train.validate import Scores, validate

WARM_UP = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of the loop: `loss` is the mean since the last, `scores` are set after a validation."""

    step: int
    iterations: int
    loss: float
    steps_per_second: float
    scores: Scores | None = None


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine from `config.learning_rate` to a hundredth of it."""
    if step < WARM_UP:
        return config.learning_rate * (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, config.iterations - WARM_UP)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def pixel_loss(kind: str, output: Tensor, truth: Tensor) -> Tensor:
    """Distance from the true picture, both (N, 1, H, W) in 0…1 (the talks' local constraint)."""
    if kind == "charbonnier":  # Lai et al. 2017 (LapSRN): L1 with a rounded tip
        return torch.sqrt((output - truth).square() + 1e-6).mean()
    return F.l1_loss(output, truth) if kind == "l1" else F.mse_loss(output, truth)


def fidelity(
    cache: Path,
    run: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train, and keep the best averaged weights by held-out score.

    Args:
        cache: crops made by `upscale.train.dataset.build`.
        run: folder for `last.safetensors` (resumable), `best.safetensors` (the same kind of file at
            the best validation) and `log.jsonl`.
        resume: go on from `last.safetensors` where it exists; other settings are an error.
        start_from: checkpoint whose averaged weights are the initial ones.

    Returns:
        The path of the best checkpoint.

    Raises:
        TrainError: the settings are impossible, differ from the checkpoint's, or the loss is not finite.
    """
    if config.loss not in LOSSES:
        raise TrainError(f"unknown loss {config.loss!r}: one of {', '.join(LOSSES)}")
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = GeneratorConfig(config.unshuffle, config.channels, config.body)
    model = TrainableGenerator(shape, config.expand).to(device)
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    facts = {"step": 0, "best": -math.inf, "seconds": 0.0, "config": asdict(config)}
    last = run / "last.safetensors"
    if resume and last.exists():
        facts = checkpoint.load(last, model=model, ema=ema, optimizer=optimizer)
        _same_run(facts["config"], config)
    elif start_from is not None:
        checkpoint.load(start_from, model=model, ema=ema, optimizer=copy.deepcopy(optimizer))
        model.load_state_dict(ema.state_dict())
    _run_steps(model, ema, optimizer, cache, run, config, facts, on_progress)
    return run / "best.safetensors"


def _same_run(saved: dict[str, object], config: TrainConfig) -> None:
    # Threads and the length of the intervals may change on another machine; the rest is the run.
    free = {"threads", "validate_every", "checkpoint_every"}
    wanted = json.loads(json.dumps(asdict(config)))
    other = [k for k, v in wanted.items() if k not in free and saved.get(k) != v]
    if other:
        raise TrainError(f"cannot resume: the checkpoint was made with another {', '.join(other)}")


def _run_steps(
    model: TrainableGenerator,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    cache: Path,
    run: Path,
    config: TrainConfig,
    facts: dict,
    on_progress: Callable[[Progress], None],
) -> None:
    train, held_out = dataset.load(cache)
    device = next(model.parameters()).device
    bf16 = config.bf16 if config.bf16 is not None else _multiplies_bf16(device)
    batches = prefetch(
        train, first=facts["step"], last=config.iterations, seed=config.seed, batch=config.batch,
        patch=config.patch, clean=config.clean,
    )  # fmt: skip
    total, counted, since = 0.0, 0, time.perf_counter()
    for step, (low, high) in enumerate(batches, start=facts["step"] + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, config)
        low, high = (t.to(device).float().div_(255) for t in (low, high))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output = model(low)
        loss = pixel_loss(config.loss, output.float(), high)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            decay = min(config.ema, step / (step + 10))
            torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
        total, counted = total + loss.item(), counted + 1
        if not math.isfinite(total):
            raise TrainError(f"the loss is no longer a number at step {step}: lower the learning rate")
        finished = step == config.iterations
        if step % 100 == 0 or finished:
            now = time.perf_counter()
            scores = None
            if step % config.validate_every == 0 or finished:
                scores = validate(ema, held_out)
            progress = Progress(step, config.iterations, total / counted, counted / (now - since), scores)
            facts["seconds"] += now - since
            on_progress(progress)
            facts["step"] = step
            if scores is not None:
                _log(run, progress, facts["seconds"])
                if scores.mean > facts["best"]:
                    facts["best"] = scores.mean
                    checkpoint.save(run / "best.safetensors", model=model, ema=ema, optimizer=optimizer, facts=facts)
            total, counted, since = 0.0, 0, time.perf_counter()
        if step % config.checkpoint_every == 0 or finished:
            facts["step"] = step
            checkpoint.save(run / "last.safetensors", model=model, ema=ema, optimizer=optimizer, facts=facts)


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _log(run: Path, progress: Progress, seconds: float) -> None:
    entry = asdict(replace(progress)) | {"seconds": round(seconds, 1)}
    with (run / "log.jsonl").open("a") as f:
        f.write(json.dumps(entry) + "\n")
