"""Training: degradations, crops, the collapsible generator, the loop and its resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from upscale.errors import TrainError, UsageError
from upscale.model.config import GeneratorConfig
from upscale.quality import psnr
from upscale.train import checkpoint, dataset, loop
from upscale.train.batches import make_batch
from upscale.train.config import TrainConfig
from upscale.train.degrade import halve, through_x264
from upscale.train.job import Callbacks, train
from upscale.train.reparam import CollapsibleConv, TrainableGenerator, lift_map
from upscale.train.validate import validate

SAMPLES = Path(__file__).parent.parent / "samples"
TINY = TrainConfig(
    channels=8,
    body=1,
    expand=2,
    iterations=40,
    batch=4,
    patch=32,
    validate_every=20,
    checkpoint_every=20,
    threads=1,
    bf16=False,
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of two bundled clips, made once."""
    folder = tmp_path_factory.mktemp("train")
    dataset.build(_two_clips(folder / "clips"), folder / "crops")
    return folder / "crops"


def _two_clips(folder: Path) -> Path:
    folder.mkdir()
    for name in ("bee_360p.mp4", "bbb_anamorphic_800x640_sar64x45.mp4"):
        shutil.copy(SAMPLES / name, folder)
    return folder


def imresize_half(picture: np.ndarray) -> np.ndarray:
    """MATLAB's imresize(x, 0.5) written down from its definition, one output sample at a time."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def one_axis(rows: np.ndarray) -> np.ndarray:
        n = len(rows)
        out = []
        for k in range(n // 2):
            centre = 2 * k + 0.5
            at = range(int(centre) - 4, int(centre) + 6)
            weights = np.array([0.5 * cubic(0.5 * (centre - j)) for j in at])
            mirrored = [(-j - 1) if j < 0 else (2 * n - 1 - j) if j >= n else j for j in at]
            out.append(np.tensordot(weights / weights.sum(), rows[mirrored], 1))
        return np.array(out)

    return one_axis(one_axis(picture.astype(float)).T).T


def test_halve_is_matlab_bicubic() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 44), dtype=np.uint8)
    expected = np.clip(np.rint(imresize_half(picture)), 0, 255)
    assert np.abs(halve(picture, "bicubic") - expected).max() <= 1  # rounding of exact halves
    assert np.mean(halve(picture, "bicubic") != expected) < 0.01


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos", "area", "soft"])
def test_halve_keeps_position(kernel: str) -> None:
    """A ramp stays where it is: a kernel that is off by half a pixel would train a shift."""
    ramp = np.tile(np.arange(20, 220, 2, dtype=np.uint8), (40, 1))
    small = halve(ramp, kernel)[:, 10:-10].astype(int)
    assert np.abs(small - (np.arange(20, 220, 4) + 1)[10:-10]).max() <= 1


def test_x264_degrades_more_at_higher_crf() -> None:
    rng = np.random.default_rng(1)
    texture = halve(rng.integers(0, 256, (256, 256), dtype=np.uint8), "soft")
    sequence = [np.roll(texture, i, axis=1) for i in range(4)]
    light, heavy = (psnr(sequence[2], through_x264(sequence, crf)[2]) for crf in (15, 35))
    assert light > heavy + 6


@pytest.mark.parametrize(("inputs", "outputs", "tail"), [(1, 8, False), (8, 8, False), (8, 4, True)])
def test_lifted_kernel_is_the_full_resolution_convolution(inputs: int, outputs: int, tail: bool) -> None:
    small = torch.randn(outputs, inputs, 3, 3)
    source, target = lift_map(inputs, outputs, tail)
    large = torch.zeros(16 * 9 * inputs * outputs)
    large[target] = small.view(-1)[source]
    x = torch.randn(2, inputs, 12, 8)
    cells = F.conv2d(F.pixel_unshuffle(x, 2), large.view(4 * outputs, 4 * inputs, 3, 3), padding=1)
    full = F.conv2d(x, small, padding=1)
    expected = F.pixel_shuffle(full, 2) if tail else full
    torch.testing.assert_close(F.pixel_shuffle(cells, 4 if tail else 2), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "config", [GeneratorConfig(2, 16, 2), GeneratorConfig(1, 8, 1), GeneratorConfig(2, 6, 1)]
)
def test_fold_is_exact(config: GeneratorConfig) -> None:
    network = TrainableGenerator(config, expand=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(2, 1, 24, 16)
    torch.testing.assert_close(network.fold()(x), network(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [16, 32])
def test_untrained_network_is_near_nearest_neighbour(channels: int) -> None:
    """16 channels: an identity path in the tail once added raw features to the picture."""
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        y = TrainableGenerator(GeneratorConfig(2, channels, 1))(x)
    assert (y - F.interpolate(x, scale_factor=2, mode="nearest")).abs().mean() < 0.03


def test_identity_path() -> None:
    block = CollapsibleConv(4, 4, 8)
    with torch.no_grad():
        block.narrow.weight.zero_()
        kernel, _ = block.collapse()
    expected = torch.zeros(4, 4, 3, 3)
    expected[range(4), range(4), 1, 1] = 1
    torch.testing.assert_close(kernel, expected)


def test_crops_pair_up(crops: Path) -> None:
    """The clean low-resolution patch is the halved sharp patch, at the same place and orientation."""
    train_set, held_out = dataset.load(crops)
    assert len(train_set) >= dataset.MIN_CROPS
    assert len(held_out) > 0
    low, high = make_batch(train_set, step=3, seed=1, batch=16, patch=48, mix=(1, 0, 0, 0))
    for a, b in zip(low[:, 0].numpy(), high[:, 0].numpy(), strict=True):
        inner = (slice(6, -6), slice(6, -6))
        assert psnr(halve(b, "bicubic")[inner], a[inner]) > 30


def test_batches_repeat_and_differ(crops: Path) -> None:
    train_set, _ = dataset.load(crops)
    how = {"seed": 1, "batch": 4, "patch": 32, "mix": (0.25, 0.25, 0.25, 0.25)}
    first, again, other = (make_batch(train_set, step=s, **how) for s in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_training_beats_repeated_pixels(crops: Path, tmp_path: Path) -> None:
    """The anchor alone is nearest neighbour: what is above it was learned."""
    reports: list[loop.Progress] = []
    config = replace(TINY, channels=16, iterations=300, validate_every=100)
    loop.fidelity(crops, tmp_path, config, on_progress=reports.append)
    scores = [r.scores.mean for r in reports if r.scores]
    _, held_out = dataset.load(crops)
    anchor = validate(torch.nn.Upsample(scale_factor=2, mode="nearest"), held_out, TINY.mix).mean
    assert scores[-1] > anchor + 0.2
    assert (tmp_path / "log.jsonl").read_text().count("\n") == len(scores)


def test_resume_is_bit_for_bit(crops: Path, tmp_path: Path) -> None:
    """A run that was stopped half-way ends with the same weights as one that was not."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    loop.fidelity(crops, whole, TINY)

    class Killed(Exception):
        pass

    def stop_after_first_checkpoint(step: int) -> None:
        if step >= 20:
            raise Killed

    original = checkpoint.save

    def save_then_stop(path: Path, **state: object) -> None:
        original(path, **state)  # type: ignore[arg-type]
        if path.name == "last.safetensors":
            stop_after_first_checkpoint(state["facts"]["step"])  # type: ignore[index]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", save_then_stop)
        loop.fidelity(crops, halves, TINY)
    loop.fidelity(crops, halves, TINY, resume=True)
    assert _tensors(whole) == _tensors(halves)


