"""Scores of a model against true pictures: the literature's still sets, and compressed clips."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt

from upscale.backends.base import Luma
from upscale.errors import MediaError
from upscale.media.input.address import as_file
from upscale.media.input.open import open_input
from upscale.media.pixels.planes import gray_frame, plane_view, write_plane
from upscale.metrics.meter import Meter, Reference, Score
from upscale.metrics.methods import Method, OnnxBaseline, Picture, picture_of
from upscale.metrics.psnr_ssim import psnr, ssim

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

#: (H, W) luma and its largest code value → (2H, 2W) luma of the same type.
Upscaler = Callable[[Luma, int], Luma]
#: Called before each clip's turn of a method: clip, CRF, method.
OnTurn = Callable[[str, float, str], None]

#: Rec. 601 luma of 8-bit RGB, 16…235: what the literature's PSNR-Y is measured on.
_Y601 = np.array([65.481, 128.553, 24.966]) / 255
_PEAK16 = 65535


def score_set(folder: Path, upscale: Upscaler, border: int = 2) -> list[Score]:
    """Score pairs ``*_HR.png`` / ``*_LR.png`` (×2) as the literature does: luma, `border` left out.

    Luma of RGB is not a whole number, and the literature does not round it to eight bits, neither
    before nor after the network: here it has sixteen.

    Raises:
        MediaError: no such pairs.
    """
    scores = []
    for high in sorted(folder.glob("*_HR.png")):
        low = high.with_name(high.name.replace("_HR.", "_LR."))
        output = upscale(_picture_luma(low), _PEAK16)
        reference = _picture_luma(high)[: output.shape[0], : output.shape[1]]
        output = output[: reference.shape[0], : reference.shape[1]]
        how = {"border": border, "max_value": _PEAK16}
        scores.append(Score(high.name, psnr(reference, output, **how), ssim(reference, output, **how)))
    if not scores:
        raise MediaError("no pairs *_HR.png and *_LR.png", path=str(folder))
    return scores


def _picture_luma(path: Path) -> npt.NDArray[np.uint16]:
    with open_input(as_file(str(path)), stills=True) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return np.rint((16 + rgb @ _Y601) * (_PEAK16 / 255)).astype(np.uint16)


def score_clip(
    clip: Path,
    upscalers: dict[str, Upscaler],
    *,
    crfs: Sequence[float],
    frames: int = 60,
    meter: Meter | None = None,
    on_turn: OnTurn = lambda clip, crf, name: None,
) -> dict[float, dict[str, Score]]:
    """Halve a clip (swscale bicubic), compress it with libx264, upscale it, compare with the original.

    Pictures in colour are the upscaler's luma with the compressed clip's chroma enlarged by lanczos, as
    the pipeline writes them (an `OnnxBaseline` of RGB makes its own colour), as BT.601 whatever the
    clip's tags.

    Args:
        upscalers: by name; all see the same compressed frames. A `OnnxBaseline` of RGB gets RGB.
        crfs: qualities of libx264, each a run of its own.
        frames: from the beginning of the clip.
        meter: what to measure; PSNR and SSIM by default.

    Returns:
        By CRF, then by the upscaler's name.
    """
    references = [_as_yuv420(f) for f in islice(_decode(clip), frames)]
    scores: dict[float, dict[str, Score]] = {}
    with Reference([picture_of(f, tagged=False) for f in references], meter or Meter()) as reference:
        for crf in crfs:
            low_res = _compressed_halves(references, crf)
            scores[crf] = {}
            for name, upscale in upscalers.items():
                on_turn(clip.name, crf, name)
                enlarge = as_method(upscale)
                scores[crf][name] = replace(reference.score(name, map(enlarge, low_res)), name=clip.name)
    return scores


def score_clips(
    folder: Path,
    upscalers: dict[str, Upscaler],
    *,
    crfs: Sequence[float] = (23,),
    frames: int = 60,
    meter: Meter | None = None,
    on_turn: OnTurn = lambda clip, crf, name: None,
) -> dict[float, dict[str, list[Score]]]:
    """`score_clip` of every file in `folder`: by CRF, by name of the upscaler, in the files' order.

    Raises:
        MediaError: an empty folder, or a file that is no video.
    """
    scores: dict[float, dict[str, list[Score]]] = {crf: {name: [] for name in upscalers} for crf in crfs}
    clips = sorted(p for p in folder.iterdir() if p.is_file())
    if not clips:
        raise MediaError("an empty folder", path=str(folder))
    for clip in clips:
        try:
            found = score_clip(clip, upscalers, crfs=crfs, frames=frames, meter=meter, on_turn=on_turn)
        except (av.FFmpegError, IndexError) as e:
            raise MediaError("not a video that can be scored", path=str(clip)) from e
        for crf, by_name in found.items():
            for name, score in by_name.items():
                scores[crf][name].append(score)
    return scores


def low_frames(clip: Path, *, crf: float = 23, frames: int = 60) -> list[av.VideoFrame]:
    """What `score_clip` gives the upscalers: the beginning of the clip halved, compressed and decoded.

    Raises:
        MediaError: the clip cannot be read, or is no video.
    """
    try:
        return _compressed_halves([_as_yuv420(f) for f in islice(_decode(clip), frames)], crf)
    except (av.FFmpegError, IndexError) as e:
        raise MediaError("not a video that can be scored", path=str(clip)) from e


def as_method(upscaler: Upscaler) -> Method:
    """A luma upscaler as one of untagged frames: chroma by lanczos; an `OnnxBaseline` of RGB gets RGB."""
    from av.video.reformatter import VideoReformatter

    if isinstance(upscaler, OnnxBaseline) and upscaler.channels == 3:
        return lambda frame: upscaler.rgb_picture(frame, tagged=False)
    reformatter = VideoReformatter()

    def enlarge(frame: av.VideoFrame) -> Picture:
        luma = np.asarray(upscaler(plane_view(frame, 0), 255), np.uint8)
        return Picture(luma, lambda: picture_of(_with_luma(reformatter, frame, luma), tagged=False).rgb())

    return enlarge


def _with_luma(
    reformatter: VideoReformatter, frame: av.VideoFrame, luma: npt.NDArray[np.uint8]
) -> av.VideoFrame:
    big = reformatter.reformat(frame, luma.shape[1], luma.shape[0], interpolation="LANCZOS", threads=1)
    write_plane(big, 0, luma)
    return big


def lanczos(luma: Luma, max_value: int = 255) -> Luma:
    """The result of `ffmpeg -vf scale=…:flags=lanczos` for a luma plane of 8 or 16 bit: the baseline."""
    return _resampled(luma, max_value, "LANCZOS")


def bicubic(luma: Luma, max_value: int = 255) -> Luma:
    """The same with swscale's bicubic kernel."""
    return _resampled(luma, max_value, "BICUBIC")


