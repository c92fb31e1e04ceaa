"""One clip's true frames, and every measure of how far an enlarged copy is from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError, UsageError
from upscale.metrics.flicker import flicker
from upscale.metrics.psnr_ssim import psnr, ssim
from upscale.system.closing import Closing

if TYPE_CHECKING:
    from torch import Tensor

    from upscale.metrics.lpips import Lpips
    from upscale.metrics.methods import Picture

#: Measures by name, in the order of the tables. "vmaf" also gives VMAF-NEG.
MEASURES = ("psnr", "ssim", "lpips", "flicker", "vmaf")
#: LPIPS and SSIM are taken on every n-th frame: they are slow, and neighbours score alike.
EVERY = 6


@dataclass(frozen=True, slots=True)
class Score:
    """Means over one picture or clip; None where something was not measured.

    Attributes:
        psnr: dB, of luma.
        ssim: -1…1, of luma.
        lpips: 0 and up, lower is better; AlexNet, whole frames in colour.
        flicker: `upscale.metrics.flicker.flicker`, 1 is as steady as the original.
        vmaf, vmaf_neg: 0…100.
    """

    name: str
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    flicker: float | None = None
    vmaf: float | None = None
    vmaf_neg: float | None = None


#: Fields of `Score` with numbers: (name, title for tables, decimals).
COLUMNS = (
    ("psnr", "PSNR-Y", 2),
    ("ssim", "SSIM", 4),
    ("lpips", "LPIPS", 4),
    ("flicker", "flicker", 3),
    ("vmaf", "VMAF", 2),
    ("vmaf_neg", "VMAF-NEG", 2),
)


def mean_score(name: str, scores: Sequence[Score], weights: Sequence[float] | None = None) -> Score:
    """Mean of each figure over the scores that have it."""
    given = list(weights or [1.0] * len(scores))
    means: dict[str, float | None] = {}
    for field, _, _ in COLUMNS:
        pairs = [(getattr(s, field), w) for s, w in zip(scores, given, strict=True)]
        known = [(v, w) for v, w in pairs if v is not None]
        means[field] = sum(v * w for v, w in known) / sum(w for _, w in known) if known else None
    return Score(name, **means)


def available_measures() -> tuple[list[str], list[str]]:
    """Which of `MEASURES` can be taken here, and for each that cannot a line that says why."""
    from upscale.errors import UpscaleError

    usable, missing = list(MEASURES), []
    for name, check in (("lpips", _check_lpips), ("vmaf", _check_vmaf)):
        try:
            check()
        except UpscaleError as error:
            usable.remove(name)
            missing.append(str(error))
    return usable, missing


def load_lpips() -> Lpips:
    """LPIPS with AlexNet.

    Raises:
        ModelError: no weights, see `upscale.metrics.lpips.find_weights`.
        BackendError: PyTorch is not installed.
    """
    _check_lpips()
    from upscale.metrics.lpips import Lpips

    return Lpips().eval()


def _check_lpips() -> None:
    try:
        from upscale.metrics.lpips import find_weights
    except ImportError as e:
        raise BackendError("LPIPS needs PyTorch: pip install '.[torch]'") from e
    find_weights()


def _check_vmaf() -> None:
    from upscale.metrics.vmaf import ffmpeg_with_vmaf

    ffmpeg_with_vmaf()


class Meter:
    """Which measures to take; holds LPIPS' network, which is loaded once."""

    def __init__(self, measures: Iterable[str] = ("psnr", "ssim"), every: int = EVERY) -> None:
        """
        Args:
            measures: names of `MEASURES`.
            every: SSIM and LPIPS are taken on every n-th frame.

        Raises:
            UsageError: an unknown measure.
            ModelError, BackendError: one that is not installed.
        """
        self.measures = frozenset(measures)
        self.every = every
        unknown = self.measures - set(MEASURES)
        if unknown:
            raise UsageError(f"no measure {sorted(unknown)[0]!r}; there are {', '.join(MEASURES)}")
        self.lpips = load_lpips() if "lpips" in self.measures else None
        if "vmaf" in self.measures:
            _check_vmaf()


class Reference(Closing):
    """The original's consecutive frames, with what the measures need of them computed once.

    A context manager: VMAF keeps the frames in a temporary file.
    """

    def __init__(self, pictures: Sequence[Picture], meter: Meter) -> None:
        """
        Args:
            pictures: the true frames; held in memory, LPIPS' features of every n-th one too
                (20 MB each at 1280x720).
        """
        self._meter = meter
        self._lumas = [p.luma for p in pictures]
        # From the middle of the first group: the first frame of a clip is a key frame, unlike the others.
        self.sampled = range(min(meter.every // 2, len(pictures) - 1), len(pictures), meter.every)
        self._stack = ExitStack()
        self._features: dict[int, list[Tensor]] = {}
        if meter.lpips is not None:
            self._features = {
                i: [f.half() for f in _features(meter.lpips, pictures[i].rgb())] for i in self.sampled
            }
        self._vmaf: Any = None
        if "vmaf" in meter.measures:
            from upscale.metrics.vmaf import VmafMeter

            self._vmaf = self._stack.enter_context(VmafMeter(self._lumas))

    def close(self) -> None:
        self._stack.close()

    def score(self, name: str, pictures: Iterable[Picture]) -> Score:
        """Compare as many enlarged pictures, each used once and in order, with the reference.

        Raises:
            BackendError: VMAF failed.
            ValueError: another number of pictures, or another size.
        """
        wanted, every = self._meter.measures, set(self.sampled)
        lumas: list[npt.NDArray[np.uint8]] = []
        psnrs, ssims, distances = [], [], []
        for index, (reference, picture) in enumerate(zip(self._lumas, pictures, strict=True)):
            if "psnr" in wanted:
                psnrs.append(psnr(reference, picture.luma))
            if "ssim" in wanted and index in every:
                ssims.append(ssim(reference, picture.luma))
            if self._features and index in every:
                distances.append(self._distance(index, picture))
            if wanted & {"flicker", "vmaf"}:
                lumas.append(picture.luma)
        steady = flicker(self._lumas, lumas) if "flicker" in wanted and len(lumas) > 1 else math.nan
        vmaf = self._vmaf(lumas) if self._vmaf is not None else None
        return Score(
            name,
            psnr=_mean(psnrs),
            ssim=_mean(ssims),
            lpips=_mean(distances),
            flicker=None if math.isnan(steady) else steady,  # nothing stands still, or one frame
            vmaf=vmaf.vmaf if vmaf else None,
            vmaf_neg=vmaf.neg if vmaf else None,
        )

    def _distance(self, index: int, picture: Picture) -> float:
        import torch

        network = self._meter.lpips
        assert network is not None
        with torch.inference_mode():
            reference = [f.float() for f in self._features[index]]
            return float(network.distance(_features(network, picture.rgb()), reference))


def _features(network: Lpips, rgb: npt.NDArray[np.uint8]) -> list[Tensor]:
    import torch

    with torch.inference_mode():
        tensor = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float().div_(255)[None]
        return network.features(tensor)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
