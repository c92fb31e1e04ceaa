"""Scores of a model against true pictures: the literature's still sets, and compressed clips."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from upscale.backends.base import Luma
from upscale.errors import MediaError
from upscale.planes import gray_frame, plane_view
from upscale.quality import psnr, ssim

#: (H, W) luma and its largest code value → (2H, 2W) luma of the same type.
Upscaler = Callable[[Luma, int], Luma]

#: Rec. 601 luma of 8-bit RGB, 16…235: what the literature's PSNR-Y is measured on.
_Y601 = np.array([65.481, 128.553, 24.966]) / 255
_PEAK16 = 65535


@dataclass(frozen=True, slots=True)
class Score:
    """Mean PSNR (dB) and SSIM of one picture or clip, on luma."""

    name: str
    psnr: float
    ssim: float


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
        truth = _picture_luma(high)[: output.shape[0], : output.shape[1]]
        output = output[: truth.shape[0], : truth.shape[1]]
        how = {"border": border, "max_value": _PEAK16}
        scores.append(Score(high.name, psnr(truth, output, **how), ssim(truth, output, **how)))
    if not scores:
        raise MediaError("no pairs *_HR.png and *_LR.png", path=str(folder))
    return scores


def _picture_luma(path: Path) -> npt.NDArray[np.uint16]:
    with av.open(f"file:{path}") as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return np.rint((16 + rgb @ _Y601) * (_PEAK16 / 255)).astype(np.uint16)


def score_clip(
    clip: Path, upscalers: dict[str, Upscaler], *, crf: float = 23, frames: int = 60
) -> dict[str, Score]:
    """Halve a clip (swscale bicubic), compress it with libx264, upscale it, compare with the original.

    Args:
        upscalers: by name; all see the same compressed frames.
        frames: from the beginning of the clip.
    """
    truths = [_as_yuv420(f) for f in islice(_decode(clip), frames)]
    sums = {name: np.zeros(2) for name in upscalers}
    for truth, low in zip(truths, _compressed_halves(truths, crf), strict=True):
        reference, luma = _luma(truth), _luma(low)
        for name, upscale in upscalers.items():
            output = upscale(luma, 255)
            sums[name] += psnr(reference, output), ssim(reference, output)
    return {n: Score(clip.name, *(float(v) for v in s / len(truths))) for n, s in sums.items()}


def score_clips(
    folder: Path, upscalers: dict[str, Upscaler], *, crf: float = 23, frames: int = 60
) -> dict[str, list[Score]]:
    """`score_clip` of every file in `folder`, by name of the upscaler, in the files' order.

    Raises:
        MediaError: an empty folder, or a file that is no video.
    """
    scores: dict[str, list[Score]] = {name: [] for name in upscalers}
    clips = sorted(p for p in folder.iterdir() if p.is_file())
    if not clips:
        raise MediaError("an empty folder", path=str(folder))
    for clip in clips:
        try:
            of_clip = score_clip(clip, upscalers, crf=crf, frames=frames)
        except (av.FFmpegError, IndexError) as e:
            raise MediaError("not a video that can be scored", path=str(clip)) from e
        for name, score in of_clip.items():
            scores[name].append(score)
    return scores


def lanczos(luma: Luma, max_value: int = 255) -> Luma:
    """What `ffmpeg -vf scale=…:flags=lanczos` makes of a luma plane of 8 or 16 bit: the baseline."""
    frame = gray_frame(luma, 8 if max_value == 255 else 16)
    big = frame.reformat(width=2 * luma.shape[1], height=2 * luma.shape[0], interpolation="LANCZOS")
    return plane_view(big, 0).copy()


def _decode(clip: Path) -> Iterator[av.VideoFrame]:
    with av.open(f"file:{clip}") as container:
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


def _luma(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(plane_view(frame, 0), dtype=np.uint8)


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
