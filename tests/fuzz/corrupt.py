"""Seeded corruption in one process: ``corrupt.py FOLDER CASES SEED`` prints one JSON object per case.

A case that takes too long ends the process with the stacks of all threads on stderr.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from media import COMMON, answer, write_seeds

#: Seconds that one case may take.
LIMIT = 30


def corrupt(data: bytes, rng: random.Random) -> bytes:
    """One of the things that disks, cables and editors do to a file."""
    broken = bytearray(data)
    at = rng.randrange(len(broken))
    size = rng.choice((1, 16, 300, 4000))
    match rng.randrange(8):
        case 0:  # cut off
            del broken[at:]
        case 1:  # a block of zeros
            broken[at : at + size] = bytes(min(size, len(broken) - at))
        case 2:  # scattered bytes
            for _ in range(size):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        case 3:  # bits of the header
            for _ in range(8):
                broken[rng.randrange(min(600, len(broken)))] ^= 1 << rng.randrange(8)
        case 4:  # a hole
            del broken[at : at + size]
        case 5:  # something put between
            broken[at:at] = rng.randbytes(size)
        case 6:  # a block twice
            broken[at:at] = broken[at : at + size]
        case _:  # a block elsewhere
            block = broken[at : at + size]
            to = rng.randrange(len(broken))
            broken[to : to + len(block)] = block
    return bytes(broken)


def memory() -> int:
    """Resident bytes of this process."""
    gc.collect()
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * 4096 if pages.exists() else 0


def main() -> None:
    """See the module."""
    folder, cases, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    seeds = write_seeds(folder / "seeds", COMMON)
    output = folder / "out"
    output.mkdir()
    for case in range(cases):
        whole = seeds[case % len(seeds)]
        spoilt = folder / f"spoilt{whole.suffix}"
        data = corrupt(whole.read_bytes(), random.Random(seed * 1_000_003 + case))
        spoilt.write_bytes(data)
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        begun = time.perf_counter()
        code = answer(spoilt, output)
        faulthandler.cancel_dump_traceback_later()
        changed = spoilt.read_bytes() != data
        took = time.perf_counter() - begun
        facts = {"case": case, "kind": whole.suffix, "code": code, "changed": changed, "seconds": took}
        print(json.dumps(facts | {"memory": memory() if case % 20 == 19 else 0}), flush=True)


if __name__ == "__main__":
    main()
