"""LPIPS as a loss of luma."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from upscale.metrics.lpips import Lpips, yuv_to_rgb


class Perceptual(nn.Module):
    """Mean LPIPS (Zhang et al. 2018) between generated and true pictures, in colour.

    LPIPS learned from colour pictures; grey ones are outside of what it knows. The generator makes only
    luma, so its chroma here is what users will see: the input's, enlarged.

    Args:
        lpips: the distance; LPIPS-AlexNet by default.

    Raises:
        ModelError: its weights are not installed.
    """

    def __init__(self, lpips: Lpips | None = None) -> None:
        super().__init__()
        self.lpips = lpips or Lpips()

    def forward(
        self,
        output: Tensor,
        reference: Tensor,
        low_chroma: Tensor | None = None,
        reference_chroma: Tensor | None = None,
    ) -> Tensor:
        """A scalar, differentiable with respect to `output`.

        Args:
            output, reference: (N, 1, H, W) luma, at least 31×31, 8-bit limited-range code values over 255.
            low_chroma: (N, 2, h, w), the input's, of any size; None compares grey pictures.
            reference_chroma: (N, 2, h', w'); None is `low_chroma`: then only luma differs.
        """
        if reference_chroma is None:
            reference_chroma = low_chroma
        with torch.no_grad():
            target = self.lpips.features(yuv_to_rgb(reference, reference_chroma))
        features = self.lpips.features(yuv_to_rgb(output, low_chroma))
        return self.lpips.distance(features, target).mean()
