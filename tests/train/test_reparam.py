"""The collapsible training form of the generator and its exact fold."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from upscale.model.config import GeneratorConfig
from upscale.train.reparam import CollapsibleConv, TrainableGenerator, lift_map


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
