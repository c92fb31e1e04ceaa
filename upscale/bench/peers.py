"""Public networks as ONNX files beside ours in one run: time, and on a clip with a known original quality."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale.bench import content, machine
from upscale.errors import BackendError
from upscale.model.weights import bundled, find_model
from upscale.system.cores import cores

if TYPE_CHECKING:
    import av

    from upscale.backends.base import Backend
    from upscale.backends.variants import Variant
    from upscale.model.weights import ModelFiles

_WARM_UP = 2
#: Frames of the clip that are upscaled in turn, so that no network sees one picture only.
_PICTURES = 4
#: Quality of libx264 that the halved clip is compressed with.
CRF = 23


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """What to compare.

    Attributes:
        folder: of the public networks, ``*.onnx``.
        models: ours, names or files; empty for all bundled ones.
        backend, precision: of ours. Where both are "auto": onnxruntime in fp32, as the others run, and int8
            in every backend that has it.
        clip: a sharp original, which is halved and compressed; without it there are no figures of quality.
        frames: of the clip, from its beginning.
        rounds: counted turns of every network.
        size: (width, height) of the input where there is no clip.
    """

    folder: Path
    models: tuple[str, ...] = ()
    backend: str = "auto"
    precision: str = "auto"
    clip: Path | None = None
    frames: int = 60
    rounds: int = 15
    size: tuple[int, int] = (640, 360)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """Figures of one network, with as many frames in flight as there are cores, one thread each.

    Attributes:
        runtime: and precision; "swscale" for lanczos.
        milliseconds: of wall-clock time per frame, the median of the rounds. Ours take and give code values,
            the others floats: what they need besides, and colour, is not counted.
        cpu_seconds: of the process per frame, median.
        times_ours: wall-clock time over that of the first network, which is ours: the median of the rounds'
            ratios.
        psnr, ssim, lpips: against the original, see `upscale.metrics.meter.Score`; None if not measured.
    """

    name: str
    runtime: str
    milliseconds: float
    cpu_seconds: float
    times_ours: float
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None


@dataclass(frozen=True, slots=True)
class _Contender:
    """Attributes:
    upscale: (H, W) luma and its largest code value → (2H, 2W); a `OnnxBaseline` of RGB also makes colour.
    run, inputs: what is timed, and what it is given in turn.
    """

    name: str
    runtime: str
    upscale: Any
    run: Callable[[Any], Any]
    inputs: Sequence[Any]


def compare_peers(
    config: PeerConfig,
    measures: Sequence[str] = (),
    on_turn: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Time every network in turn, round after round; then measure how near they come to the clip.

    Args:
        measures: of `upscale.metrics.meter.MEASURES`, taken where there is a clip.
        on_turn: told what runs now.

    Returns:
        Plain JSON: ``machine``, ``config`` and ``rows``, ours first.

    Raises:
        UsageError: no such files.
        ModelError: a file is damaged, or no ×2 network of luma or RGB.
        MediaError: the clip is no video.
    """
    with ExitStack() as stack:
        pictures = _pictures(config)
        contenders = _contenders(config, pictures, stack)
        on_turn("times")
        rows = _timed(contenders, config.rounds)
        if config.clip is not None and measures:
            rows = _scored(config, config.clip, contenders, rows, measures, on_turn)
    plain = asdict(config) | {"folder": str(config.folder), "clip": str(config.clip) if config.clip else None}
    return {
        "event": "peers",
        "machine": machine.describe(),
        "config": plain | {"crf": CRF},
        "rows": [asdict(row) for row in rows],
    }


def _pictures(config: PeerConfig) -> list[av.VideoFrame]:
    """Small frames, yuv420p: the clip's, or of the bench's own content."""
    if config.clip is None:
        return list(content.pictures(*config.size, _PICTURES))
    from upscale.metrics.clips import low_frames

    frames = low_frames(config.clip, crf=CRF, frames=config.frames)
    return frames[:: max(1, len(frames) // _PICTURES)][:_PICTURES]


def _contenders(config: PeerConfig, pictures: list[av.VideoFrame], stack: ExitStack) -> list[_Contender]:
    from upscale.media.pixels.planes import plane_view
    from upscale.metrics.clips import lanczos
    from upscale.metrics.methods import load_peers

    lumas = [plane_view(frame, 0) for frame in pictures]
    found = [_Contender(*title, backend, backend, lumas) for title, backend in _ours(config, stack)]
    if not found:
        raise BackendError("none of our networks can run here as asked")
    found.append(_Contender("lanczos", "swscale", lanczos, lanczos, lumas))
    peers = load_peers(config.folder, taken={c.name for c in found}, threads=1)
    for name, peer in peers.items():
        inputs = [peer.planes(frame, tagged=False) for frame in pictures]
        found.append(_Contender(name, "onnx fp32", peer, peer.network, inputs))
    return found


def _ours(config: PeerConfig, stack: ExitStack) -> Iterator[tuple[tuple[str, str], Backend]]:
    """((model, runtime and precision), backend) of each of ours that this machine can run."""
    from upscale.backends import load

    for name in config.models or tuple(bundled()):
        model = find_model(name)
        for variant in _variants(config, model):
            # Installed is not enough: the hardware may lack the precision.
            with suppress(BackendError):
                opened = load(variant.backend, model, precision=variant.precision, threads=cores())
                yield (model.name, str(variant)), stack.enter_context(opened)


def _variants(config: PeerConfig, model: ModelFiles) -> list[Variant]:
    from upscale.backends import available
    from upscale.backends.variants import candidates

    found = candidates(model, available(), backend=config.backend, precision=config.precision)
    if config.backend == config.precision == "auto":
        found = [v for v in found if (v.backend, v.precision) == ("onnx", "fp32") or v.precision == "int8"]
    return found


def _timed(contenders: Sequence[_Contender], rounds: int) -> list[PeerRow]:
    workers = cores()
    frames = max(_PICTURES, 2 * workers)
    taken: list[list[tuple[float, float]]] = [[] for _ in contenders]
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(_WARM_UP + rounds):
            for contender, times in zip(contenders, taken, strict=True):
                wall, cpu = time.perf_counter(), time.process_time()
                list(pool.map(contender.run, islice(cycle(contender.inputs), frames)))
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                times.append((wall / frames, cpu / frames))
    first = taken[0][_WARM_UP:]
    rows = []
    for contender, times in zip(contenders, taken, strict=True):
        counted = times[_WARM_UP:]
        ratio = statistics.median(t[0] / o[0] for t, o in zip(counted, first, strict=True))
        rows.append(
            PeerRow(
                name=contender.name,
                runtime=contender.runtime,
                milliseconds=1000 * statistics.median(t[0] for t in counted),
                cpu_seconds=statistics.median(t[1] for t in counted),
                times_ours=ratio,
            )
        )
    return rows


def _scored(
    config: PeerConfig,
    clip: Path,
    contenders: Sequence[_Contender],
    rows: Sequence[PeerRow],
    measures: Sequence[str],
    on_turn: Callable[[str], None],
) -> list[PeerRow]:
    from upscale.metrics.clips import score_clip
    from upscale.metrics.meter import Meter

    upscalers = {f"{c.name} ({c.runtime})": c.upscale for c in contenders}
    scores = score_clip(
        clip,
        upscalers,
        crfs=(CRF,),
        frames=config.frames,
        meter=Meter(measures),
        on_turn=lambda _clip, _crf, name: on_turn(name),
    )[CRF]
    return [
        replace(row, psnr=s.psnr, ssim=s.ssim, lpips=s.lpips)
        for row, s in zip(rows, scores.values(), strict=True)
    ]