def _resampled(luma: Luma, max_value: int, kernel: str) -> Luma:
    frame = gray_frame(luma, 8 if max_value == 255 else 16)
    big = frame.reformat(width=2 * luma.shape[1], height=2 * luma.shape[0], interpolation=kernel)
    return plane_view(big, 0).copy()


def _decode(clip: Path) -> Iterator[av.VideoFrame]:
    with open_input(as_file(str(clip))) as container:
        container.streams.video[0].thread_type = "AUTO"
        yield from container.decode(video=0)


def _as_yuv420(frame: av.VideoFrame) -> av.VideoFrame:
    """8-bit 4:2:0, cropped to sides that are multiples of 4."""
    width, height = frame.width // 4 * 4, frame.height // 4 * 4
    planar = frame.reformat(format="yuv420p")
    if (width, height) == (frame.width, frame.height):
        return planar
    return av.VideoFrame.from_ndarray(
        np.concatenate(
            [
                plane_view(planar, 0)[:height, :width].reshape(-1),
                plane_view(planar, 1)[: height // 2, : width // 2].reshape(-1),
                plane_view(planar, 2)[: height // 2, : width // 2].reshape(-1),
            ]
        ).reshape(height * 3 // 2, width),
        format="yuv420p",
    )


def _compressed_halves(frames: list[av.VideoFrame], crf: float) -> list[av.VideoFrame]:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = frames[0].width // 2, frames[0].height // 2, "yuv420p"
        for index, frame in enumerate(frames):
            small = frame.reformat(width=stream.width, height=stream.height, interpolation="BICUBIC")
            small.pts, small.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(small))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as back:
        return list(back.decode(video=0))
