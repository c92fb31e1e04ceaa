"""One comparison: the same moments through every way of enlarging, as sheet, video and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.compare.crops import Crop, check_crop, choose_crops
from upscale.compare.moments import (
    Moment,
    check_reference,
    default_times,
    read_moment,
    read_pairs,
    video_info,
)
from upscale.compare.sheet import TILE, Row, make_sheet, save_png
from upscale.compare.video import video_format, write_video
from upscale.errors import ModelError, UsageError
from upscale.metrics.meter import COLUMNS, Meter, Reference, Score, available_measures, mean_score
from upscale.metrics.methods import Method, Picture, load_peers, picture_of
from upscale.options import RESAMPLERS, Options
from upscale.system.safe_file import check_output

if TYPE_CHECKING:
    import av

    from upscale.media.input.probe import VideoInfo
    from upscale.media.pixels.rgb import RGB
    from upscale.model.weights import ModelFiles

#: Title of the original's column.
ORIGINAL = "original"
#: Size of chosen crops: enlarged three times they fill a tile of the sheet.
_CROP = (TILE // 3, 80)
#: Size of the crop that the video shows, unless it is named.
_VIDEO_CROP = (320, 180)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to compare.

    Attributes:
        input: the small video.
        reference: its original; figures are measured only with it, and the result has its size.
        sheet: PNG file; None is ``INPUT_compare.png``.
        video: side-by-side video, or None.
        models: names or weights files; empty is every bundled one.
        peers: folder of other ONNX networks, or None.
        times: moments in seconds; empty is three, spread over the video.
        crops: regions of the result; empty chooses two for each moment.
        frames: consecutive frames that are measured from each moment on.
        seconds: length of the video, from the first named moment (or the beginning) on.
        target: as `Options.target`, without a reference.
        backend: runtime; None takes the first that the model has a file for.
    """

    input: str
    reference: str | None = None
    sheet: str | None = None
    video: str | None = None
    models: tuple[str, ...] = ()
    peers: str | None = None
    times: tuple[float, ...] = ()
    crops: tuple[Crop, ...] = ()
    frames: int = 24
    seconds: float = 10.0
    target: str | None = None
    backend: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was made.

    Attributes:
        size: (width, height) that everything was enlarged to.
        moments: seconds, as found in the video.
        crops: of each moment.
        figures: by method, over all moments; empty without a reference.
        notes: measures that are missing here, and how to get them.
    """

    input: str
    reference: str | None
    sheet: str
    video: str | None
    size: tuple[int, int]
    moments: list[float]
    crops: list[list[Crop]]
    video_frames: int = 0
    figures: dict[str, Score] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data; figures that were not measured, or are infinite, are left out."""
        plain = asdict(self)
        plain["figures"] = {name: _numbers(score) for name, score in self.figures.items()}
        return plain


#: Called with a line on what begins now.
OnStep = Callable[[str], None]


def compare(request: Request, on_step: OnStep = lambda text: None) -> Report:
    """Read, enlarge, measure and draw.

    Raises:
        UsageError: an output exists or is no PNG or video; sizes that do not fit; a moment or crop outside.
        MediaError: an input cannot be read, or the reference has no frames of the same times.
        ModelError, BackendError: a network cannot be used.
        OutputError: the sheet or video cannot be written.
    """
    sheet = request.sheet or str(Path(request.input).with_suffix("")) + "_compare.png"
    _check_outputs(request, sheet)
    info, duration = video_info(request.input)
    size = _size(request, info)
    for crop in request.crops:
        check_crop(crop, size)
    times = request.times or tuple(default_times(duration))
    usable, notes = available_measures() if request.reference else ([], [])
    with ExitStack() as stack:
        methods = _methods(request, info, size, stack)
        meter = Meter(usable)
        rows, scores, weights = [], [], []
        for time in times:
            on_step(f"the moment at {time:.2f} s")
            moment = read_moment(request.input, request.reference, time, request.frames if usable else 1)
            row, found = _moment(moment, methods, meter, request.crops)
            rows.append(row)
            scores.append(found)
            weights.append(len(moment.low_res))
        figures = {n: mean_score(n, [s[n] for s in scores], weights) for n in methods} if usable else {}
        drawn = make_sheet(rows, {name: _short(score) for name, score in figures.items()})
        save_png(sheet, drawn, overwrite=request.overwrite)
        shown = _video(request, methods, rows[0], on_step) if request.video else 0
    return Report(
        input=request.input,
        reference=request.reference,
        sheet=sheet,
        video=request.video,
        size=size,
        moments=[row.time for row in rows],
        crops=[row.crops for row in rows],
        video_frames=shown,
        figures=figures,
        notes=notes,
    )


