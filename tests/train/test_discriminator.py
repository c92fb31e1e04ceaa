"""The discriminator: shape, cost, Lipschitz bound, and a state that can be put back.

Covers upscale/train/losses/adversarial.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from upscale.train.losses.adversarial import (
    ConditionalDiscriminator,
    PatchDiscriminator,
    discriminator_loss,
    matching_loss,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def step(network: PatchDiscriminator, optimizer: torch.optim.Optimizer, real: Tensor, fake: Tensor) -> float:
    optimizer.zero_grad()
    loss = discriminator_loss("hinge", network(real), network(fake))
    loss.backward()
    optimizer.step()
    return loss.item()


def trained(channels: int = 8, steps: int = 20) -> PatchDiscriminator:
    network = PatchDiscriminator(channels)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.9))
    for _ in range(steps):
        step(network, optimizer, torch.rand(2, 1, 32, 32), 0.5 * torch.rand(2, 1, 32, 32))
    return network


@pytest.mark.parametrize(("height", "width"), [(64, 64), (8, 40), (128, 96)])
def test_one_logit_per_cell(height: int, width: int) -> None:
    assert PatchDiscriminator(8)(torch.rand(3, 1, height, width)).shape == (3, 1, height // 8, width // 8)


def test_multiplications_for_a_crop() -> None:
    """The CPU must do it beside the generator: under 110 million for 128×128 pixels."""
    network = PatchDiscriminator()
    counts = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counts.append(output.numel() * module.weight[0].numel())

    for conv in network.convs:
        conv.register_forward_hook(count)
    network(torch.rand(1, 1, 128, 128))
    assert len(counts) == 6
    assert 60e6 < sum(counts) < 110e6


def test_every_layer_has_spectral_norm_one() -> None:
    network = PatchDiscriminator(8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    with torch.no_grad():
        for conv in network.convs:  # far from 1 without the normalisation
            conv.parametrizations.weight.original.mul_(7).add_(0.1 * torch.randn_like(conv.weight))
    for _ in range(20):
        step(network, optimizer, *torch.rand(2, 2, 1, 32, 32))
    assert torch.linalg.svdvals(network.convs[0].parametrizations.weight.original.detach().flatten(1))[0] > 2
    for conv in network.eval().convs:
        assert float(torch.linalg.svdvals(conv.weight.detach().flatten(1))[0]) == pytest.approx(1, abs=0.03)


def test_same_seed_same_network() -> None:
    x = torch.rand(1, 1, 32, 32)
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(PatchDiscriminator(8)(x))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("training", [True, False])
def test_state_goes_through_a_file_bit_for_bit(training: bool, tmp_path: Path) -> None:
    """The estimates of the singular values are state too: without them a resumed run would part ways."""
    network = trained()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "d.safetensors")
    torch.manual_seed(99)
    other = PatchDiscriminator(8)
    other.load_state_dict(load_file(tmp_path / "d.safetensors"))
    network.train(training)
    other.train(training)
    real, fake = torch.rand(2, 2, 1, 32, 32)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in (network, other)]
    for _ in range(3):
        assert torch.equal(network(real), other(real))
        losses = [step(n, o, real, fake) for n, o in zip((network, other), optimizers, strict=True)]
        assert losses[0] == losses[1]


def test_it_learns_to_tell_sharp_from_soft() -> None:
    """Detail of two percent of the range, as pictures have, is enough to go by."""
    network = PatchDiscriminator(8)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.9))

    def pair() -> tuple[Tensor, Tensor]:
        flat = torch.rand(4, 1, 1, 1).expand(-1, -1, 32, 32)
        detail = 0.02 * torch.randn(4, 1, 32, 32)
        return flat + detail, flat + 0.5 * detail

    losses = [step(network, optimizer, *pair()) for _ in range(100)]
    assert losses[0] > 1.8
    assert sum(losses[-10:]) / 10 < 0.6
    network.eval()
    real, fake = pair()
    assert network(real).mean() > network(fake).mean() + 1


def test_gradient_reaches_the_picture() -> None:
    x = torch.rand(1, 1, 16, 16, requires_grad=True)
    PatchDiscriminator(8)(x).mean().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.9


def test_a_conditional_one_learns_what_belongs_to_the_small_picture() -> None:
    """Both pictures are real; only one is the original of the small one that lies beside it."""
    network = ConditionalDiscriminator(8)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.9))

    def logits() -> tuple[Tensor, Tensor]:
        real, other = F.interpolate(torch.rand(2, 8, 1, 8, 8), scale_factor=(1, 4, 4)).unbind()
        low = F.avg_pool2d(real, 2)
        return tuple(torch.cat([j[-1].flatten() for j in network.judge(x, low)]) for x in (real, other))

    for _ in range(150):
        optimizer.zero_grad()
        discriminator_loss("hinge", *logits()).backward()
        optimizer.step()
    network.eval()
    real, fake = logits()
    assert real.mean() > fake.mean() + 0.5


def test_matching_asks_for_the_features_of_the_true_picture() -> None:
    network = PatchDiscriminator(8)
    truth, near, far = torch.rand(3, 2, 1, 16, 16)
    near = truth + 0.1 * (near - truth)
    (real,), (close,), (distant,) = (network.judge(x, x) for x in (truth, near, far))
    assert matching_loss(real[:-1], real[:-1]) == 0
    assert 0 < matching_loss(real[:-1], close[:-1]) < matching_loss(real[:-1], distant[:-1])
