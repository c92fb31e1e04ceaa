"""May a faster variant stand in for the exact one? Asked of a real picture, before it runs a job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from upscale.backends.base import Luma


@dataclass(frozen=True, slots=True)
class Rule:
    """How far a variant may be from fp32 on the probe.

    Attributes:
        mean, largest: of the absolute difference, in code values of the video's depth.
        psnr: in dB at that depth.
    """

    mean: float
    largest: float = float("inf")
    psnr: float = 0.0

    def broken(self, expected: Luma, got: Luma, max_value: int) -> str | None:
        """In which way two pictures differ too much, or None."""
        if expected.shape != got.shape:
            return f"it makes {got.shape} of what should be {expected.shape}"
        error = np.abs(expected.astype(np.int32) - got)
        mean, largest = float(error.mean()), int(error.max())
        square = float(np.mean(error.astype(np.float64) ** 2))
        psnr = 10 * np.log10(max_value**2 / square) if square else float("inf")
        if mean <= self.mean and largest <= self.largest and psnr >= self.psnr:
            return None
        return f"differs by {mean:.2f} code values on average, {largest} at most, {psnr:.1f} dB"


#: Precision → what it must keep to. fp32 differs between runtimes and devices in roundings only. int8 rounds
#: every layer: single pixels of steep edges move by several code values where nothing is seen, so its rule is
#: the mean and the exporter's 45 dB, an error below that of any encoder setting of ours (libx264 at CRF 19
#: leaves 39 to 44 dB on the samples). A kernel that saturates, as some do without VNNI, fails both.
RULES = {
    "fp32": Rule(mean=0.25, largest=1),
    "bf16": Rule(mean=1, largest=3),
    "fp16": Rule(mean=1, largest=3),
    "int8": Rule(mean=1, psnr=45),
}


def probe(bits: int = 8) -> Luma:
    """(270, 480) uint8, or uint16 for more than 8 bits: luma of three real clips side by side.

    A bee on a flower, a face in front of a room, and a keyboard, 360p H.264 (`samples/README.md`). The bits
    that the clips lack come from a pattern, so that all code values occur.
    """
    with np.load(Path(__file__).with_name("probe.npz")) as stored:
        luma = stored["luma"].astype(np.uint8)
    if bits <= 8:
        return luma
    pattern = np.arange(luma.shape[1], dtype=np.uint32) * 40503 % (1 << (bits - 8))
    return ((luma.astype(np.uint32) << (bits - 8)) + pattern).astype(np.uint16)
