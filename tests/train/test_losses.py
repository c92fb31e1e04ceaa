"""The losses do what they are named for: values that follow from definitions, and descent along each.

Covers upscale/train/losses.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lpips_weights import small_weights
from torch import Tensor, nn

from upscale.errors import TrainError
from upscale.metrics.lpips import Lpips
from upscale.model.config import GeneratorConfig
from upscale.train.config import ADVERSARIAL_KINDS, PIXEL_KINDS
from upscale.train.losses import LOSSES
from upscale.train.losses.adversarial import discriminator_loss, generator_loss
from upscale.train.losses.optimal_transport import transport_loss
from upscale.train.losses.perceptual import Perceptual
from upscale.train.losses.pixel import pixel_loss
from upscale.train.losses.smooth import smooth_loss
from upscale.train.losses.tangent import tangent_loss
from upscale.train.losses.temporal import temporal_loss
from upscale.train.reparam import TrainableGenerator


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def blur(x: Tensor, sigma: float) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-6, 7) / sigma) ** 2)
    taps = taps / taps.sum()
    x = F.conv2d(F.pad(x, (6, 6, 0, 0), "reflect"), taps.view(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, 6, 6), "reflect"), taps.view(1, 1, -1, 1))


def texture(*shape: int) -> Tensor:
    """Something like a picture: structure at several scales."""
    noise = torch.randn(*shape)
    return (0.5 + 0.3 * blur(noise, 2.0) + 0.05 * blur(noise.flip(-1), 0.7)).clamp(0, 1)


def test_every_loss_is_listed_without_torch() -> None:
    assert set(LOSSES) == {
        "pixel",
        "adversarial",
        "tangent",
        "transport",
        "perceptual",
        "temporal",
        "smooth",
        "distill",
        "matching",
    }
    for name, info in LOSSES.items():
        assert info.name == name
        assert info.constraint
        assert any(year in info.source for year in ("201", "202", "199"))
    code = "import sys, upscale.train.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# pixel


def test_pixel_losses_by_definition() -> None:
    truth = torch.full((2, 1, 4, 4), 0.5)
    output = truth.clone()
    output[0] += 0.1
    assert float(pixel_loss("l1", output, truth)) == pytest.approx(0.05)
    assert float(pixel_loss("mse", output, truth)) == pytest.approx(0.005)
    assert float(pixel_loss("charbonnier", output, truth)) == pytest.approx(0.0505, abs=1e-5)
    by_picture = [np.log(0.01 + 1e-6), np.log(1e-6)]
    assert float(pixel_loss("psnr", output, truth)) == pytest.approx(np.mean(by_picture), rel=1e-4)


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_pixel_descent_reaches_the_truth(kind: str) -> None:
    """Every kind, "psnr" with its steep end too, comes to rest at the truth."""
    truth, output = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4).requires_grad_()
    start = (output.detach() - truth).abs().mean()
    optimizer = torch.optim.Adam([output], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        pixel_loss(kind, output, truth).backward()
        optimizer.step()
    assert (output.detach() - truth).abs().mean() < 0.05 * start


def test_unknown_kinds() -> None:
    x = torch.rand(1, 1, 4, 4)
    for call in (pixel_loss, discriminator_loss, generator_loss):
        with pytest.raises(TrainError, match=r"unknown .* loss 'wgan': one of"):
            call("wgan", x, x)


# adversarial


def test_hinge_by_definition() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert float(discriminator_loss("hinge", real, fake)) == pytest.approx(0.25 + 0.5)
    assert float(generator_loss("hinge", real, fake)) == pytest.approx(1.5)


def test_hinge_leaves_alone_what_is_beyond_the_margin() -> None:
    real, fake = torch.tensor([1.5, 0.2], requires_grad=True), torch.tensor([-1.5, 0.2], requires_grad=True)
    discriminator_loss("hinge", real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [0, -0.5]
    assert fake.grad.tolist() == [0, 0.5]


def test_relativistic_by_definition() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])

    def cross_entropy(logits: Tensor, label: float) -> float:
        return float(F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label)))

    to_fake, to_real = real - fake.mean(), fake - real.mean()
    expected = (cross_entropy(to_fake, 1) + cross_entropy(to_real, 0)) / 2
    assert float(discriminator_loss("relativistic", real, fake)) == pytest.approx(expected)
    expected = (cross_entropy(to_fake, 0) + cross_entropy(to_real, 1)) / 2
    assert float(generator_loss("relativistic", real, fake)) == pytest.approx(expected)
    # Only differences count.
    shifted = generator_loss("relativistic", real + 5, fake + 5)
    torch.testing.assert_close(shifted, generator_loss("relativistic", real, fake))


@pytest.mark.parametrize("kind", ADVERSARIAL_KINDS)
def test_opponents_pull_in_opposite_directions(kind: str) -> None:
    real, fake = torch.randn(8, requires_grad=True), torch.randn(8, requires_grad=True)
    of_real, of_fake = torch.autograd.grad(discriminator_loss(kind, 0.3 * real, 0.3 * fake), (real, fake))
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    (for_generator,) = torch.autograd.grad(generator_loss(kind, real, fake), fake)
    assert (for_generator < 0).all()


@pytest.mark.parametrize("kind", ADVERSARIAL_KINDS)
def test_generator_leaves_the_true_logits_alone(kind: str) -> None:
    real, fake = torch.randn(8, requires_grad=True), torch.randn(8, requires_grad=True)
    generator_loss(kind, real, fake).backward()
    assert real.grad is None


@pytest.mark.parametrize("kind", ADVERSARIAL_KINDS)
def test_toy_game_finds_the_real_mean(kind: str) -> None:
    """A generator of one number against a small discriminator: it ends where the real data are."""
    shift = torch.zeros(1, requires_grad=True)
    judge = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    for_shift = torch.optim.Adam([shift], lr=0.02, betas=(0.0, 0.9))
    for_judge = torch.optim.Adam(judge.parameters(), lr=0.02, betas=(0.0, 0.9), weight_decay=0.05)
    path = []
    for _ in range(400):
        real, fake = 1 + 0.3 * torch.randn(64, 1), shift + 0.3 * torch.randn(64, 1)
        for_judge.zero_grad()
        discriminator_loss(kind, judge(real), judge(fake.detach())).backward()
        for_judge.step()
        for_shift.zero_grad()
        generator_loss(kind, judge(real), judge(fake)).backward()
        for_shift.step()
        path.append(shift.item())
    assert np.mean(path[-150:]) == pytest.approx(1, abs=0.25)


# tangent


def matrix_network(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """x ↦ nearest(matrix · x), so that the Jacobian seen through the downscaling is `matrix`."""
    return lambda x: nearest((x.flatten(1) @ matrix.T).view_as(x))


@pytest.mark.parametrize(
    "isometry",
    [
        nearest,
        lambda x: 1 - nearest(x),
        lambda x: nearest(x.roll(3, -1)),
        matrix_network(torch.linalg.qr(torch.randn(64, 64)).Q),
    ],
    ids=["nearest", "negative", "shift", "rotation"],
)
def test_tangent_is_zero_for_an_isometry(isometry: Callable[[Tensor], Tensor]) -> None:
    assert tangent_loss(isometry, torch.rand(3, 1, 8, 8), 2).item() == pytest.approx(0, abs=1e-9)


def test_tangent_is_one_for_a_constant() -> None:
    assert tangent_loss(lambda x: nearest(0 * x), torch.rand(2, 1, 8, 8)).item() == pytest.approx(1)


def test_tangent_grows_as_a_direction_is_squashed() -> None:
    d = torch.randn(64)
    d /= d.norm()
    low = torch.rand(1, 1, 8, 8)
    values = []
    for s in (1.0, 0.9, 0.6, 0.3, 0.0):
        squash = matrix_network(torch.eye(64) + (s - 1) * torch.outer(d, d))
        torch.manual_seed(1)
        values.append(tangent_loss(squash, low, 200).item())
        assert values[-1] == pytest.approx((1 - s * s) ** 2 / 64, rel=0.2, abs=1e-9)
    assert values == sorted(values)


def test_tangent_estimates_the_gram_distance_of_the_network() -> None:
    """Against the whole Jacobian, made column by column; values and the weights' gradient."""
    network = TrainableGenerator(GeneratorConfig(2, 8, 1), expand=2)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    low = torch.rand(1, 1, 8, 8)

    def seen(flat: Tensor) -> Tensor:
        return F.avg_pool2d(network(flat.view(1, 1, 8, 8)), 2).flatten()

    jacobian = torch.autograd.functional.jacobian(seen, low.flatten(), create_graph=True)
    exact = (jacobian.T @ jacobian - torch.eye(64)).square().sum() / 64
    estimate = tangent_loss(network, low, 200)
    assert estimate.item() == pytest.approx(exact.item(), rel=0.1)
    weights = [p for p in network.parameters() if p.dim() == 4]
    a, b = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]) for loss in (exact, estimate)
    )
    assert F.cosine_similarity(a, b, dim=0) > 0.98
    assert float(b.norm() / a.norm()) == pytest.approx(1, rel=0.1)


