"""The latent-space constraint: the detail of a batch is distributed as the detail of real pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Detail weaker than one code value of eight bits is not worth transporting.
_FLOOR = (1 / 255) ** 2


def transport_loss(output: Tensor, reference: Tensor, *, projections: int = 16, stride: int = 5) -> Tensor:
    """Sliced Wasserstein distance between the high-pass patches of two batches.

    Where a pixel loss asks each pixel for the mean of all that may lie there, which is blur, this asks
    the whole batch for as much detail, of the same kinds and strengths, as real pictures have, wherever
    it lies: the cost of the optimal transport between the two sets of 7×7 patches. In one dimension that
    is sorting; patches are projected on random directions and the costs averaged (Bonneel et al. 2015;
    for optimal transport instead of an adversary, Lei et al. 2019). Each direction is white noise of 5×5
    through a 3×3 high-pass filter, so that all orientations of fine detail count and brightness does not.

    Args:
        output, reference: (N, 1, H, W), luma in 0…1, of equal size.
        projections: directions, from torch's global generator.
        stride: of the patches; odd, so that they fall on all phases of the pixel shuffle.

    Returns:
        A scalar: the squared distance, as a share of the real detail's energy. 0 for equal sets in any
        order, 1 for a picture without detail.
    """
    kernels = _directions(projections, output)
    mapped = [
        F.conv2d(x.float(), kernels, stride=stride).transpose(0, 1).flatten(1)
        for x in (output, reference.detach())
    ]
    ours, real = (x.sort(dim=1).values for x in mapped)
    return (ours - real).square().mean() / (real.square().mean() + _FLOOR)


def _directions(count: int, like: Tensor) -> Tensor:
    """(count, 1, 7, 7) zero-sum filters of unit length."""
    noise = torch.randn(count, 1, 5, 5, device=like.device)
    kernels = F.conv2d(noise, high_pass().to(like.device)[None, None], padding=2)
    return kernels / torch.linalg.vector_norm(kernels, dim=(2, 3), keepdim=True)


def high_pass() -> Tensor:
    """The 3×3 filter that leaves what a binomial blur takes away."""
    blur = torch.tensor([1.0, 2.0, 1.0])
    kernel = -torch.outer(blur, blur) / 16
    kernel[1, 1] += 1
    return kernel
