"""Everything that decides a training run, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from upscale.train.losses import LOSSES

try:
    from msgspec import Meta
except ImportError:  # without the extra `train` only the help of `upscale train` gets this far
    Meta = dict  # type: ignore[misc, assignment]

# What a setting may be is in its type: `upscale.train.recipe` has msgspec check it.
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0, le=1e300)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1e300)]
PixelKind = Literal["charbonnier", "l1", "mse", "psnr"]
AdversarialKind = Literal["relativistic", "hinge"]
DiscriminatorKind = Literal["patch", "conditional"]
HeldOutKind = Literal["clean", "crf23", "crf28", "crf33", "crf36", "divx"]

PIXEL_KINDS: tuple[str, ...] = get_args(PixelKind)
ADVERSARIAL_KINDS: tuple[str, ...] = get_args(AdversarialKind)
#: How held-out clips may be degraded for validation, and how they are by default.
HELD_OUT: tuple[str, ...] = get_args(HeldOutKind)
VALIDATED: tuple[HeldOutKind, ...] = ("crf23", "crf28")
#: What the small picture of a pair went through, by the names that a recipe's `mix` uses.
DEGRADATIONS = {
    "bicubic": "downscaled as the literature does, nothing else",
    "kernel": "downscaled with another kernel",
    "camera": "downscaled by a lens that is softer than its sensor",
    "x264_18_24": "x264 at CRF 18-24",
    "x264_24_30": "x264 at CRF 24-30",
    "x264_30_36": "x264 at CRF 30-36",
    "other": "MPEG-4, VP9 or AV1 at low rates",
    "x264_8_14": "x264 at CRF 8-14: no loss that can be seen",
    "x264_28_34": "x264 at CRF 28-34",
    "x264_34_40": "x264 at CRF 34-40",
    "divx": "MPEG-4 at q 6-20, most often with B frames",
    "h263": "H.263 or Flash video at q 5-16",
    "mpeg2": "MPEG-2 at q 6-20",
    "wmv": "Windows Media 8 or MS-MPEG-4 at q 6-18",
    "vp8": "VP8 at low rates",
    "twice": "one codec after another, resized between them",
}
#: A mix of six numbers, as older recipes have it, is of these.
SIX = ("bicubic", "kernel", "x264_18_24", "x264_24_30", "x264_30_36", "other")


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
        discriminator: "patch" looks at the large picture alone, "conditional" at it beside the small one,
            at two scales; for the latter `patch` is a multiple of 8.
        discriminator_rate: Adam's for the discriminator, along the same curve.
        mix: share of each of `DEGRADATIONS`, summing to 1; what is missing has none. In a recipe
            ``{ bicubic = 0.2, divx = 0.8 }``, or six numbers, for those of `SIX`.
        levels: share of crops whose luma gets another gain, offset or range, with the reference's.
        native: share of crops that are drawn from clips as they are, which are few but what real
            originals look like; the rest comes from stills and from clips that were halved. None draws
            from all alike.
        ema: decay of the averaged weights that are validated and exported.
    """

    name: str
    iterations: Count
    batch: Count = 16
    patch: Annotated[int, Meta(ge=16, le=96, multiple_of=4)] = 64
    learning_rate: Rate = 1e-3
    warm_up: Annotated[int, Meta(ge=0)] = 500
    losses: dict[str, Weight] = field(default_factory=lambda: {"pixel": 1.0})
    pixel: PixelKind = "charbonnier"
    adversarial: AdversarialKind = "relativistic"
    discriminator: DiscriminatorKind = "patch"
    discriminator_rate: Rate = 2e-4
    mix: dict[str, Share] = field(
        default_factory=lambda: dict(zip(SIX, (0.08, 0.07, 0.42, 0.28, 0.1, 0.05), strict=True))
    )
    levels: Share = 0.1
    native: Share | None = None
    ema: Share = 0.999

    @property
    def has_adversary(self) -> bool:
        """Whether a discriminator is trained beside the generator."""
        return self.losses.get("adversarial", 0.0) > 0 or self.losses.get("matching", 0.0) > 0


#: What `upscale train CLIPS -o OUTPUT` does: come near the originals, then learn to look like it.
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
        mix=dict(zip(SIX, (0.05, 0.1, 0.45, 0.35, 0.05, 0.0), strict=True)),
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
        originals: "degraded" makes part of the sharp pictures soft, grainy and compressed, as many originals
            are; "crisp" leaves them as they are, stills reduced until they are sharp.
        held_out: what held-out clips are validated on, of `HELD_OUT`.
        seed: of initial weights, crops and augmentation.
        validate_every, checkpoint_every: in steps.
        threads: CPU threads of torch; 0 lets it choose.
        bf16: autocast of the convolutions; None uses it where the CPU or GPU multiplies bf16.
    """

    unshuffle: Literal[1, 2] = 2
    channels: Annotated[int, Meta(ge=1, le=256)] = 32
    body: Annotated[int, Meta(ge=0, le=64)] = 3
    expand: Count = 4
    stages: tuple[Stage, ...] = STAGES
    originals: Literal["degraded", "crisp"] = "degraded"
    held_out: Annotated[tuple[HeldOutKind, ...], Meta(min_length=1)] = VALIDATED
    seed: Annotated[int, Meta(ge=0)] = 1
    validate_every: Count = 1_000
    checkpoint_every: Count = 500
    threads: Annotated[int, Meta(ge=0)] = 0
    bf16: bool | None = None

    @property
    def versions(self) -> tuple[str, ...]:
        """The degradations that any stage draws, in the order of `DEGRADATIONS`."""
        return tuple(n for n in DEGRADATIONS if any(s.mix.get(n, 0.0) > 0 for s in self.stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What `train` is asked for.

    Attributes:
        folder: of videos and pictures.
        output: path without suffix of the files to write, e.g. ``weights/my``.
        run: working folder for crops, checkpoints and the log; None is ``OUTPUT.run``.
        resume: continue an interrupted run.
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

    @property
    def kept_recipe(self) -> Path:
        """The settings of the run, in its folder."""
        return self.run_folder / "recipe.toml"
