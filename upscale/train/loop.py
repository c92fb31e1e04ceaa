"""The fidelity stage: a generator learns to come near the true picture."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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
    if kind == "psnr":  # minus the mean PSNR of the crops, up to a factor (Chen et al. 2021, HINet)
        return torch.log((output - truth).square().mean((1, 2, 3)) + 1e-6).mean()
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
    whole = math.isclose(sum(config.mix), 1) and min(config.mix) >= 0
    if len(config.mix) != len(dataset.VERSIONS) or not whole:
        raise TrainError(f"the mix must be {len(dataset.VERSIONS)} shares that sum to 1")
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    state = _State(config, run)
    last = run / "last.safetensors"
    if resume and last.exists():
        state.facts = checkpoint.load(last, model=state.model, ema=state.ema, optimizer=state.optimizer)
        _same_run(state.facts["config"], config)
    elif start_from is not None:
        fresh = copy.deepcopy(state.optimizer)
        checkpoint.load(start_from, model=state.model, ema=state.ema, optimizer=fresh)
        state.model.load_state_dict(state.ema.state_dict())
    _run_steps(state, cache, on_progress)
    return run / "best.safetensors"


def _same_run(saved: dict[str, Any], config: TrainConfig) -> None:
    # Threads and the length of the intervals may change on another machine; the rest is the run.
    free = {"threads", "validate_every", "checkpoint_every"}
    wanted = json.loads(json.dumps(asdict(config)))
    other = [k for k, v in wanted.items() if k not in free and saved.get(k) != v]
    if other:
        raise TrainError(f"cannot resume: the checkpoint was made with another {', '.join(other)}")


class _State:
    """What one step changes: the networks, the optimiser and the `facts` of the checkpoint."""

    def __init__(self, config: TrainConfig, run: Path) -> None:
        self.config, self.run = config, run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = config.bf16 if config.bf16 is not None else _multiplies_bf16(self.device)
        shape = GeneratorConfig(config.unshuffle, config.channels, config.body)
        self.model = TrainableGenerator(shape, config.expand).to(self.device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        rate = config.learning_rate
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)
        self.facts: dict[str, Any] = {
            "step": 0,
            "best": -math.inf,
            "seconds": 0.0,
            "config": asdict(config),
        }

    def step(self, step: int, low: Tensor, high: Tensor) -> float:
        """One optimiser step on a uint8 batch; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, self.config)
        low, high = (t.to(self.device).float().div_(255) for t in (low, high))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.model(low)
        loss = pixel_loss(self.config.loss, output.float(), high)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        # The average follows closely at first, so that early validations are not of the start.
        decay = min(self.config.ema, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)
        self.facts["step"] = step
        return loss.item()

    def save(self, name: str) -> None:
        checkpoint.save(
            self.run / name, model=self.model, ema=self.ema, optimizer=self.optimizer, facts=self.facts
        )

    def keep_if_best(self, scores: Scores) -> None:
        if scores.mean > self.facts["best"]:
            self.facts["best"] = scores.mean
            self.save("best.safetensors")


def _run_steps(state: _State, cache: Path, on_progress: Callable[[Progress], None]) -> None:
    config, facts = state.config, state.facts
    train, held_out = dataset.load(cache)
    batches = prefetch(
        train,
        first=facts["step"],
        last=config.iterations,
        seed=config.seed,
        batch=config.batch,
        patch=config.patch,
        mix=config.mix,
    )
    losses: list[float] = []
    since = time.perf_counter()
    for step, (low, high) in enumerate(batches, start=facts["step"] + 1):
        losses.append(state.step(step, low, high))
        if not math.isfinite(losses[-1]):
            raise TrainError(f"the loss is no longer a number at step {step}: lower the learning rate")
        finished = step == config.iterations
        validating = finished or step % config.validate_every == 0
        if validating or step % 100 == 0:
            seconds = time.perf_counter() - since
            facts["seconds"] += seconds
            scores = validate(state.ema, held_out, config.mix) if validating else None
            mean = sum(losses) / len(losses)
            progress = Progress(step, config.iterations, mean, len(losses) / seconds, scores)
            on_progress(progress)
            if scores:
                _log(state.run, progress, facts["seconds"])
                state.keep_if_best(scores)
            losses, since = [], time.perf_counter()
        if finished or step % config.checkpoint_every == 0:
            state.save("last.safetensors")


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _log(run: Path, progress: Progress, seconds: float) -> None:
    entry = asdict(progress) | {"seconds": round(seconds, 1)}
    with (run / "log.jsonl").open("a") as f:
        f.write(json.dumps(entry) + "\n")
