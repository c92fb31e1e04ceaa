"""Held-out scores during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from upscale.train.dataset import VERSIONS, CropSet

#: Held-out crops that are scored, evenly spread over all sources.
COUNT = 96
BORDER = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean PSNR in dB on held-out crops, by degradation; `mean`, weighted as in training, chooses."""

    psnr: dict[str, float]
    mean: float


@torch.no_grad()
def validate(model: nn.Module, crops: CropSet, mix: Sequence[float]) -> Scores:
    """Score `model` in float32 on rounded 8-bit output, a border of `BORDER` pixels left out."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    chosen = np.unique(np.linspace(0, len(crops) - 1, COUNT).astype(int))
    psnr = {}
    for version, name in enumerate(VERSIONS):
        values = []
        for part in np.array_split(chosen, max(1, len(chosen) // 16)):
            low = torch.from_numpy(crops.degraded[part, version]).to(device)[:, None].float().div_(255)
            truth = torch.from_numpy(crops.sharp[part]).to(device)[:, None].float()
            output = model(low).mul_(255).round_().clamp_(0, 255)
            error = (output - truth)[..., BORDER:-BORDER, BORDER:-BORDER].square().mean((1, 2, 3))
            values.append(10 * torch.log10(255**2 / error.clamp_min(1e-3)))
        psnr[name] = float(torch.cat(values).mean())
    return Scores(psnr, sum(p * share for p, share in zip(psnr.values(), mix, strict=True)))
