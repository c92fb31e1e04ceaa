"""Whole held-out clips at several qualities: what validation scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from upscale.media.pixels.planes import plane_view
from upscale.train.codecs import Coding, encode_decode
from upscale.train.config import VALIDATED
from upscale.train.degrade import halve_frame
from upscale.train.material import Sequence

#: How held-out clips are compressed, by the names of `upscale.train.config.HELD_OUT`; "clean" is not.
CODINGS = {f"crf{crf}": Coding("libx264", {"crf": str(crf)}) for crf in (23, 28, 33, 36)} | {
    "divx": Coding("mpeg4", {"qmin": "12", "qmax": "12", "bf": "2"})
}
#: Consecutive frames that are kept of a clip, from its end: P and B frames, enough for flicker.
FRAMES = 3
#: Most clips, and most pixels of a frame's side: a validation must not cost minutes.
CLIPS = 16
SIDE = 800

Planes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """`FRAMES` consecutive frames of a held-out clip, all uint8.

    Attributes:
        luma, chroma: of the original, (F, H, W) and (F, 2, H/2, W/2).
        low_luma, low_chroma: by quality, (Q, F, H/2, W/2) and (Q, F, 2, H/4, W/4).
    """

    luma: Planes
    chroma: Planes
    low_luma: Planes
    low_chroma: Planes


@dataclass(slots=True)
class HeldOutClips:
    """Clips, at most `CLIPS`, in the order in which they came.

    Attributes:
        qualities: names of `upscale.train.config.HELD_OUT`.
    """

    qualities: tuple[str, ...] = VALIDATED
    clips: list[Clip] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.clips)

    def add(self, sequence: Sequence) -> None:
        """Keep the end of a sequence, at each of the qualities, unless there are enough."""
        if len(self.clips) >= CLIPS or len(sequence.frames) < FRAMES:
            return
        small = [halve_frame(f) for f in sequence.frames]
        low_res = [
            (encode_decode(small, CODINGS[name]) if name in CODINGS else small)[-FRAMES:]
            for name in self.qualities
        ]
        original = sequence.frames[-FRAMES:]
        whole = original[0].height, original[0].width
        height, width = (min(SIDE, side) // 8 * 8 for side in whole)
        top, left = ((w - s) // 16 * 8 for w, s in zip(whole, (height, width), strict=True))
        luma, chroma = _planes(original, (top, left), (height, width))
        parts = [_planes(low, (top // 2, left // 2), (height // 2, width // 2)) for low in low_res]
        self.clips.append(
            Clip(luma, chroma, np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]))
        )

    def save(self, path: Path) -> None:
        names = ("luma", "chroma", "low_luma", "low_chroma")
        arrays = {f"{n}{i}": getattr(c, n) for i, c in enumerate(self.clips) for n in names}
        np.savez(path, qualities=np.array(self.qualities), **arrays)

    @classmethod
    def load(cls, path: Path) -> HeldOutClips:
        with np.load(path) as saved:
            count = len(saved.files) // 4
            names = ("luma", "chroma", "low_luma", "low_chroma")
            clips = [Clip(*(saved[f"{n}{i}"] for n in names)) for i in range(count)]
            return cls(tuple(map(str, saved["qualities"])), clips)


def _planes(
    frames: list[av.VideoFrame], corner: tuple[int, int], size: tuple[int, int]
) -> tuple[Planes, Planes]:
    """Luma (F, H, W) and chroma (F, 2, H/2, W/2) of one window of each frame."""

    def cut(frame: av.VideoFrame, plane: int) -> Planes:
        (top, left), (height, width) = ((v // (1 if plane == 0 else 2) for v in p) for p in (corner, size))
        return plane_view(frame, plane)[top : top + height, left : left + width].astype(np.uint8)

    luma = np.stack([cut(f, 0) for f in frames])
    return luma, np.stack([np.stack([cut(f, 1), cut(f, 2)]) for f in frames])
