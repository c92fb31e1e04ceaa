"""The generator as a torch module: 3×3 convolutions, ReLU, one pixel shuffle, a nearest anchor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.model.config import GeneratorConfig


class Generator(nn.Module):
    """The folded network that every runtime runs.

    The shape follows ESPCN (Shi et al. 2016: all layers before the pixel shuffle) with the anchor
    of ABPN (Du et al. 2021): the network learns only what nearest-neighbour repetition misses.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in config.layers)
        self.register_buffer("anchor", torch.tensor(config.anchor_channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) luma in 0…1 → (N, 1, 2H, 2W), not clipped; H and W multiples of `unshuffle`."""
        return run_layers(x, self.config, self.get_buffer("anchor"), list(self.convs))

    def lowered(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """`forward` with convolutions that were converted to `dtype`; the anchor stays as `x` is."""
        convs: list[Callable[[Tensor], Tensor]] = list(self.convs)
        first = convs[0]
        convs[0] = lambda y: first(y.to(dtype))
        return run_layers(x, self.config, self.get_buffer("anchor"), convs)


def run_layers(
    x: Tensor, config: GeneratorConfig, anchor: Tensor, convs: Sequence[Callable[[Tensor], Tensor]]
) -> Tensor:
    """The forward pass shared by the folded network and its wider training form."""
    u = config.unshuffle
    start = F.pixel_unshuffle(x, u) if u > 1 else x
    y = start
    for conv in convs[:-1]:
        y = F.relu(conv(y), inplace=not torch.is_grad_enabled())
    y = convs[-1](y).to(start.dtype) + start[:, anchor]
    return F.pixel_shuffle(y, config.scale * u)