def test_tangent_revives_a_collapsed_direction() -> None:
    rotation = torch.linalg.qr(torch.randn(16, 16)).Q
    scales = torch.ones(16)
    scales[:3] = 0.01
    matrix = (rotation @ torch.diag(scales) @ rotation.T).requires_grad_()
    optimizer = torch.optim.SGD([matrix], lr=0.3)
    low = torch.rand(8, 1, 4, 4)
    for _ in range(150):
        optimizer.zero_grad()
        tangent_loss(matrix_network(matrix), low).backward()
        optimizer.step()
    assert torch.linalg.svdvals(matrix.detach()).min() > 0.8


def test_tangent_revives_what_the_trained_network_lost() -> None:
    """The generator behind a filter that weakens fine stripes learns to let them through."""
    taps = torch.tensor([0.21, 0.58, 0.21]).view(1, 1, 1, 3)  # 1 for flat, 0.16 for stripes of one pixel
    network = TrainableGenerator(GeneratorConfig(2, 32, 1), expand=2)

    def filtered(x: Tensor) -> Tensor:
        return network(F.conv2d(F.pad(x, (1, 1, 0, 0), "circular"), taps))

    stripes = torch.ones(1, 1, 16, 16)
    stripes[..., ::2] = -1
    low = 0.5 + 0.1 * torch.randn(2, 1, 16, 16)

    def strength() -> float:
        with torch.no_grad():
            pushed = filtered(low[:1] + 0.01 * stripes) - filtered(low[:1])
            return float((F.avg_pool2d(pushed, 2) / 0.01)[..., 4:-4, 4:-4].square().mean().sqrt())

    before = strength()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        tangent_loss(filtered, low).backward()
        optimizer.step()
    assert before < 0.2
    assert strength() > 0.6


