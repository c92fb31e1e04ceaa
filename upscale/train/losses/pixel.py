"""The local constraint: every pixel near the true one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.errors import TrainError
from upscale.train.config import PIXEL_KINDS


def pixel_loss(kind: str, output: Tensor, reference: Tensor) -> Tensor:
    """Distance from the true picture.

    Args:
        kind: "charbonnier", L1 with a rounded tip (Lai et al. 2017, LapSRN); "l1"; "mse"; or "psnr",
            minus the mean PSNR of the crops up to a factor (Chen et al. 2021, HINet).
        output, reference: (N, 1, H, W), luma in 0…1.

    Returns:
        A scalar.

    Raises:
        TrainError: unknown kind.
    """
    if kind == "charbonnier":
        return torch.sqrt((output - reference).square() + 1e-6).mean()
    if kind == "l1":
        return F.l1_loss(output, reference)
    if kind == "mse":
        return F.mse_loss(output, reference)
    if kind == "psnr":
        return torch.log((output - reference).square().mean((1, 2, 3)) + 1e-6).mean()
    raise TrainError(f"unknown pixel loss {kind!r}: one of {', '.join(PIXEL_KINDS)}")