def _check_outputs(request: Request, sheet: str) -> None:
    if not sheet.lower().endswith(".png"):
        raise UsageError("the sheet's name must end with .png", path=sheet)
    outputs = [sheet]
    if request.video is not None:
        video_format(request.video)
        outputs.append(request.video)
    for output in outputs:
        for source in (request.input, request.reference):
            if source is not None:
                check_output(source, output, request.overwrite)


def _size(request: Request, info: VideoInfo) -> tuple[int, int]:
    """The reference's size, or that of the named target."""
    from upscale.job.sizing import target_size

    if request.reference is None:
        return target_size(info, Options(target=request.target))
    if request.target is not None:
        raise UsageError("with --reference the result has its size: leave out --target")
    original, _ = video_info(request.reference)
    size = original.width, original.height
    check_reference(size, info, request.reference)
    return size


def _methods(request: Request, info: VideoInfo, size: tuple[int, int], stack: ExitStack) -> dict[str, Method]:
    """Bicubic, lanczos, the models and the peers, by name."""
    from upscale import backends
    from upscale.frame.upscaler import FrameUpscaler
    from upscale.model.weights import bundled, find_model

    methods = {name: _method(FrameUpscaler(None, size, name)) for name in reversed(RESAMPLERS)}
    for name in request.models or tuple(bundled()):
        if name in methods:
            continue
        files = find_model(name)
        title = files.name if files.name not in methods else name
        backend = stack.enter_context(backends.load(request.backend or _backend_for(files), files))
        methods[title] = _method(FrameUpscaler(backend, size))
    for name, peer in load_peers(Path(request.peers), taken=methods).items() if request.peers else ():
        in_colour = peer.channels == 3 and size == (2 * info.width, 2 * info.height)
        methods[name] = peer.rgb_picture if in_colour else _method(FrameUpscaler(peer, size))
    return methods


def _method(upscaler: Callable[[av.VideoFrame], av.VideoFrame]) -> Method:
    return lambda frame: picture_of(upscaler(frame))


def _backend_for(files: ModelFiles) -> str:
    for kind, backend in (("onnx", "onnx"), ("safetensors", "torch"), ("tflite", "tflite")):
        if files.path(kind) is not None:
            return backend
    raise ModelError("has no weights file that a runtime could load", path=files.name)


def _moment(
    moment: Moment, methods: dict[str, Method], meter: Meter, crops: tuple[Crop, ...]
) -> tuple[Row, dict[str, Score]]:
    """The sheet's rows of one moment, and with an original each method's figures."""
    first = {name: enlarge(moment.low_res[0]) for name, enlarge in methods.items()}
    lumas = [p.luma for p in first.values()]
    shown: dict[str, RGB] = {name: p.rgb() for name, p in first.items()}
    scores = {}
    if moment.references:
        references = [picture_of(f) for f in moment.references]
        shown[ORIGINAL] = references[0].rgb()
        with Reference(references, meter) as reference:
            for name, enlarge in methods.items():
                rest: Iterator[Picture] = map(enlarge, moment.low_res[1:])
                scores[name] = reference.score(name, chain([first[name]], rest))
        detail = references[0].luma
    else:
        detail = lumas[-1]
    return Row(moment.time, shown, list(crops) or choose_crops([*lumas, detail], _CROP)), scores


def _video(request: Request, methods: dict[str, Method], row: Row, on_step: OnStep) -> int:
    """Write the side-by-side video; its crop is the first named one, or chosen at the first moment."""
    assert request.video is not None
    grays = [p.mean(2, dtype=np.float32).astype(np.uint8) for p in row.pictures.values()]
    crop = request.crops[0] if request.crops else choose_crops(grays, _VIDEO_CROP, 1)[0]
    begin = request.times[0] if request.times else 0.0

    def moments() -> Iterator[tuple[float, dict[str, RGB]]]:
        for time, low, reference in read_pairs(request.input, request.reference, begin, request.seconds):
            on_step(f"video {time:.2f} s")
            pictures = {name: enlarge(low).rgb() for name, enlarge in methods.items()}
            if reference is not None:
                pictures[ORIGINAL] = picture_of(reference).rgb()
            yield time - begin, pictures

    return write_video(request.video, moments(), crop, overwrite=request.overwrite)


def _numbers(score: Score) -> dict[str, float]:
    known = {f: (getattr(score, f), d) for f, _, d in COLUMNS if getattr(score, f) is not None}
    return {f: round(value, digits + 1) for f, (value, digits) in known.items() if np.isfinite(value)}


def _short(score: Score) -> str:
    """The figures that fit under a column's title."""
    parts = [f"{score.psnr:.2f} dB" if score.psnr is not None else ""]
    parts += [f"SSIM {score.ssim:.3f}" if score.ssim is not None else ""]
    parts += [f"LPIPS {score.lpips:.3f}" if score.lpips is not None else ""]
    parts += [f"NEG {score.vmaf_neg:.1f}" if score.vmaf_neg is not None else ""]
    return "  ".join(p for p in parts if p)
