"""What is smooth stays smooth: no pattern of the pixel shuffle on walls, skies and blurred backgrounds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Surfaces per step, and their side at the low resolution.
COUNT, SIDE = 8, 40
#: Low-resolution pixels at each border that are left out: there the network sees padding.
BORDER = 12


def smooth_loss(network: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """Mean absolute difference, in 8-bit code values, between enlarged smooth surfaces and the true ones.

    Each output pixel of a 4×4 cell has kernels of its own. Where nothing is to be seen they need not agree,
    and losses of texture let them drift: a faint grid appears on flat areas, the checkerboard of Odena et
    al. 2016, too weak for pixel losses and plain to the eye and to LPIPS. Planes and shallow bowls of random
    level have a known enlargement. They are not rounded to code values: asked to undo the rounding, the
    network learned to flatten all that is as faint, grain included, and left contours around it.

    Args:
        network: (N, 1, h, w) → (N, 1, 2h, 2w), luma in 0…1.

    Returns:
        A scalar; random surfaces come from torch's global generator.
    """
    level, tilt_y, tilt_x, bend = torch.rand(4, COUNT, 1, 1, 1, device=device)

    def surface(step: float) -> Tensor:
        at = (torch.arange(SIDE / step, device=device) + 0.5) * step / SIDE - 0.5
        y, x = at[:, None], at[None, :]
        # Half of the tilts are below one code value from end to end.
        slope = [0.3 * (2 * t - 1) ** 3 for t in (tilt_y, tilt_x)]
        return 0.05 + 0.9 * level + slope[0] * y + slope[1] * x + 0.2 * (2 * bend - 1) ** 3 * (x * x + y * y)

    inner = slice(2 * BORDER, 2 * (SIDE - BORDER))
    with torch.autocast(device.type, enabled=False):
        error = network(surface(1.0).clamp(0, 1)) - surface(0.5).clamp(0, 1)
    return error[..., inner, inner].abs().mean() * 255
