"""Held-out scores during training, on whole frames of compressed clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscale.errors import ModelError
from upscale.metrics.clips import lanczos
from upscale.metrics.flicker import flicker
from upscale.metrics.lpips import Lpips, yuv_to_rgb
from upscale.metrics.psnr_ssim import psnr, ssim
from upscale.train.held_out import HeldOutClips

#: PSNR below lanczos that a perceptual stage may give away before a checkpoint counts as worse.
PSNR_TOLERANCE_DB = 0.15
#: What a dB below that costs, in LPIPS.
PSNR_PENALTY = 0.1

Planes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the held-out clips at all of their qualities.

    Attributes:
        psnr, ssim: of luma, all kept frames; dB and -1…1.
        lpips: AlexNet distance of the last frame in colour; None without its weights.
        flicker: 1 is as the original (`upscale.metrics.flicker.flicker`); None where nothing stands still.
        lanczos: {"psnr", "lpips" …} of swscale's lanczos on the same frames.
    """

    psnr: float
    ssim: float
    lpips: float | None
    flicker: float | None
    lanczos: dict[str, float]

    def selection_score(self, perceptual: bool) -> float:
        """What chooses the checkpoint, more is better.

        PSNR for a stage that only comes near the original. For one with perceptual aims the LPIPS of
        whole frames, with a price for every dB that falls too far below lanczos.
        """
        if not perceptual or self.lpips is None:
            return self.psnr
        missing = max(0.0, self.lanczos["psnr"] - PSNR_TOLERANCE_DB - self.psnr)
        return -(self.lpips + PSNR_PENALTY * missing)


class Validator:
    """Scores networks on the same clips; what does not depend on the network is computed once.

    Args:
        clips: at least one.
        device: where the network and LPIPS run.
    """

    def __init__(self, clips: HeldOutClips, device: torch.device) -> None:
        self.clips, self.device = clips.clips, device
        self.lpips: Lpips | None = None
        with suppress(ModelError):  # its weights are not installed
            self.lpips = Lpips().to(device)
        self.references = [self._features(c.luma[-1], c.chroma[-1]) for c in self.clips]
        self.lanczos = self._means(lambda low: np.stack([lanczos(frame) for frame in low]))

    def __call__(self, network: nn.Module) -> Scores:
        """Scores of a network (N, 1, H, W) → (N, 1, 2H, 2W), in float32, output rounded to 8 bit."""
        means = self._means(lambda low: run_network(network, low, self.device))
        return Scores(means["psnr"], means["ssim"], means.get("lpips"), means.get("flicker"), self.lanczos)

    @torch.no_grad()
    def _means(self, upscale: Callable[[Planes], Planes]) -> dict[str, float]:
        rows: dict[str, list[float]] = {"psnr": [], "ssim": [], "flicker": [], "lpips": []}
        for clip, reference in zip(self.clips, self.references, strict=True):
            for low_luma, low_chroma in zip(clip.low_luma, clip.low_chroma, strict=True):
                output = upscale(low_luma)
                rows["psnr"] += [psnr(t, o) for t, o in zip(clip.luma, output, strict=True)]
                rows["ssim"].append(ssim(clip.luma[-1], output[-1]))
                still = flicker(list(clip.luma), list(output))
                if not math.isnan(still):  # nothing in this clip stands still
                    rows["flicker"].append(still)
                if self.lpips is not None:
                    features = self._features(output[-1], low_chroma[-1])
                    rows["lpips"].append(float(self.lpips.distance(features, reference)))
        return {name: float(np.mean(values)) for name, values in rows.items() if values}

    @torch.no_grad()
    def _features(self, luma: Planes, chroma: Planes) -> list[Tensor]:
        if self.lpips is None:
            return []
        y, c = (torch.from_numpy(p.copy())[None].to(self.device).float().div_(255) for p in (luma, chroma))
        return self.lpips.features(yuv_to_rgb(y[None], c).clamp(0, 1))


@torch.no_grad()
def run_network(network: nn.Module, low: Planes, device: torch.device) -> Planes:
    """(F, H, W) uint8 luma → (F, 2H, 2W) uint8, frame by frame, rounded and clipped."""
    outputs = []
    for frame in low:
        x = torch.from_numpy(frame.copy())[None, None].to(device).float().div_(255)
        outputs.append(network(x)[0, 0].mul(255).round().clamp(0, 255).byte().cpu().numpy())
    return np.stack(outputs)
