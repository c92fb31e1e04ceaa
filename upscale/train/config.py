"""Everything that decides a training run, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from upscale.train.losses import LOSSES

PIXEL_KINDS = ("charbonnier", "l1", "mse", "psnr")
ADVERSARIAL_KINDS = ("relativistic", "hinge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of a run: it starts from the averaged weights of the one before, with a new optimiser.

    Attributes:
        name: for reports; the export of a run's last stage without an adversary is called
            OUTPUT_fidelity where a stage with one follows.
        iterations: optimiser steps.
        batch: crops per step and process.
        patch: side of the low-resolution crop, in pixels.
        learning_rate: Adam's, after a warm-up, then along a cosine to 1/100.
        warm_up: steps.
        losses: weight of each of `upscale.train.losses.LOSSES`; what is missing has none.
        pixel: kind of the pixel loss, one of `PIXEL_KINDS`.
        adversarial: kind of the adversarial loss, one of `ADVERSARIAL_KINDS`.
        discriminator_rate: Adam's for the discriminator, along the same curve.
        mix: share of each degradation of `upscale.train.dataset.VERSIONS`, summing to 1: clean
            bicubic, clean other kernels, x264 at CRF 18-24, 24-30 and 30-36, other codecs.
        levels: share of crops whose luma gets another gain, offset or range, with its truth.
        native: share of crops that are drawn from clips as they are, which are few but what real
            originals look like; the rest comes from stills and from clips that were halved. None draws
            from all alike.
        ema: decay of the averaged weights that are validated and exported.
    """

    name: str
    iterations: int
    batch: int = 16
    patch: int = 64
    learning_rate: float = 1e-3
    warm_up: int = 500
    losses: dict[str, float] = field(default_factory=lambda: {"pixel": 1.0})
    pixel: str = "charbonnier"
    adversarial: str = "relativistic"
    discriminator_rate: float = 2e-4
    mix: tuple[float, ...] = (0.08, 0.07, 0.42, 0.28, 0.1, 0.05)
    levels: float = 0.1
    native: float | None = None
    ema: float = 0.999

    @property
    def has_adversary(self) -> bool:
        """Whether a discriminator is trained beside the generator."""
        return self.losses.get("adversarial", 0.0) > 0


#: What `upscale train CLIPS -o OUTPUT` does: come near the truth, then learn to look like it.
STAGES = (
    Stage(name="fidelity", iterations=60_000, learning_rate=2e-3),
    Stage(name="sharpen", iterations=20_000, learning_rate=1e-3, pixel="psnr"),
    Stage(
        name="gan",
        iterations=4_000,
        batch=8,
        learning_rate=5e-4,
        warm_up=100,
        losses={name: info.weight for name, info in LOSSES.items() if info.weight},
        mix=(0.05, 0.1, 0.45, 0.35, 0.05, 0.0),
        levels=0.05,
        native=0.5,
        ema=0.998,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Settings of `upscale train`. The shipped recipes are TOML files in `weights/`.

    Attributes:
        unshuffle, channels, body: the generator's shape (`upscale.model.config`).
        expand: training width of the collapsible blocks, in multiples of `channels`.
        stages: run one after the other.
        seed: of initial weights, crops and augmentation.
        validate_every, checkpoint_every: in steps.
        threads: CPU threads of torch; 0 lets it choose.
        bf16: autocast of the convolutions; None uses it where the CPU or GPU multiplies bf16.
    """

    unshuffle: int = 2
    channels: int = 32
    body: int = 3
    expand: int = 4
    stages: tuple[Stage, ...] = STAGES
    seed: int = 1
    validate_every: int = 1_000
    checkpoint_every: int = 500
    threads: int = 0
    bf16: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What `train` is asked for.

    Attributes:
        folder: of videos and pictures.
        output: path without suffix of the files to write, e.g. ``weights/my``.
        run: working folder for crops, checkpoints and the log; None is ``OUTPUT.run``.
        resume: go on where an interrupted run stopped.
        start_from: checkpoint of an earlier run to start from.
        teacher: checkpoint of a larger network for the "distill" loss.
        crops: finished cache of crops of another run; None makes one in `run`.
    """

    folder: Path
    output: Path
    config: TrainConfig
    run: Path | None = None
    resume: bool = False
    start_from: Path | None = None
    teacher: Path | None = None
    crops: Path | None = None

    @property
    def run_folder(self) -> Path:
        return self.run or self.output.with_name(self.output.name + ".run")
