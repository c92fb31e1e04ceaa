"""Distillation: a larger network of the same family guides a small one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.model.generator import Generator, run_layers
from upscale.train.reparam import TrainableGenerator

Layer = Callable[[Tensor], Tensor]

#: Weight of the attention maps beside the output, which is in 0…1 like the pixel loss.
ATTENTION = 0.005


class Distiller(nn.Module):
    """Output and attention transfer.

    The small network is drawn to the teacher's picture (Hinton et al. 2015, for regression) and its
    hidden layers to where the teacher's are active: the maps of squared activations, normalised, of
    the first and last hidden layer (Zagoruyko and Komodakis 2017, attention transfer). Both work at
    any width and depth, as long as both networks share one resolution inside.

    Args:
        teacher: trained; its weights are frozen and folded once.
    """

    def __init__(self, teacher: TrainableGenerator) -> None:
        super().__init__()
        self.teacher = teacher.fold().requires_grad_(False)
        self.resolution = teacher.config.unshuffle

    def forward(self, network: TrainableGenerator, low: Tensor, output: Tensor) -> Tensor:
        """Distance of `network`'s `output` (N, 1, 2H, 2W) for `low` (N, 1, H, W) from the teacher's."""
        with torch.no_grad():
            wanted, maps = _run(self.teacher, list(self.teacher.convs), low)
        loss = F.l1_loss(output, wanted.float())
        if network.config.unshuffle == self.resolution:
            # A quarter of the crops is enough for the maps, which cost a second forward pass.
            some = max(1, len(low) // 4)
            layers = [partial(F.conv2d, weight=w, bias=b, padding=1) for w, b in network.kernels()]
            _, own = _run(network, layers, low[:some])
            for a, b in zip(own, maps, strict=True):
                loss = loss + ATTENTION * (a - b[:some]).square().mean()
        return loss


def _run(
    network: Generator | TrainableGenerator, layers: Sequence[Layer], low: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Output, and attention maps (N, h, w) of the first and last hidden layer."""
    hidden: list[Tensor] = []

    def kept(layer: Layer) -> Layer:
        def call(x: Tensor) -> Tensor:
            y = layer(x)
            hidden.append(y)
            return y

        return call

    output = run_layers(low, network.config, network.get_buffer("anchor"), [kept(c) for c in layers])
    return output, [_attention(F.relu(hidden[0])), _attention(F.relu(hidden[-2]))]


def _attention(features: Tensor) -> Tensor:
    energy = features.float().square().mean(1)
    return energy / (energy.mean((1, 2), keepdim=True) + 1e-6)
