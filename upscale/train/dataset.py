"""Crops on disk: sharp pictures beside several degraded versions, in one memory-mapped file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt

from upscale.errors import TrainError, UpscaleError
from upscale.media.pixels.planes import plane_view
from upscale.train.codecs import degrade
from upscale.train.config import DEGRADATIONS, SIX, TrainConfig
from upscale.train.degrade import KERNELS, LENSES, halve_frame
from upscale.train.held_out import HeldOutClips
from upscale.train.material import CLIPS, Sequence, find_sources, read_sequences

#: Side of a stored sharp crop; training cuts smaller patches out of it at random places.
CROP = 192
#: Share of the compressed versions that were downscaled with bicubic, as most scalers do by default.
BICUBIC_SHARE = 0.6
#: Most crops of one moment, so that a few large pictures do not outweigh hundreds of small ones; and of
#: one moment of a clip as it is, which a recipe can draw from as often as it likes.
PER_MOMENT = 16
PER_NATIVE_MOMENT = 32
#: Runs of frames of one clip at most and at least, and of all clips.
MOST_RUNS, LEAST_RUNS, ALL_RUNS = 10, 3, 240
#: Mean of |Laplacian|, in code values, below which a crop is empty. Crops out of focus are kept: they
#: are half of most films, and networks that never saw them make texture of their faint noise.
EMPTY = 0.05
#: Frames of a sequence from which crops of one moment are taken.
FRAMES_PER_CROP = 12
#: Every n-th source is held out for validation; of few sources, every n-th sequence.
HOLD_OUT = 16
FEW_SOURCES = 2 * HOLD_OUT
FEW_HOLD_OUT = 5
MIN_CROPS = 64

Records = npt.NDArray[np.void]
OnSource = Callable[[int, int, str, str | None], None]


@dataclass(frozen=True, slots=True)
class Material:
    """A finished cache: memory-mapped arrays of `record_type`, and whole held-out clips.

    Attributes:
        versions: names of the degradations of every crop, of `upscale.train.config.DEGRADATIONS`.
    """

    versions: tuple[str, ...]
    train: Records
    held_out: Records
    clips: HeldOutClips


def record_type(versions: int) -> np.dtype[np.void]:
    """One crop as it lies in the file: luma beside its 4:2:0 chroma, and luma of the frame before, uint8.

    Args:
        versions: degraded ones of every crop.
    """
    half, quarter = CROP // 2, CROP // 4
    return np.dtype(
        [
            ("sharp", "u1", (CROP, CROP)),
            ("sharp_chroma", "u1", (2, half, half)),
            ("degraded", "u1", (versions, half, half)),
            ("degraded_chroma", "u1", (versions, 2, quarter, quarter)),
            ("sharp_before", "u1", (CROP, CROP)),
            ("degraded_before", "u1", (versions, half, half)),
            ("native", "?"),  # of a clip's frames as they are
        ]
    )


def build(
    folder: Path,
    cache: Path,
    config: TrainConfig | None = None,
    on_source: OnSource = lambda done, total, name, error: None,
) -> None:
    """Decode, choose, degrade and store crops of everything below `folder`.

    Args:
        cache: folder to write; a complete one is left as it is. Its ``index.json`` says what was read
            and, of each file that was skipped, why.
        config: says which degradations, what originals and which seed; None is the default.
        on_source: called after each source with (done, total, name, why it was skipped or None).

    Raises:
        TrainError: fewer than `MIN_CROPS` usable crops, or the cache cannot be written.
    """
    if (cache / "index.json").exists():
        return
    config = config or TrainConfig()
    seed, crisp, versions = config.seed, config.originals == "crisp", config.versions
    sources = find_sources(folder)
    moving = sum(p.suffix.lower() in CLIPS for p in sources)
    runs = min(MOST_RUNS, max(LEAST_RUNS, ALL_RUNS // max(1, moving)))
    skipped: dict[str, str] = {}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "crops.u8").open("wb") as train, (cache / "held_out.u8").open("wb") as held_out:
            store = _Store({"train": train, "held_out": held_out}, HeldOutClips(config.held_out))
            for done, path in enumerate(sources, 1):
                rng, error = np.random.default_rng((seed, done)), None
                try:
                    for sequence in read_sequences(path, rng, runs, crisp=crisp):
                        few = len(sources) < FEW_SOURCES
                        held = (store.sequences + 1) % FEW_HOLD_OUT == 0 if few else done % HOLD_OUT == 0
                        store.add(sequence, held, crops_of(sequence, rng, versions))
                except (UpscaleError, av.FFmpegError, ValueError, StopIteration, IndexError) as e:
                    error = str(e) or type(e).__name__
                name = str(path.relative_to(folder))
                if error is not None:
                    skipped[name] = error
                on_source(done, len(sources), name, error)
        _check(store.counts, len(sources), store.clips)
        store.clips.save(cache / "clips.npz")
        # Written last: its presence says that the crops are whole.
        index = {
            "crops": store.counts,
            "sources": len(sources),
            "skipped": skipped,
            "seed": seed,
            "originals": config.originals,
            "layout": _layout(versions),
        }
        (cache / "index.json").write_text(json.dumps(index))
    except OSError as e:
        raise TrainError(f"the crops cannot be written: {e.strerror or e}", path=str(cache)) from e


class _Store:
    """The files of a cache while it is made."""

    def __init__(self, files: dict[str, BinaryIO], clips: HeldOutClips) -> None:
        self.files, self.clips = files, clips
        self.counts = dict.fromkeys(files, 0)
        self.sequences = 0

    def add(self, sequence: Sequence, held: bool, records: list[Records]) -> None:
        """Write the crops of one sequence; of one that is held out, its end too."""
        split = "held_out" if held else "train"
        self.sequences += 1
        for record in records:
            self.files[split].write(record.tobytes())
        self.counts[split] += len(records)
        if held:
            self.clips.add(sequence)


def _check(counts: dict[str, int], sources: int, clips: HeldOutClips) -> None:
    if sources == 0:
        raise TrainError("no videos or pictures in this folder")
    if counts["train"] < MIN_CROPS or counts["held_out"] < 4 or not len(clips):
        raise TrainError(
            f"too little material: {counts['train']} detailed crops of {CROP}x{CROP} for training and "
            f"{counts['held_out']} held out in {sources} files; {MIN_CROPS} and 4 are needed"
        )


def load(cache: Path) -> Material:
    """A finished cache.

    Raises:
        TrainError: it was made by another version of this program, or is damaged.
    """
    try:
        index = json.loads((cache / "index.json").read_text())
        versions = tuple(index["layout"]["versions"])
        if index["layout"] != _layout(versions) or not set(versions) <= set(DEGRADATIONS):
            raise TrainError("crops of another version; remove the folder to renew them", path=str(cache))
        train, held_out = (
            np.memmap(cache / name, record_type(len(versions)), "r", shape=(index["crops"][split],))
            for name, split in (("crops.u8", "train"), ("held_out.u8", "held_out"))
        )
        return Material(versions, train, held_out, HeldOutClips.load(cache / "clips.npz"))
    except (OSError, ValueError, KeyError) as e:
        raise TrainError(f"the crops cannot be read: {e}", path=str(cache)) from e


def _layout(versions: Iterable[str]) -> dict[str, Any]:
    """What must be as this program has it for a cache to be read."""
    names = list(versions)
    return {"versions": names, "bytes": record_type(len(names)).itemsize}


def totals(cache: Path) -> dict[str, Any]:
    """What a finished cache was made of: files, how many were read, why not the others, and crops.

    Raises:
        TrainError: as `load`.
    """
    try:
        index = json.loads((cache / "index.json").read_text())
        skipped = dict(index.get("skipped", {}))
        read = index["sources"] - len(skipped)
        return {"files": index["sources"], "read": read, "skipped": skipped, "crops": index["crops"]}
    except (OSError, ValueError, KeyError) as e:
        raise TrainError(f"the crops cannot be read: {e}", path=str(cache)) from e


def crops_of(sequence: Sequence, rng: np.random.Generator, versions: Iterable[str] = SIX) -> list[Records]:
    """Records of one frame of every `FRAMES_PER_CROP` of the sequence, most often P or B frames.

    The codec sees whole pictures in motion, not crops, so blocks, prediction and rate control are
    those of a real file.
    """
    frames = sequence.frames
    if min(frames[0].width, frames[0].height) < CROP:
        return []
    count = -(-len(frames) // FRAMES_PER_CROP)
    moments = [int(n) for n in rng.choice(np.arange(2, len(frames)), count, replace=False)]
    made = [_version(name, frames, rng) for name in versions]
    most = PER_NATIVE_MOMENT if sequence.native else PER_MOMENT
    records = []
    for at in moments:
        pair = slice(at - 1, at + 1)
        pairs = [[halve_frame(f, v) for f in frames[pair]] if isinstance(v, str) else v[pair] for v in made]
        for corner in _corners(frames[at], rng, most):
            record = _record(frames[pair], pairs, corner)
            record["native"] = sequence.native
            records.append(record)
    return records


def _version(name: str, frames: list[av.VideoFrame], rng: np.random.Generator) -> str | list[av.VideoFrame]:
    """One degradation of a sequence: all frames as a codec left them, or only the name of a kernel."""
    if name == "bicubic":
        return "matlab"
    if name == "kernel":
        return str(rng.choice(KERNELS))
    if name == "camera":
        return str(rng.choice(list(LENSES)[1:]))
    kernel = "BICUBIC" if rng.random() < BICUBIC_SHARE else str(rng.choice(KERNELS[1:]))

    def sized(share: float) -> list[av.VideoFrame]:
        if share == 1:
            return [halve_frame(f, kernel) for f in frames]
        width, height = (int(side * share / 2) // 4 * 4 for side in (frames[0].width, frames[0].height))
        return [f.reformat(width, height, interpolation="BICUBIC") for f in frames]

    return degrade(name, rng, sized)


def _record(
    sharp: list[av.VideoFrame], versions: list[list[av.VideoFrame]], corner: tuple[int, int]
) -> Records:
    """A crop of the second of two frames, and luma of the first; `versions` hold the same two."""
    record = np.zeros((), record_type(len(versions)))

    def cut(frame: av.VideoFrame, plane: int, shrink: int) -> npt.NDArray[np.uint8]:
        (top, left), side = (c // shrink for c in corner), CROP // shrink
        return plane_view(frame, plane)[top : top + side, left : left + side].astype(np.uint8)

    record["sharp_before"], record["sharp"] = (cut(frame, 0, 1) for frame in sharp)
    record["sharp_chroma"] = [cut(sharp[1], k, 2) for k in (1, 2)]
    record["degraded_before"] = [cut(v[0], 0, 2) for v in versions]
    record["degraded"] = [cut(v[1], 0, 2) for v in versions]
    record["degraded_chroma"] = [[cut(v[1], k, 4) for k in (1, 2)] for v in versions]
    return record


def _corners(frame: av.VideoFrame, rng: np.random.Generator, most: int) -> list[tuple[int, int]]:
    """Corners (multiples of 4) of up to `most` crops, empty ones left out."""
    picture = plane_view(frame, 0)
    height, width = picture.shape
    stride = CROP // 2
    scored = []
    for top in range(0, height - CROP + 1, stride):
        for left in range(0, width - CROP + 1, stride):
            crop = picture[top : top + CROP, left : left + CROP].astype(np.float32)
            beside = crop[:-2, 1:-1] + crop[2:, 1:-1] + crop[1:-1, :-2] + crop[1:-1, 2:]
            scored.append((float(np.abs(4 * crop[1:-1, 1:-1] - beside).mean()), top, left))
    usable = sorted((s for s in scored if s[0] > EMPTY), reverse=True)
    # A quarter by sharpness, the rest at random, as in whole frames.
    best, rest = usable[: most // 4], usable[most // 4 :]
    if rest:
        picked = rng.choice(len(rest), size=min(len(rest), most - len(best)), replace=False)
        best += [rest[i] for i in picked]
    return [(top, left) for _, top, left in best]
