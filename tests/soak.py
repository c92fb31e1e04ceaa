"""Soak: many opens, many jobs and one long video in a single process; nothing may grow.

By hand: ``python tests/soak.py`` (Linux: it reads /proc). It prints what it measured as JSON lines
and exits with 1 if a limit is passed. `test_soak.py` runs a shortened one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from upscale import Options, UpscaleError, probe, upscale_file
from upscale.events import Event, Progress

#: Limits: megabytes of resident memory per ten minutes of a long video, and in all over the opens and over
#: the jobs after the first ones. A long job keeps eight bytes of each frame (its time), nothing else.
SLOPE_LIMIT, GROWTH_LIMIT = 1.0, 5.0
#: Of every phase this part warms up: caches and the allocator's arenas fill.
WARM_UP = 0.25
SIZE, RATE, LOOP = (160, 90), 25, 20


@dataclass
class Phase:
    """One phase's measurements.

    Attributes:
        samples: (seconds since the start of the phase, progress in the phase's unit, resident MB), flat in
            an array, because it grows with the run itself.
        files, threads: open descriptors and threads (before, after).
    """

    name: str
    samples: array[float] = field(default_factory=lambda: array("d"))
    files: tuple[int, int] = (0, 0)
    threads: tuple[int, int] = (0, 0)
    facts: dict[str, Any] = field(default_factory=dict)

    def points(self) -> np.ndarray:
        """(samples, 3)."""
        return np.array(self.samples).reshape(-1, 3)

    def settled(self) -> np.ndarray:
        """The samples behind the warm-up."""
        points = self.points()
        return points[points[:, 1] >= WARM_UP * points[-1, 1]]

    def slope(self, axis: int) -> float:
        """Megabytes per second (axis 0) or per unit of progress (axis 1), by least squares."""
        points = self.settled()
        return float(np.polyfit(points[:, axis], points[:, 2], 1)[0])

    def report(self) -> dict[str, Any]:
        points, settled = self.points(), self.settled()[:, 2]
        half = len(settled) // 2
        return {
            "phase": self.name,
            "seconds": round(float(points[-1, 0]), 1),
            "resident_MB": [round(float(m), 1) for m in (points[0, 2], settled[0], settled[-1])],
            "peak_MB": round(float(points[:, 2].max()), 1),
            "growth_MB": round(float(np.median(settled[half:]) - np.median(settled[:half])), 2),
            "MB_per_10_min": round(600 * self.slope(0), 3),
            "files": list(self.files),
            "threads": list(self.threads),
            **self.facts,
        }


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def measured(name: str) -> Iterator[tuple[Phase, Callable[[float], None]]]:
    """A phase, and a function that takes a sample at a given progress."""
    phase = Phase(name)
    files, threads = _files(), threading.active_count()
    begun = time.monotonic()

    def sample(progress: float) -> None:
        phase.samples.extend((time.monotonic() - begun, progress, resident()))

    yield phase, sample
    gc.collect()
    phase.files, phase.threads = (files, _files()), (threads, threading.active_count())


def _files() -> int:
    return len(os.listdir("/proc/self/fd"))


def write_long(path: Path, seconds: float) -> Path:
    """A video of moving noise with a tone: `LOOP` seconds are encoded, their packets repeated."""
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (SIZE[1] * 2, SIZE[0] * 2, 3), dtype=np.uint8)
    soft = av.VideoFrame.from_ndarray(noise, "rgb24").reformat(SIZE[0] // 4, SIZE[1] // 4)
    picture = soft.reformat(SIZE[0] * 2, SIZE[1] * 2, interpolation="BICUBIC").to_ndarray(format="rgb24")
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE, options={"g": "50", "bf": "2", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound = out.add_stream("mp2", rate=48000, layout="mono")
        packets: list[av.Packet] = []
        for n in range(LOOP * RATE):
            x, y = n * SIZE[0] // (LOOP * RATE), n * SIZE[1] // (LOOP * RATE)
            part = np.ascontiguousarray(picture[y : y + SIZE[1], x : x + SIZE[0]])
            frame = av.VideoFrame.from_ndarray(part, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, RATE)
            packets += video.encode(frame)
        packets += video.encode(None)
        wave = (3000 * np.sin(np.arange(LOOP * 48000) * 0.05)).astype(np.int16)
        for n in range(0, len(wave), 1152):
            tone = av.AudioFrame.from_ndarray(wave[None, n : n + 1152], format="s16", layout="mono")
            tone.sample_rate, tone.pts, tone.time_base = 48000, n, Fraction(1, 48000)
            packets += sound.encode(tone)
        packets += sound.encode(None)
        packets.sort(key=lambda p: p.dts * p.time_base)
        kept = [(bytes(p), p.stream, p.pts, p.dts, p.time_base, p.duration, p.is_keyframe) for p in packets]
        for turn in range(max(1, round(seconds / LOOP))):
            for data, stream, pts, dts, base, duration, key in kept:
                packet, moved = av.Packet(data), round(turn * LOOP / base)
                packet.stream, packet.time_base, packet.duration = stream, base, duration
                packet.pts, packet.dts, packet.is_keyframe = pts + moved, dts + moved, key
                out.mux(packet)
    return path


def opens(folder: Path, count: int) -> Phase:
    """Good and bad files in turn, each opened and its first frames decoded."""
    good = write_long(folder / "good.mkv", LOOP)
    whole = good.read_bytes()
    zeroed = bytearray(whole)
    zeroed[2000:40000] = bytes(38000)
    bad = {"cut.mkv": whole[: len(whole) // 2], "head.mkv": whole[:300], "empty.mp4": b"",
           "text.mp4": b"no video at all\n" * 50, "zeroed.mkv": bytes(zeroed)}  # fmt: skip
    files = [good, folder / "missing.mp4"]
    for name, data in bad.items():
        (folder / name).write_bytes(data)
        files.append(folder / name)
    refused = 0
    with measured("opens") as (phase, sample):
        for n in range(count):
            try:
                probe(str(files[n % len(files)]))
            except UpscaleError:
                refused += 1
            sample(n + 1)
    phase.facts = {"opens": count, "refused": refused}
    return phase


def jobs(folder: Path, count: int, options: Options) -> Phase:
    """Whole jobs one after another, every fifth of them on a file that is cut off."""
    clip = write_long(folder / "job.mkv", LOOP)
    cut = folder / "job_cut.mkv"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    damaged = 0
    with measured("jobs") as (phase, sample):
        for n in range(count):
            output = folder / f"job{n}.mkv"
            result = upscale_file(str(cut if n % 5 == 4 else clip), str(output), options)
            damaged += result.damaged
            output.unlink()
            sample(n + 1)
    phase.facts = {"jobs": count, "damaged": damaged}
    return phase


def long_video(folder: Path, seconds: float, options: Options) -> Phase:
    """One long job; a sample at every progress event, half a second apart at least."""
    clip = write_long(folder / "long.mkv", seconds)
    last = 0.0
    with measured("video") as (phase, sample):

        def watch(event: Event) -> None:
            nonlocal last
            if isinstance(event, Progress) and event.seconds - last >= 0.5:
                last = event.seconds
                sample(event.frames)

        result = upscale_file(str(clip), str(folder / "long_out.mkv"), options, watch)
    phase.facts = {
        "frames": result.frames,
        "hours": round(result.duration / 3600, 3),
        "fps": round(result.fps, 1),
        "MB_per_10_min_of_video": round(phase.slope(1) * RATE * 600, 3),
        "backend": result.backend,
    }
    if result.frames != round(seconds / LOOP) * LOOP * RATE:
        raise SystemExit(f"{result.frames} frames came out")
    (folder / "long_out.mkv").unlink()
    return phase


def faults(report: dict[str, Any]) -> list[str]:
    """Which limits a phase passed."""
    found = []
    if report["phase"] == "video":
        if report["MB_per_10_min_of_video"] >= SLOPE_LIMIT:
            found.append(f"video: {report['MB_per_10_min_of_video']} MB per 10 minutes")
    elif report["growth_MB"] > GROWTH_LIMIT:
        found.append(f"{report['phase']}: {report['growth_MB']} MB more")
    for what in ("files", "threads"):
        if report[what][1] > report[what][0]:
            found.append(f"{report['phase']}: {what} {report[what][0]} → {report[what][1]}")
    return found


@dataclass(frozen=True)
class Size:
    """How much is run."""

    opens: int = 600
    jobs: int = 40
    seconds: float = 3600.0


def soak(size: Size, options: Options, say: Callable[[str], None]) -> list[str]:
    """Run all phases; returns what passed a limit."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # What loads once (libraries, the network, codecs) is no growth.
        warm = Options(**{**asdict(options), "stop": 1.0})
        upscale_file(str(write_long(folder / "warm.mkv", LOOP)), str(folder / "warm_out.mkv"), warm)
        for run in (
            lambda: opens(folder, size.opens),
            lambda: jobs(folder, size.jobs, options),
            lambda: long_video(folder, size.seconds, options),
        ):
            report = run().report()
            say(json.dumps(report))
            found += faults(report)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--opens", type=int, default=Size.opens)
    parser.add_argument("--jobs", type=int, default=Size.jobs)
    parser.add_argument("--seconds", type=float, default=Size.seconds, help="of video [3600]")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--backend", default="onnx")
    given = parser.parse_args()
    options = Options(model=given.model, backend=given.backend, scale=2)
    found = soak(Size(given.opens, given.jobs, given.seconds), options, lambda line: print(line, flush=True))
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