def _tensors(run: Path) -> dict[str, bytes]:
    from safetensors.torch import load_file

    return {k: v.numpy().tobytes() for k, v in load_file(run / "last.safetensors").items()}


def test_resume_with_other_settings_is_refused(crops: Path, tmp_path: Path) -> None:
    loop.fidelity(crops, tmp_path, replace(TINY, iterations=20))
    with pytest.raises(TrainError, match="another batch"):
        loop.fidelity(crops, tmp_path, replace(TINY, iterations=20, batch=3), resume=True)


def test_diverging_training_says_so(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no longer a number at step"):
        loop.fidelity(crops, tmp_path, replace(TINY, learning_rate=1e12, loss="mse", iterations=500))


def test_damaged_checkpoint_is_an_error(crops: Path, tmp_path: Path) -> None:
    loop.fidelity(crops, tmp_path, replace(TINY, iterations=20))
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(TrainError, match="cannot be read"):
        loop.fidelity(crops, tmp_path, replace(TINY, iterations=20), resume=True)


def test_too_little_material(tmp_path: Path) -> None:
    (tmp_path / "not a clip.mp4").write_bytes(b"text")
    skipped: list[str] = []
    with pytest.raises(TrainError, match="too little material"):
        dataset.build(tmp_path, tmp_path / "cache", on_source=lambda d, t, name, error: skipped.append(name))
    assert skipped == ["not a clip.mp4"]


def test_whole_job_exports_every_format(tmp_path: Path) -> None:
    """Clips in, four files out; the exported ONNX file is what training validated."""
    clips = _two_clips(tmp_path / "clips")
    config = replace(TINY, channels=16, iterations=200, validate_every=100)
    silent = Callbacks(lambda *a: None, lambda p: None)
    exported = train(clips, tmp_path / "weights" / "my", config, silent)
    names = {p.name for p in (tmp_path / "weights").iterdir() if p.is_file()}
    assert names == {"my.safetensors", "my.onnx", "my.tflite", "my_int8.tflite"}
    assert json.loads(json.dumps(exported.facts))["step"] in (100, 200)
    with pytest.raises(UsageError, match="--resume"):
        train(clips, tmp_path / "weights" / "my", config, silent)
