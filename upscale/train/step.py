"""One stage's networks, optimisers and losses: what a training step does."""

from __future__ import annotations

import copy
import math
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.optim import Adam

from upscale.backends.pytorch import cpu_has_bf16
from upscale.train.batches import Batch
from upscale.train.config import Stage, TrainConfig
from upscale.train.distributed import Group
from upscale.train.losses.adversarial import (
    ConditionalDiscriminator,
    PatchDiscriminator,
    discriminator_loss,
    generator_loss,
    matching_loss,
)
from upscale.train.losses.distill import Distiller
from upscale.train.losses.optimal_transport import transport_loss
from upscale.train.losses.perceptual import Perceptual
from upscale.train.losses.pixel import pixel_loss
from upscale.train.losses.smooth import smooth_loss
from upscale.train.losses.tangent import tangent_loss
from upscale.train.losses.temporal import temporal_loss
from upscale.train.reparam import TrainableGenerator

#: Crops and side of the low-resolution patch on which the tangent loss is estimated: it needs a
#: second backward pass, and a few directions a step are enough over thousands of steps.
TANGENT_CROPS, TANGENT_PATCH = 2, 24


def rate_at(step: int, stage: Stage) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine down to a hundredth."""
    if step < stage.warm_up:
        return (step + 1) / stage.warm_up
    done = (step - stage.warm_up) / max(1, stage.iterations - stage.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class StageTrainer:
    """Everything that changes while one stage runs.

    Args:
        generator: the network to train, moved to `device`.
        teacher: a frozen, larger network for the "distill" loss.
    """

    def __init__(
        self,
        config: TrainConfig,
        stage: Stage,
        generator: TrainableGenerator,
        device: torch.device,
        *,
        bf16: bool,
        group: Group,
        teacher: TrainableGenerator | None = None,
    ) -> None:
        self.config, self.stage, self.device, self.bf16, self.group = config, stage, device, bf16, group
        self.model = generator.to(device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = _adam(self.model, stage.learning_rate)
        self.discriminator: PatchDiscriminator | ConditionalDiscriminator | None = None
        self.discriminator_optimizer: Adam | None = None
        if stage.has_adversary:
            kind = ConditionalDiscriminator if stage.discriminator == "conditional" else PatchDiscriminator
            self.discriminator = kind().to(device)
            self.discriminator_optimizer = _adam(self.discriminator, stage.discriminator_rate)
        self.perceptual = Perceptual().to(device) if stage.losses.get("perceptual") else None
        guided = bool(stage.losses.get("distill"))
        self.distiller = Distiller(teacher.to(device)) if guided and teacher is not None else None

    def modules(self) -> dict[str, nn.Module]:
        """Networks that a checkpoint holds."""
        found = {"model": self.model, "ema": self.ema, "discriminator": self.discriminator}
        return {k: m for k, m in found.items() if m is not None}

    def optimizers(self) -> dict[str, Adam]:
        """Optimisers that a checkpoint holds."""
        found = {"optimizer": self.optimizer, "discriminator_optimizer": self.discriminator_optimizer}
        return {k: o for k, o in found.items() if o is not None}

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """Optimiser steps number `step` (from 1) of generator and discriminator; returns each loss."""
        # Random directions and projections depend on the step alone, so that a resumed run repeats them.
        torch.manual_seed(self.config.seed * 1_000_003 + step)
        batch = batch.to(self.device)
        share = rate_at(step - 1, self.stage)
        with self._autocast():
            output = self.model(batch.low)
        inputs = LossInputs(output.float(), batch)
        losses = self._losses(inputs)
        total = torch.stack([self.stage.losses[k] * v for k, v in losses.items()]).sum()
        _apply(self.optimizer, self.stage.learning_rate * share, total, self.group)
        self._average(step)
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            self.discriminator.requires_grad_(True)
            judged = self._judged(self.discriminator, inputs, inputs.seen.detach())
            kind = self.stage.adversarial
            loss = torch.stack([discriminator_loss(kind, r[-1], f[-1]) for r, f in judged]).mean()
            rate = self.stage.discriminator_rate * share
            _apply(self.discriminator_optimizer, rate, loss, self.group)
            losses["discriminator"] = loss
        return {k: float(v.detach()) for k, v in losses.items()}

    def _losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        weights, losses = self.stage.losses, {}
        output, batch = inputs.output, inputs.batch
        if weights.get("pixel"):
            losses["pixel"] = pixel_loss(self.stage.pixel, output, batch.high)
        if self.perceptual is not None:
            # In float32: bf16 has too few digits for faint patterns, to which LPIPS is most sensitive.
            losses["perceptual"] = self.perceptual(
                inputs.seen, inputs.reference, batch.low_chroma, batch.high_chroma
            )
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            judged, kind = self._judged(self.discriminator, inputs, inputs.seen), self.stage.adversarial
            if weights.get("adversarial"):
                asked = [generator_loss(kind, real[-1], fake[-1]) for real, fake in judged]
                losses["adversarial"] = torch.stack(asked).mean()
            if weights.get("matching"):
                losses["matching"] = torch.stack([matching_loss(r[:-1], f[:-1]) for r, f in judged]).mean()
        if weights.get("tangent"):
            part = batch.low[:TANGENT_CROPS, :, :TANGENT_PATCH, :TANGENT_PATCH]
            losses["tangent"] = tangent_loss(self.model, part)
        if weights.get("transport"):
            losses["transport"] = transport_loss(inputs.seen, inputs.reference)
        if weights.get("smooth"):
            losses["smooth"] = smooth_loss(self.model, self.device)
        if weights.get("temporal"):
            with self._autocast():
                before = self.model(batch.low_before)
            losses["temporal"] = temporal_loss(before.float(), output, batch.high_before, batch.high)
        if self.distiller is not None:
            with self._autocast():
                losses["distill"] = self.distiller(self.model, batch.low, output)
        return losses

    def _judged(
        self, discriminator: PatchDiscriminator | ConditionalDiscriminator, inputs: LossInputs, fake: Tensor
    ) -> list[tuple[list[Tensor], list[Tensor]]]:
        """By judge: features and, last, logits of the true picture and of `fake`."""
        with self._autocast():
            both = [discriminator.judge(picture, inputs.low) for picture in (inputs.reference, fake)]
        real, made = ([[part.float() for part in judge] for judge in judges] for judges in both)
        return list(zip(real, made, strict=True))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        # The average follows closely at first, so that early validations are not of the start.
        decay = min(self.stage.ema, step / (step + 10))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)


class LossInputs:
    """What the losses compare; what the eye sees is made once, by the first loss that asks for it.

    Attributes:
        output: (N, 1, 2P, 2P), what the generator made of `batch.low`, float32.
    """

    def __init__(self, output: Tensor, batch: Batch) -> None:
        self.output, self.batch = output, batch

    @cached_property
    def seen(self) -> Tensor:
        """The output before its levels were changed, rounded: else flat areas would not show their steps."""
        return round_codes((self.output - self.batch.offset) / self.batch.gain)

    @cached_property
    def low(self) -> Tensor:
        """What the output was made from, before its levels were changed."""
        return (self.batch.low - self.batch.offset) / self.batch.gain

    @cached_property
    def reference(self) -> Tensor:
        """The true picture before its levels were changed."""
        return (self.batch.high - self.batch.offset) / self.batch.gain


def round_codes(picture: Tensor) -> Tensor:
    """0…1 rounded to 8-bit code values, with the gradient of the unrounded (straight-through)."""
    return picture + (picture * 255).round().div(255).sub(picture).detach()


def _adam(network: nn.Module, rate: float) -> Adam:
    return Adam(network.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)


def _apply(optimizer: Adam, rate: float, loss: Tensor, group: Group) -> None:
    for part in optimizer.param_groups:
        part["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    group.average_gradients(p for part in optimizer.param_groups for p in part["params"])
    optimizer.step()


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the processor has bf16 matrix instructions, so that autocast is faster than float32."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16(torch)