# transport


def test_transport_is_zero_for_the_same_set() -> None:
    x = texture(6, 1, 48, 48)
    assert float(transport_loss(x, x)) == 0
    assert float(transport_loss(x[torch.randperm(6)], x)) == pytest.approx(0, abs=1e-9)
    # Brightness is no detail.
    assert float(transport_loss(0.9 * texture(1, 1, 48, 48) + 0.05, texture(1, 1, 48, 48))) > 1e-3
    assert float(transport_loss(x + 0.1, x)) == pytest.approx(0, abs=1e-6)


def test_transport_grows_with_blur() -> None:
    x = texture(4, 1, 64, 64)
    values = []
    for sigma in (0.3, 0.5, 0.8, 1.2, 2.0):
        torch.manual_seed(2)
        values.append(float(transport_loss(blur(x, sigma), x)))
    assert values == sorted(values)
    assert 0 < values[0] < 0.1
    assert 0.4 < values[-1] < 1
    # A picture without any detail costs all that there is, and too much detail costs as well.
    assert float(transport_loss(torch.full_like(x, 0.5), x)) == pytest.approx(1, abs=0.1)
    assert float(transport_loss(x + 0.1 * torch.randn_like(x), x)) > 0.5


def test_transport_sees_the_shape_of_the_distribution() -> None:
    """Noise as strong as a few sharp edges is another kind of detail."""
    edges = torch.full((4, 1, 64, 64), 0.4)
    edges[..., 20:40, 16:48] = 0.6
    noise = 0.5 + torch.randn(4, 1, 64, 64)
    one, other = ((x - blur(x, 0.7)).std() for x in (edges, noise))
    noise = 0.5 + (noise - 0.5) * one / other
    assert float(transport_loss(noise, edges)) > 0.3


