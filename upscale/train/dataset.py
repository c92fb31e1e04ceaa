"""Crops on disk: sharp 8-bit luma beside several degraded versions, in one memory-mapped folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from upscale.errors import TrainError
from upscale.train.degrade import KERNELS, Plane, halve, through_x264
from upscale.train.material import Sequence, find_sources, read_sequences

#: Side of a stored sharp crop; training cuts smaller patches out of it at random places.
CROP = 192
#: Degraded versions of every crop: two clean ones, then one lightly and one clearly compressed.
VERSIONS = ("clean bicubic", "clean other kernel", "x264 CRF 16-23", "x264 CRF 23-30")
#: Share of the compressed versions that were downscaled with bicubic, as most scalers do by default.
BICUBIC_SHARE = 0.7
#: Most crops from one picture, so that a few large ones do not outweigh hundreds of small ones.
PER_PICTURE = 24
#: Every n-th source is held out for validation; of few sources, every n-th moving sequence.
HOLD_OUT = 16
FEW_SOURCES = 2 * HOLD_OUT
MIN_CROPS = 64


@dataclass(frozen=True, slots=True)
class CropSet:
    """`sharp` (N, CROP, CROP) uint8 and `degraded` (N, len(VERSIONS), CROP/2, CROP/2) uint8."""

    sharp: npt.NDArray[np.uint8]
    degraded: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.sharp)


def build(
    folder: Path,
    cache: Path,
    seed: int = 1,
    on_source: Callable[[int, int, str, str | None], None] = lambda done, total, name, error: None,
) -> None:
    """Decode, choose, degrade and store crops of everything below `folder`.

    Args:
        cache: folder to write; a complete one is left as it is.
        on_source: called after each source with (done, total, name, why it was skipped or None).

    Raises:
        TrainError: fewer than `MIN_CROPS` usable crops.
    """
    if (cache / "index.json").exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    sources = find_sources(folder)
    rng = np.random.default_rng(seed)
    counts = {"train": 0, "held_out": 0}
    sequences = 0
    files = {(s, k): (cache / f"{s}.{k}.u8").open("wb") for s in counts for k in ("sharp", "degraded")}
    try:
        for done, path in enumerate(sources, 1):
            error = None
            try:
                for sequence in read_sequences(path):
                    sequences += 1
                    unit = done if len(sources) >= FEW_SOURCES else sequences
                    split = "held_out" if unit % HOLD_OUT == 0 else "train"
                    for sharp, degraded in crops_of(sequence, rng):
                        files[split, "sharp"].write(sharp.tobytes())
                        files[split, "degraded"].write(degraded.tobytes())
                        counts[split] += 1
            except (av.FFmpegError, ValueError, StopIteration, IndexError) as e:
                error = str(e) or type(e).__name__
            on_source(done, len(sources), str(path.relative_to(folder)), error)
    finally:
        for file in files.values():
            file.close()
    if counts["train"] < MIN_CROPS or counts["held_out"] == 0:
        raise TrainError(
            f"too little material: {counts['train']} sharp crops of {CROP}x{CROP} in {len(sources)} "
            f"files; at least {MIN_CROPS} and {HOLD_OUT} pictures or sequences are needed"
        )
    # Written last: its presence says that the crops are whole.
    (cache / "index.json").write_text(json.dumps({"crops": counts, "sources": len(sources), "seed": seed}))


def load(cache: Path) -> tuple[CropSet, CropSet]:
    """(training, held-out) crops of a finished cache, memory-mapped."""
    counts = json.loads((cache / "index.json").read_text())["crops"]
    sets = []
    for split in ("train", "held_out"):
        n, half = counts[split], CROP // 2
        sharp = np.memmap(cache / f"{split}.sharp.u8", np.uint8, "r", shape=(n, CROP, CROP))
        shape = (n, len(VERSIONS), half, half)
        sets.append(CropSet(sharp, np.memmap(cache / f"{split}.degraded.u8", np.uint8, "r", shape=shape)))
    return sets[0], sets[1]


def crops_of(sequence: Sequence, rng: np.random.Generator) -> list[tuple[Plane, Plane]]:
    """Pairs of one sharp crop and its stack of degraded versions, from the sequence's later frames.

    The codec sees whole pictures in motion, not crops, so blocks, prediction and rate control are
    those of a real file. The harvested frame is a P or B frame wherever there is motion.
    """
    at = len(sequence.pictures) - 1 - int(rng.integers(0, 2)) if len(sequence.pictures) > 1 else 0
    sharp = sequence.pictures[at]
    if min(sharp.shape) < CROP:
        return []
    others = [k for k in KERNELS if k != "bicubic"]
    versions = [halve(sharp, "bicubic"), halve(sharp, str(rng.choice(others)))]
    for low, high in ((16, 23), (23, 30)):
        kernel = "bicubic" if rng.random() < BICUBIC_SHARE else str(rng.choice(others))
        small = [halve(p, kernel) for p in sequence.pictures]
        versions.append(through_x264(small, float(rng.uniform(low, high)))[at])
    pairs = []
    for top, left in _sharpest(sharp, rng):
        t, s, half = top // 2, left // 2, CROP // 2
        pairs.append(
            (
                sharp[top : top + CROP, left : left + CROP],
                np.stack([c[t : t + half, s : s + half] for c in versions]),
            )
        )
    return pairs


def _sharpest(picture: Plane, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Corners (even) of up to `PER_PICTURE` crops, flat ones left out, busy ones first."""
    height, width = picture.shape
    stride = CROP // 2
    corners = [
        (t, s) for t in range(0, height - CROP + 1, stride) for s in range(0, width - CROP + 1, stride)
    ]
    scored = []
    for top, left in corners:
        crop = picture[top : top + CROP, left : left + CROP].astype(np.float32)
        detail = np.abs(
            4 * crop[1:-1, 1:-1] - crop[:-2, 1:-1] - crop[2:, 1:-1] - crop[1:-1, :-2] - crop[1:-1, 2:]
        )
        scored.append((float(detail.mean()), top, left))
    usable = [s for s in scored if s[0] > 3.0]
    # Half by sharpness, half by lot: the sharpest crops alone would all be text and foliage.
    usable.sort(reverse=True)
    best, rest = usable[: PER_PICTURE // 2], usable[PER_PICTURE // 2 :]
    if rest:
        picked = rng.choice(len(rest), size=min(len(rest), PER_PICTURE - len(best)), replace=False)
        best += [rest[i] for i in picked]
    return [(top, left) for _, top, left in best]
