"""Everything that decides a training run, in one place."""

from __future__ import annotations

from dataclasses import dataclass

LOSSES = ("charbonnier", "l1", "mse", "psnr")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Settings of `upscale train`: one good stage. The shipped recipe is in `weights/README.md`.

    Attributes:
        unshuffle, channels, body: the generator's shape (`upscale.model.config`).
        expand: training width of the collapsible blocks, in multiples of `channels`.
        iterations: optimiser steps.
        batch: crops per step.
        patch: side of the low-resolution crop, in pixels.
        learning_rate: Adam's, after a warm-up of 500 steps, then along a cosine to 1/100.
        loss: one of `LOSSES`, the "local" constraint: stay near the true picture.
        ema: decay of the averaged weights that are validated and exported.
        mix: share of each degradation of `upscale.train.dataset.VERSIONS`, summing to 1: clean bicubic,
            clean other kernels, lightly compressed, clearly compressed.
        seed: of initial weights, crops and augmentation.
        validate_every, checkpoint_every: in steps.
        threads: CPU threads of torch; 0 lets it choose.
        bf16: autocast of the convolutions; None uses it where the CPU or GPU multiplies bf16.
    """

    unshuffle: int = 2
    channels: int = 32
    body: int = 3
    expand: int = 4
    iterations: int = 150_000
    batch: int = 16
    patch: int = 64
    learning_rate: float = 2e-3
    loss: str = "charbonnier"
    ema: float = 0.999
    mix: tuple[float, ...] = (0.5, 0.05, 0.25, 0.2)
    seed: int = 1
    validate_every: int = 5_000
    checkpoint_every: int = 2_500
    threads: int = 0
    bf16: bool | None = None