def test_transport_moves_blurred_patches_toward_real_ones() -> None:
    real = texture(4, 1, 40, 40)
    picture = blur(texture(4, 1, 40, 40), 1.0).requires_grad_()  # of other places: no pixel to copy

    def detail(x: Tensor) -> Tensor:
        return (x - blur(x, 0.7)).detach().abs()[..., 6:-6, 6:-6].mean()

    before = detail(picture)
    optimizer = torch.optim.Adam([picture], lr=2e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = transport_loss(picture, real)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.1 * losses[0]
    assert before < 0.6 * detail(real)
    assert float(detail(picture)) == pytest.approx(float(detail(real)), rel=0.15)


def test_transport_asks_nothing_of_the_truth() -> None:
    output, truth = (texture(1, 1, 32, 32).requires_grad_() for _ in range(2))
    transport_loss(output, truth).backward()
    assert output.grad is not None
    assert truth.grad is None


# perceptual


@pytest.fixture
def perceptual(tmp_path: Path) -> Perceptual:
    """On small random weights."""
    np.savez(tmp_path / "alexnet.npz", **small_weights())
    return Perceptual(Lpips(tmp_path / "alexnet.npz"))


def test_perceptual_is_zero_for_equal_pictures(perceptual: Perceptual) -> None:
    y, chroma = torch.rand(2, 1, 48, 48), torch.rand(2, 2, 12, 12)
    assert float(perceptual(y, y, chroma, chroma)) == 0
    assert float(perceptual(y, y, chroma)) == 0
    assert float(perceptual(y, y)) == 0
    assert float(perceptual(y, y, chroma, torch.rand(2, 2, 24, 24))) > 0


def test_perceptual_is_differentiable_in_the_output_alone(perceptual: Perceptual) -> None:
    output, truth = (torch.rand(2, 1, 48, 48, requires_grad=True) for _ in range(2))
    chroma = torch.rand(2, 2, 12, 12)
    loss = perceptual(output, truth, chroma)
    loss.backward()
    assert loss.item() > 0
    assert output.grad is not None
    assert truth.grad is None
    slope = output.grad.flatten() / output.grad.norm()
    with torch.no_grad():
        moved = [perceptual(output + s * slope.view_as(output), truth, chroma) for s in (-0.05, 0.05)]
    assert float(moved[1] - moved[0]) / 0.1 == pytest.approx(float(output.grad.norm()), rel=0.1)


def test_temporal_counts_shimmer_and_not_sharpness_or_motion() -> None:
    torch.manual_seed(0)
    truth = torch.rand(2, 1, 32, 32)
    moved = truth.roll(1, -1)
    assert temporal_loss(truth, truth, truth, truth).item() == pytest.approx(0, abs=1e-6)
    assert temporal_loss(truth, moved, truth, moved).item() == pytest.approx(0, abs=1e-6)
    still = truth + 0.3 * (truth - truth.mean())
    assert temporal_loss(still, still, truth, truth).item() == pytest.approx(0, abs=1e-6)
    weak, strong = (
        temporal_loss(truth + s * torch.randn_like(truth), truth, truth, truth).item() for s in (0.01, 0.05)
    )
    assert 0.001 < weak < strong


def test_temporal_gradient_calms() -> None:
    """Descending on it alone takes the flicker out of an output that flickers."""
    torch.manual_seed(0)
    truth = torch.rand(1, 1, 16, 16)
    before = (truth + 0.05 * torch.randn_like(truth)).requires_grad_()
    after = (truth + 0.05 * torch.randn_like(truth)).requires_grad_()
    optimizer = torch.optim.Adam([before, after], lr=2e-3)
    start = temporal_loss(before, after, truth, truth).item()
    for _ in range(60):
        loss = temporal_loss(before, after, truth, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * start


def test_smooth_finds_a_grid_that_is_fainter_than_a_code_value() -> None:
    torch.manual_seed(0)
    bilinear = nn.Upsample(scale_factor=2, mode="bilinear")
    grid = torch.zeros(1, 1, 80, 80)
    grid[..., ::4, ::4] = 0.8 / 255
    plain, patterned = (
        smooth_loss(lambda x, g=g: bilinear(x) + g, torch.device("cpu")).item()  # type: ignore[misc]
        for g in (torch.zeros_like(grid), grid)
    )
    assert plain < 0.1
    assert patterned > plain + 0.01
    assert smooth_loss(nn.Upsample(scale_factor=2), torch.device("cpu")).item() > plain
