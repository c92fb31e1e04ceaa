"""Compare the decoded frames of two videos; exit code 1 if any sample differs by more than the limit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import zip_longest

import av
import numpy as np


def planes(path: str) -> Iterator[np.ndarray]:
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray().astype(int)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=2)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--name", default="")
    given = parser.parse_args()
    frames, worst, differing, samples, squares = 0, 0, 0, 0, 0
    for a, b in zip_longest(*map(planes, given.files)):
        if a is None or b is None or a.shape != b.shape:
            print(f"{given.name}: another number or size of frames after {frames}")
            return 1
        difference = np.abs(a - b)
        frames += 1
        samples += difference.size
        worst = max(worst, int(difference.max()))
        differing += int(np.count_nonzero(difference))
        squares += int((difference**2).sum())
    if not frames:
        print(f"{given.name}: no frames")
        return 1
    psnr = 10 * np.log10(255**2 * samples / squares) if squares else np.inf
    print(
        f"{given.name}: {frames} frames, {100 * differing / samples:.4f} % of samples differ, "
        f"by {worst} at most, {psnr:.1f} dB"
    )
    return int(worst > given.limit)


if __name__ == "__main__":
    sys.exit(main())
