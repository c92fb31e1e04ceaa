"""Wide training form of the generator that folds, exactly, into the plain one.

Each 3×3 convolution is trained as 3×3 → 1×1 over more channels, plus an identity path where the
channel counts agree (collapsible linear blocks, SESR, Bhardwaj et al. 2022). No nonlinearity lies
inside a block, so its kernel is collapsed at every step and the pictures only ever pass through
one 3×3 convolution: training costs little more than the folded network does.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.model.config import GeneratorConfig
from upscale.model.generator import Generator, run_layers


def lift_map(inputs: int, outputs: int, tail: bool) -> tuple[Tensor, Tensor]:
    """Where a full-resolution 3×3 kernel goes in the kernel that does the same at half resolution.

    Space-to-depth turns a convolution over pixels into one over 2×2 cells: tap k of output phase r
    reads pixel r + k, which is phase (r + k) mod 2 of the cell at (r + k) div 2.

    Args:
        inputs, outputs: channels of the full-resolution kernel.
        tail: the outputs are sub-pixels for a pixel shuffle of 4 instead of channels of 2×2 phases.

    Returns:
        `source` and `target`, int64, the same length: flat indices into the small kernel
        (outputs, inputs, 3, 3) and into the large one (4·outputs, 4·inputs, 3, 3).
    """
    large = torch.arange(16 * 9 * inputs * outputs).view(4 * outputs, 4 * inputs, 3, 3)
    small = torch.arange(9 * inputs * outputs).view(outputs, inputs, 3, 3)
    source, target = [], []
    for r, c, ky, kx in product(range(2), range(2), range(3), range(3)):
        (dy, from_r), (dx, from_c) = divmod(r + ky - 1, 2), divmod(c + kx - 1, 2)
        for o in range(outputs):
            # At the tail, output o is sub-pixel (o // 2, o % 2) of its pixel.
            to = (2 * r + o // 2) * 4 + 2 * c + o % 2 if tail else 4 * o + 2 * r + c
            source.append(small[o, :, ky, kx])
            target.append(large[to, 2 * from_r + from_c :: 4, dy + 1, dx + 1])
    return torch.cat(source), torch.cat(target)


class CollapsibleConv(nn.Module):
    """3×3 convolution (i → o) parameterised as 3×3 (i → hidden) and 1×1 (hidden → o)."""

    identity: Tensor | None

    def __init__(self, i: int, o: int, hidden: int, identity: bool = True) -> None:
        super().__init__()
        self.wide = nn.Conv2d(i, hidden, 3, padding=1)
        self.narrow = nn.Conv2d(hidden, o, 1)
        centre = torch.zeros(o, i, 3, 3)
        centre[:, :, 1, 1] = torch.eye(o, i)
        self.register_buffer("identity", centre if i == o and identity else None, persistent=False)

    def collapse(self) -> tuple[Tensor, Tensor]:
        """The equivalent kernel (o, i, 3, 3) and bias (o,), in float32, differentiable."""
        mix = self.narrow.weight[:, :, 0, 0]
        kernel = torch.einsum("oh,hikl->oikl", mix, self.wide.weight)
        if self.identity is not None:
            kernel = kernel + self.identity
        assert self.narrow.bias is not None and self.wide.bias is not None
        return kernel, mix @ self.wide.bias + self.narrow.bias

    @torch.no_grad()
    def start_small(self) -> None:
        """Scale the initial output down, so that a path that is added begins close to nothing."""
        assert self.narrow.bias is not None
        self.narrow.weight.mul_(0.1)
        self.narrow.bias.zero_()


class HalfResolutionConv(nn.Module):
    """A convolution over 2×2 cells = a free one + one that treats all four phases alike.

    Space-to-depth costs a network the knowledge that a picture shifted by one pixel is the same
    picture. The second path is a full-resolution convolution of a quarter of the channels, lifted to
    cells; it learns that knowledge four times as fast, the free path fills the rest of the capacity.
    """

    source: Tensor
    target: Tensor

    def __init__(self, i: int, o: int, hidden: int, tail: bool) -> None:
        super().__init__()
        # An identity at the tail would add features to the picture where both have 16 channels.
        self.free = CollapsibleConv(i, o, hidden, identity=not tail)
        self.shared = CollapsibleConv(i // 4, o // 4, hidden // 2, identity=False)
        self.tail = tail
        source, target = lift_map(i // 4, o // 4, tail)
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("target", target, persistent=False)

    def collapse(self) -> tuple[Tensor, Tensor]:
        """The equivalent kernel (o, i, 3, 3) and bias (o,), in float32, differentiable."""
        kernel, bias = self.free.collapse()
        small, small_bias = self.shared.collapse()
        lifted = torch.zeros_like(kernel).view(-1).index_put((self.target,), small.reshape(-1)[self.source])
        # Four phases of each channel in a row; for the tail, 2×2 sub-pixels inside 2×2 phases.
        spread = small_bias.view(2, 2).repeat(2, 2).view(-1) if self.tail else small_bias.repeat_interleave(4)
        return kernel + lifted.view_as(kernel), bias + spread


class TrainableGenerator(nn.Module):
    """`Generator` with every convolution collapsible; same input, output and function class."""

    def __init__(self, config: GeneratorConfig, expand: int = 4) -> None:
        super().__init__()
        self.config = config
        hidden = expand * config.channels
        last = len(config.layers) - 1
        self.convs = nn.ModuleList()
        for index, (i, o) in enumerate(config.layers):
            if config.unshuffle == 2 and config.channels % 4 == 0:
                self.convs.append(HalfResolutionConv(i, o, hidden, tail=index == last))
            else:
                self.convs.append(CollapsibleConv(i, o, hidden))
        self.register_buffer("anchor", torch.tensor(config.anchor_channels), persistent=False)
        # The residual starts near zero, so that training starts from the nearest-neighbour picture.
        for block in self.convs[-1].modules():
            if isinstance(block, CollapsibleConv):
                block.start_small()

    def kernels(self) -> list[tuple[Tensor, Tensor]]:
        """The plain network's (kernel, bias) of every layer, differentiable."""
        # Kernels are folded in full precision even under autocast: bf16 here would be a rounding of
        # the weights themselves, not of the activations.
        with torch.autocast(self.get_buffer("anchor").device.type, enabled=False):
            return [block.collapse() for block in self.convs]  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) in 0…1 → (N, 1, 2H, 2W), not clipped."""
        convs = [partial(F.conv2d, weight=w, bias=b, padding=1) for w, b in self.kernels()]
        return run_layers(x, self.config, self.get_buffer("anchor"), convs)

    @torch.no_grad()
    def fold(self) -> Generator:
        """The plain network with the same output, on the CPU, in eval mode."""
        plain = Generator(self.config)
        for target, (kernel, bias) in zip(plain.convs, self.kernels(), strict=True):
            assert isinstance(target, nn.Conv2d) and target.bias is not None
            target.weight.copy_(kernel)
            target.bias.copy_(bias)
        return plain.eval()
