"""Compare the decoded frames of two yuv420p videos; exit code 1 if samples differ by more than a limit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import zip_longest

import av
import numpy as np


def frames_of(path: str) -> Iterator[np.ndarray]:
    """(3H/2, W) int: luma, and below it both chroma planes."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="yuv420p").astype(int)


def described(difference: np.ndarray) -> str:
    """Share of samples that differ, and by how much."""
    worst, share = int(difference.max()), 100 * np.mean(difference != 0)
    return f"{share:.4f} % differ, by at most {worst}" if worst else "equal"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=2)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--name", default="")
    given = parser.parse_args()
    differences = []
    for a, b in zip_longest(*map(frames_of, given.files)):
        if a is None or b is None or a.shape != b.shape:
            print(f"{given.name}: another number or size of frames after {len(differences)}")
            return 1
        differences.append(np.abs(a - b))
    if not differences:
        print(f"{given.name}: no frames")
        return 1
    whole = np.stack(differences)
    height = whole.shape[1] * 2 // 3
    luma, chroma = described(whole[:, :height]), described(whole[:, height:])
    print(f"{given.name}: {len(whole)} frames; luma {luma}; chroma {chroma}")
    return int(whole.max() > given.limit)


if __name__ == "__main__":
    sys.exit(main())
