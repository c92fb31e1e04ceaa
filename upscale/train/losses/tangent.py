"""The tangent constraint: small changes of the input stay small changes, none of them lost."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def tangent_loss(network: Callable[[Tensor], Tensor], low: Tensor, directions: int = 1) -> Tensor:
    """How far the generator, seen through the downscaling, is from an isometry near `low`.

    With J the Jacobian of x ↦ downscale(network(x)) at one picture of n pixels, this estimates
    ‖JᵀJ − I‖² / n (Frobenius), the mean over J's singular values s of (s² − 1)²: 0 for an isometry, 1
    where everything is squashed to a constant. A generator that collapses loses singular values first; the
    idea of holding them in place is Jacobian clamping's (Odena et al. 2018). The downscaling is the mean
    of 2×2 pixels: then nearest-neighbour repetition, the generator's anchor, is an isometry exactly.

    For random signs v, E‖(JᵀJ − I)v‖² is that norm (Hutchinson 1990), without bias for any number of
    directions. Inner products of pairs of Jv would do without Jᵀ, but their squares spread more than
    they measure; of this, one v is enough.

    A direction that is squashed to *exactly* zero is a saddle: the gradient leaves it when anything, the
    other losses or the noise of the batches, has moved it by ever so little.

    Args:
        network: (N, 1, h, w) → (N, 1, 2h, 2w), applied in float32; pictures must not depend on each other.
        low: (N, 1, h, w), luma in 0…1.
        directions: random v for each picture, from torch's global generator.

    Returns:
        A scalar, differentiable with respect to the network's weights.
    """
    low = low.detach().float().requires_grad_()
    total = low.new_zeros(())
    with torch.autocast(low.device.type, enabled=False):
        seen = F.avg_pool2d(network(low), 2)
        # Jᵀu is linear in u: its derivative along v is Jv. Twice backward costs less than torch.func.jvp,
        # which passes through the network once more (and warns at its first use in torch 2.13).
        u = torch.zeros_like(seen, requires_grad=True)
        (pulled,) = torch.autograd.grad(seen, low, u, create_graph=True)
        for _ in range(directions):
            v = torch.empty_like(low).bernoulli_(0.5).mul_(2).sub_(1)
            (pushed,) = torch.autograd.grad(pulled, u, v, create_graph=True)
            (back,) = torch.autograd.grad(seen, low, pushed, create_graph=True)
            total = total + (back - v).square().mean()
    return total / directions
