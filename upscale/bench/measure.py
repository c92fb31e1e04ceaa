"""The bench: backends × models × threads × sizes, against swscale in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from upscale.bench import content, machine
from upscale.errors import UpscaleError
from upscale.options import RESAMPLERS

#: Source size → size of the result, both (width, height): the two jobs that are measured.
SIZES = {(640, 360): (1280, 720), (480, 360): (960, 720)}

#: How the command line is told to make these sizes.
_TARGET = ["--target", "720p"]

#: What everything is compared with.
BASELINE = RESAMPLERS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """What to measure.

    Attributes:
        backends: names, or empty for all that are installed.
        models: names or files, or empty for the default one.
        precision: of the network, "auto" for the fastest of each backend.
        threads: of the network, or empty for one and all cores.
        frames: length of the clip.
        runs: counted repetitions; figures are their medians.
    """

    backends: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    precision: str = "auto"
    threads: tuple[int, ...] = ()
    frames: int = 120
    runs: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures of one configuration; fps are frames per second of wall-clock time, medians.

    Attributes:
        backend, model, threads: the network's; "swscale", the baseline's name and 0 for the baseline.
        precision: that the network computed in.
        source, size: (width, height) in and out.
        decode_fps, network_fps, encode_fps: each stage alone; the network on all its threads.
        floor_fps: decoder, swscale and encoder in plain threads (`upscale.bench.stages.floor_fps`).
        network_ms: one frame on its own, no other in flight.
        pipeline_fps: the whole job, from the first frame asked for to the finished file.
        cpu_seconds_per_frame: of the whole process, without its start-up.
        peak_memory: largest resident size of the process in bytes.
        times_baseline: wall-clock time of the whole pipeline over the baseline's.
        times_floor: the same over the floor's.
        error: why there are no figures.
    """

    backend: str
    model: str
    threads: int
    source: tuple[int, int]
    size: tuple[int, int]
    precision: str | None = None
    decode_fps: float | None = None
    network_fps: float | None = None
    network_ms: float | None = None
    encode_fps: float | None = None
    pipeline_fps: float | None = None
    cpu_seconds_per_frame: float | None = None
    peak_memory: int | None = None
    times_baseline: float | None = None
    floor_fps: float | None = None
    times_floor: float | None = None
    error: str | None = None


def bench(config: BenchConfig, on_row: Callable[[Row], None] = lambda row: None) -> dict[str, Any]:
    """Measure everything; a configuration that fails becomes a row with its `error`.

    Returns:
        Plain JSON: ``machine``, ``config`` and ``rows``.

    Raises:
        UpscaleError: not even the baseline runs.
    """
    rows = []
    with TemporaryDirectory(prefix="upscale-bench-") as folder:
        for row in _rows(config, Path(folder)):
            on_row(row)
            rows.append(asdict(row))
    return {"event": "bench", "machine": machine.describe(), "config": asdict(config), "rows": rows}


def _rows(config: BenchConfig, folder: Path) -> Iterator[Row]:
    for source, size in SIZES.items():
        clip = folder / f"{source[0]}x{source[1]}.mkv"
        content.write_clip(clip, *source, config.frames)
        decode = _stage("decode", str(clip), config.runs)
        encode = _stage("encode", str(clip), size, config.runs)
        floor = _stage("floor", str(clip), size, config.runs)
        # The first process of all reads everything from the disk; it is not counted.
        _pipeline(clip, ["--model", BASELINE], runs=1, frames=config.frames)
        base = _pipeline(clip, ["--model", BASELINE], config.runs, config.frames)
        shared: dict[str, Any] = {
            "source": source, "size": size, "decode_fps": decode, "encode_fps": encode, "floor_fps": floor,
        }  # fmt: skip
        over_floor = floor / base["pipeline_fps"]
        yield Row(backend="swscale", threads=0, times_baseline=1.0, times_floor=over_floor, **shared, **base)
        for backend, model, threads in _combinations(config):
            fixed = {"backend": backend, "threads": threads, **shared}
            try:
                network, one, precision = _stage(
                    "network", str(clip), model, backend, config.precision, threads, config.runs
                )
                named = ["--backend", backend, "--precision", precision, "--threads", str(threads)]
                named += ["--model", model] if model is not None else []
                whole = _pipeline(clip, named, config.runs, config.frames)
            except UpscaleError as error:
                yield Row(error=str(error), model=model or "default", **fixed)
                continue
            ratio = base["pipeline_fps"] / whole["pipeline_fps"]
            measured = {"network_fps": network, "network_ms": one, "precision": precision}
            yield Row(times_baseline=ratio, times_floor=ratio * over_floor, **measured, **fixed, **whole)


def _combinations(config: BenchConfig) -> Iterator[tuple[str, str | None, int]]:
    from upscale.backends import available
    from upscale.system.cores import cores

    backends = config.backends or tuple(name for name, missing in available().items() if missing is None)
    models: tuple[str | None, ...] = config.models or (None,)
    for model in models:
        for backend in backends:
            for threads in config.threads or sorted({1, cores()}):
                yield backend, model, threads


def _stage(name: str, *arguments: object) -> Any:
    import json

    return machine.measure(["upscale.bench.stages", name, json.dumps(arguments)]).output


def _pipeline(clip: Path, named: list[str], runs: int, frames: int) -> dict[str, Any]:
    """The whole job in fresh processes: medians of frame rate, CPU time and peak memory."""
    output = clip.with_suffix(".mp4")
    command = ["upscale", str(clip), str(output), "-y", "--json", "--no-progress", *_TARGET, *named]
    done = [machine.measure(command) for _ in range(runs)]
    peak = [d.peak_memory for d in done if d.peak_memory is not None]
    return {
        "model": done[0].output["model"],
        "pipeline_fps": statistics.median(d.output["fps"] for d in done),
        "cpu_seconds_per_frame": statistics.median(d.output["cpu_seconds"] for d in done) / frames,
        "peak_memory": int(statistics.median(peak)) if peak else None,
    }
