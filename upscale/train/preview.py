"""What training would see: pairs of every degradation on one sheet."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from upscale.compare.sheet import grid, save_png
from upscale.errors import TrainError, UpscaleError
from upscale.train import dataset
from upscale.train.config import TrainConfig
from upscale.train.dataset import CROP
from upscale.train.material import find_sources, read_sequences

#: Rows of the sheet: sources, evenly spread over the folder.
ROWS = 6

Picture = npt.NDArray[np.uint8]


def preview_sheet(folder: Path, out: Path, config: TrainConfig | None = None) -> list[str]:
    """Write a PNG with one sharp crop per row beside all its degraded versions.

    The degraded ones are shown with every pixel doubled, so that each is as large as the sharp one.

    Args:
        config: whose degradations are shown, on such originals as it asks for; the same seed gives the
            same sheet. None is the default.

    Returns:
        Names of the sources shown, from top to bottom.

    Raises:
        TrainError: no usable crop in `folder`.
        OutputError: `out` cannot be written.
    """
    config = config or TrainConfig()
    sources, versions = find_sources(folder), config.versions
    rows: list[tuple[str, list[Picture]]] = []
    # Evenly spread; where one gives nothing, the others follow in turn.
    order = [i for start in range(ROWS) for i in range(start * len(sources) // ROWS, len(sources), ROWS)]
    shown: list[str] = []
    for index in dict.fromkeys(order):
        if len(rows) == ROWS:
            break
        record = _one_crop(sources[index], np.random.default_rng((config.seed, index + 1)), config)
        if record is not None:
            shown.append(str(sources[index].relative_to(folder)))
            rows.append(("", [_colour(record, None), *(_colour(record, v) for v in range(len(versions)))]))
    if not rows:
        raise TrainError(f"no detailed {CROP}x{CROP} crop in {len(sources)} files", path=str(folder))
    save_png(str(out), grid(rows, ["original", *versions]))
    return shown


def _one_crop(path: Path, rng: np.random.Generator, config: TrainConfig) -> npt.NDArray[np.void] | None:
    try:
        for sequence in read_sequences(path, rng, crisp=config.originals == "crisp"):
            records = dataset.crops_of(sequence, rng, config.versions)
            if records:
                return records[0]
    except (UpscaleError, av.FFmpegError, ValueError, StopIteration, IndexError):
        pass  # a damaged source is named when the crops are made
    return None


def _colour(record: npt.NDArray[np.void], version: int | None) -> Picture:
    """(CROP, CROP, 3) uint8: the original, or a degraded version with every pixel doubled."""
    if version is None:
        luma, chroma = record["sharp"], record["sharp_chroma"]
    else:
        luma = _doubled(record["degraded"][version])
        chroma = np.stack([_doubled(c) for c in record["degraded_chroma"][version]])
    planes = np.stack([luma, *(_doubled(c) for c in chroma)])
    return av.VideoFrame.from_ndarray(planes, format="yuv444p").to_ndarray(format="rgb24").astype(np.uint8)


def _doubled(plane: Picture) -> Picture:
    return plane.repeat(2, 0).repeat(2, 1)
