"""The temporal constraint: what stands still in the original stands still in the output."""

from __future__ import annotations

import torch
from torch import Tensor


def temporal_loss(before: Tensor, output: Tensor, reference_before: Tensor, reference: Tensor) -> Tensor:
    """Charbonnier distance between the change of the output and the change of the original.

    A network that sharpens each frame by itself sharpens the codec's noise too, which is another one in
    every frame: detail shimmers. The true frames change only where something moves, so their difference is
    what the output's should be (cf. the temporal terms of Chu et al. 2020, TecoGAN, without their warping:
    two neighbouring frames through one encoder are given, and moving places are compared as they are).

    Args:
        before, output: (N, 1, H, W) generated luma of two consecutive frames, in 0…1.
        reference_before, reference: the true ones.

    Returns:
        A scalar; 0 where both change alike.
    """
    error = (output - before) - (reference - reference_before)
    return torch.sqrt(error.square() + 1e-6).mean() - 1e-3
