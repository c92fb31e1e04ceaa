"""The training loop: stages, resume, validation, distillation, export.

Covers upscale/train/{loop,step,validate,checkpoint,export,card,job}.py and losses/distill.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from upscale.errors import TrainError, UsageError
from upscale.model.config import GeneratorConfig
from upscale.train import checkpoint, dataset, loop
from upscale.train.config import Stage, TrainConfig, TrainJob
from upscale.train.job import train
from upscale.train.losses.distill import Distiller
from upscale.train.reparam import TrainableGenerator
from upscale.train.step import rate_at
from upscale.train.validate import Scores, Validator

NEAR = Stage(name="near", iterations=40, batch=4, patch=32, warm_up=10)
LOOK = Stage(
    name="look",
    iterations=20,
    batch=2,
    patch=32,
    warm_up=5,
    losses={"pixel": 1.0, "adversarial": 0.01, "tangent": 0.01, "transport": 0.1},
)
TINY = TrainConfig(
    channels=8, body=1, expand=2, validate_every=20, checkpoint_every=20, threads=1, bf16=False,
    stages=(NEAR,),
)  # fmt: skip


def test_training_beats_repeated_pixels(crops: Path, tmp_path: Path) -> None:
    """The anchor alone is nearest neighbour: what is above it was learned."""
    reports: list[loop.Progress] = []
    stage = replace(
        NEAR,
        iterations=450,
        batch=8,
        learning_rate=2e-3,
        warm_up=100,
        mix={"x264_18_24": 0.5, "x264_24_30": 0.5},
    )
    config = replace(TINY, channels=16, expand=4, stages=(stage,), validate_every=150)
    loop.train_stages(crops, tmp_path, config, hooks=loop.Hooks(progress=reports.append))
    scores = [r.scores for r in reports if r.scores]
    nearest = torch.nn.Upsample(scale_factor=2, mode="nearest")
    anchor = Validator(dataset.load(crops).clips, torch.device("cpu"))(nearest)
    assert scores[-1].psnr > anchor.psnr + 0.2
    assert scores[-1].ssim > anchor.ssim


def test_a_conditional_discriminator_and_matching(crops: Path, tmp_path: Path) -> None:
    losses = {"pixel": 1.0, "adversarial": 0.01, "matching": 0.1}
    stage = replace(LOOK, iterations=4, discriminator="conditional", losses=losses)
    reports: list[loop.Progress] = []
    config = replace(TINY, stages=(stage,))
    loop.train_stages(crops, tmp_path, config, hooks=loop.Hooks(progress=reports.append))
    assert set(reports[-1].losses) == {*losses, "discriminator"}


def test_stages_follow_each_other(crops: Path, tmp_path: Path) -> None:
    """The second begins where the best of the first ended, and has the losses it asked for."""
    reports: list[loop.Progress] = []
    config = replace(TINY, stages=(NEAR, LOOK))
    first, second = loop.train_stages(crops, tmp_path, config, hooks=loop.Hooks(progress=reports.append))
    assert [(r.stage, r.number, r.step) for r in reports] == [
        ("near", 1, 20),
        ("near", 1, 40),
        ("look", 2, 20),
    ]
    assert set(reports[0].losses) == {"pixel"}
    assert set(reports[-1].losses) == {"pixel", "adversarial", "tangent", "transport", "discriminator"}
    before, after = (loop.load_network(p) for p in (first, second))
    assert not torch.equal(before.fold().convs[0].weight, after.fold().convs[0].weight)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert (before(x) - after(x)).abs().mean() < 0.05


@pytest.mark.parametrize("stop_at", [20, 50])
def test_resume_is_bit_for_bit(crops: Path, tmp_path: Path, stop_at: int) -> None:
    """A run that was stopped in its first or second stage ends with the same weights as one that was not."""
    config = replace(TINY, stages=(NEAR, LOOK), checkpoint_every=10)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    loop.train_stages(crops, whole, config)

    class Killed(Exception):
        pass

    original = checkpoint.save

    def save_then_stop(path: Path, modules: object, optimizers: object, metadata: dict[str, int]) -> None:
        original(path, modules, optimizers, metadata)  # type: ignore[arg-type]
        done = metadata["step"] + (NEAR.iterations if metadata["stage"] == 2 else 0)
        if path.name == loop.LAST and done >= stop_at:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", save_then_stop)
        loop.train_stages(crops, halves, config)
    loop.train_stages(crops, halves, config, resume=True)
    assert _tensors(whole / loop.LAST) == _tensors(halves / loop.LAST)
    best = loop.best_file(Path(), 2, LOOK)
    assert _tensors(whole / best) == _tensors(halves / best)


def _tensors(path: Path) -> dict[str, bytes]:
    from safetensors.torch import load_file

    return {k: v.numpy().tobytes() for k, v in load_file(path).items()}


def test_resume_with_other_settings_is_refused(crops: Path, tmp_path: Path) -> None:
    loop.train_stages(crops, tmp_path, TINY)
    with pytest.raises(TrainError, match="another channels"):
        loop.train_stages(crops, tmp_path, replace(TINY, channels=16), resume=True)
    with pytest.raises(TrainError, match="another stages"):
        loop.train_stages(crops, tmp_path, replace(TINY, stages=(replace(NEAR, batch=3),)), resume=True)


def test_diverging_training_says_so(crops: Path, tmp_path: Path) -> None:
    stage = replace(NEAR, learning_rate=1e12, pixel="mse", iterations=500)
    with pytest.raises(TrainError, match="no longer a number at step"):
        loop.train_stages(crops, tmp_path, replace(TINY, stages=(stage,)))


def test_damaged_checkpoint_is_an_error(crops: Path, tmp_path: Path) -> None:
    loop.train_stages(crops, tmp_path, replace(TINY, stages=(replace(NEAR, iterations=20),)))
    last = tmp_path / loop.LAST
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(TrainError, match="cannot be read"):
        loop.train_stages(crops, tmp_path, TINY, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses": {"nonsense": 1.0}}, "unknown loss 'nonsense'"),
        ({"losses": {"pixel": 0.0}}, "at least one weight"),
        ({"losses": {"distill": 1.0}}, "needs a teacher"),
        ({"mix": {"bicubic": 0.5}}, "sum to 1"),
        ({"mix": {"bicubic": 2.0, "kernel": -1.0}}, "mix.bicubic: must be"),
        ({"patch": 100}, "patch"),
        ({"pixel": "l3"}, "must be one of charbonnier"),
    ],
)
def test_impossible_stages_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises((UsageError, TrainError), match=words):
        loop.check(replace(TINY, stages=(replace(NEAR, **change),)))  # type: ignore[arg-type]


def test_rates_warm_up_and_fall() -> None:
    stage = Stage(name="s", iterations=1000, warm_up=100)
    rates = [rate_at(step, stage) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1.0) == rates[100]
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_a_perceptual_stage_is_chosen_by_lpips_but_not_at_any_price() -> None:
    base = {"psnr": 36.0, "lpips": 0.12}
    near, sharp, wild = (
        Scores(psnr, 0.9, lpips, 1.0, base) for psnr, lpips in ((36.8, 0.10), (36.0, 0.07), (34.0, 0.06))
    )
    assert near.selection_score(False) > sharp.selection_score(False) > wild.selection_score(False)
    assert sharp.selection_score(True) > near.selection_score(True) > wild.selection_score(True)
    assert Scores(36.0, 0.9, None, 1.0, base).selection_score(True) == 36.0, (
        "no weights of LPIPS: PSNR chooses"
    )


def test_validation_sees_a_perfect_and_a_broken_network(crops: Path) -> None:
    validator = Validator(dataset.load(crops).clips, torch.device("cpu"))
    nearest = validator(torch.nn.Upsample(scale_factor=2, mode="nearest"))
    grey = validator(lambda x: torch.full((1, 1, 2 * x.shape[2], 2 * x.shape[3]), 0.5))  # type: ignore[arg-type]
    assert grey.psnr < nearest.psnr < validator.lanczos["psnr"]
    assert grey.ssim < nearest.ssim < validator.lanczos["ssim"]


def test_distillation_draws_to_the_teacher() -> None:
    """Nothing but the distill loss: the small network comes near the teacher's picture and attention."""
    torch.manual_seed(0)
    teacher = TrainableGenerator(GeneratorConfig(2, 16, 2), expand=2)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    student, x = TrainableGenerator(GeneratorConfig(2, 8, 1), expand=2), torch.rand(4, 1, 16, 16)
    distiller = Distiller(teacher)
    assert distiller(teacher, x, teacher(x)).item() == pytest.approx(0, abs=1e-5)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = distiller(student, x, student(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is None for p in teacher.parameters())


def test_a_teacher_guides_a_run(crops: Path, tmp_path: Path) -> None:
    (teacher,) = loop.train_stages(crops, tmp_path / "t", replace(TINY, channels=16, body=2))
    stage = replace(NEAR, losses={"pixel": 1.0, "distill": 1.0}, iterations=20)
    reports: list[loop.Progress] = []
    loop.train_stages(
        crops, tmp_path / "s", replace(TINY, stages=(stage,)), teacher=teacher,
        hooks=loop.Hooks(progress=reports.append),
    )  # fmt: skip
    assert set(reports[-1].losses) == {"pixel", "distill"}


def test_whole_job_exports_every_format_of_both_models(tmp_path: Path, crops: Path) -> None:
    """A run that ends with an adversary writes its partner too, under the name that --strength looks for."""
    config = replace(TINY, channels=16, stages=(replace(NEAR, iterations=150), LOOK), validate_every=50)
    job = TrainJob(
        folder=crops.parent / "clips", output=tmp_path / "weights" / "my", config=config, crops=crops
    )
    exported = train(job)
    names = {p.name for p in (tmp_path / "weights").iterdir() if p.is_file()}
    kinds = (".safetensors", ".onnx", ".tflite", "_int8.tflite", "_int8.onnx")
    assert names >= {f"my{part}{kind}" for part in ("", "_fidelity") for kind in kinds}
    assert [e.files.name for e in exported] == ["my", "my_fidelity"]
    assert json.loads(json.dumps(exported[0].metadata))["stage"] == 2
    from upscale.backends import load
    from upscale.model.weights import find_model

    luma = np.random.default_rng(0).integers(16, 236, (24, 32), dtype=np.uint8)
    with load("onnx", find_model(str(tmp_path / "weights" / "my.onnx"), strength=0.5)) as backend:
        assert backend(luma).shape == (48, 64)
    with pytest.raises(UsageError, match="--resume"):
        train(job)
