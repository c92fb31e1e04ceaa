"""Enlarging in memory: arrays and frames instead of files, for notebooks, servers and plug-ins.

>>> import upscale
>>> with upscale.load("gan", strength=0.5) as enlarge:  # doctest: +SKIP
...     larger = enlarge(picture)
>>> for time, frame in upscale.frames("in.mp4"):  # doctest: +SKIP
...     print(time, frame.width, frame.height)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError
from upscale.job.parallel import OrderedMap
from upscale.options import Options
from upscale.system.closing import Closing

if TYPE_CHECKING:
    import av

    from upscale.backends.base import Backend
    from upscale.frame.upscaler import FrameUpscaler
    from upscale.model.weights import ModelFiles

A = TypeVar("A", npt.NDArray[np.uint8], npt.NDArray[np.uint16])
P = TypeVar("P")

#: Height and width for which `load` chooses the fastest runtime: what matters is their order of magnitude.
_USUAL = (360, 640)


class TimedFrame(NamedTuple):
    """Attributes:
    time: seconds since the beginning of the video, as the file says.
    frame: enlarged; planar YUV of the source's format.
    """

    time: float
    frame: av.VideoFrame


class Upscaler(Closing):
    """A loaded network: a callable and a context manager, made by `load`.

    May be called from several threads at once.

    Attributes:
        description: human-readable, e.g. "onnxruntime 1.31.1 cpu int8, 2 frames at a time, 1 thread each".
        precision: what it computes in, one of `upscale.backends.variants.PRECISIONS`.
        scale: factor on both sides, 2.
    """

    def __init__(self, backend: Backend, workers: int) -> None:
        """Use `load`. It closes `backend` when it is closed."""
        self._backend = backend
        self._workers = workers
        self._frames: dict[tuple[int, int], FrameUpscaler] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.description, self.precision, self.scale = backend.description, backend.precision, backend.scale

    @overload
    def __call__(self, picture: A, max_value: int | None = None) -> A: ...
    @overload
    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame: ...
    def __call__(self, picture: Any, max_value: int | None = None) -> Any:
        """Enlarge one picture to twice its width and height.

        Args:
            picture: one of
                - a luma plane, (H, W) uint8 or uint16 code values in 0…max_value; video's limited range
                  (16…235 of 255) is what the networks were trained on;
                - an RGB picture, (H, W, 3) uint8: its luma goes through the network, its colours are
                  resized with lanczos;
                - an `av.VideoFrame`: planar YUV or gray of 8 to 16 bits, rgb24 or bgr24; not written to.
            max_value: planes: the largest code value. None is 255 for uint8, 65535 for uint16.

        Returns:
            The same kind, twice as large, new memory: (2H, 2W), (2H, 2W, 3), or a frame of the same format
            with the same times, time base and colour tags.

        Raises:
            ValueError: no such picture.
            BackendError: the network failed, is int8 and the samples have more than 8 bits, or is closed.
        """
        if self._closed:
            raise BackendError("the upscaler is closed")
        if not isinstance(picture, np.ndarray):
            return self._frame(picture)
        if picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
            return self._rgb(picture)
        if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16) or 0 in picture.shape:
            raise ValueError(
                "a picture must be (H, W) uint8 or uint16, (H, W, 3) uint8 or an av.VideoFrame, "
                f"not {picture.shape} {picture.dtype}"
            )
        return self._backend(picture, max_value or int(np.iinfo(picture.dtype).max))

    def map(self, pictures: Iterable[P]) -> Iterator[P]:
        """Enlarge many pictures, several at once; results come in order, as they are finished.

        Args:
            pictures: of any of the kinds that a call takes, also of several sizes: a list, a generator, a
                batch (N, H, W) or (N, H, W, 3). It is read in a thread of its own, a few pictures ahead.

        Raises:
            As a call, at the picture's place in the order.
        """
        call: Any = self
        with OrderedMap(pictures, call, workers=self._workers, depth=self._workers + 2) as results:
            yield from cast("Iterator[P]", results)

    def close(self) -> None:
        self._closed = True
        self._backend.close()

    def _frame(self, frame: av.VideoFrame) -> av.VideoFrame:
        kind = frame.format
        if kind.name in ("rgb24", "bgr24"):
            from av import VideoFrame

            pixels: Any = frame.to_ndarray()
            # The order of the channels matters for their luma.
            turned = slice(None, None, 1 if kind.name == "rgb24" else -1)
            larger = self._rgb(np.ascontiguousarray(pixels[..., turned]))
            out = VideoFrame.from_ndarray(np.ascontiguousarray(larger[..., turned]), kind.name)
            out.pts, out.duration = frame.pts, frame.duration
            if frame.time_base:
                out.time_base = frame.time_base
            out.color_range, out.colorspace = frame.color_range, frame.colorspace
            return out
        planes = len(frame.planes)
        if kind.is_rgb or planes != len(kind.components) or planes not in (1, 3) or kind.name.endswith("be"):
            raise ValueError(f"frames of format {kind.name} are not taken: reformat them to yuv420p or rgb24")
        return self._for_size(2 * frame.width, 2 * frame.height)(frame)

    def _for_size(self, width: int, height: int) -> FrameUpscaler:
        from upscale.frame.upscaler import FrameUpscaler

        with self._lock:
            if (width, height) not in self._frames:
                self._frames = {(width, height): FrameUpscaler(self._backend, (width, height))}
            return self._frames[width, height]

    def _rgb(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Colours by lanczos; what the network's luma differs from theirs by is added to all three."""
        from av import VideoFrame
        from av.video.reformatter import VideoReformatter

        from upscale.media.pixels.rgb import to_luma

        if 0 in pixels.shape:
            raise ValueError(f"an empty picture: {pixels.shape}")
        height, width, _ = pixels.shape
        source = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
        resized = VideoReformatter().reformat(
            source, 2 * width, 2 * height, interpolation="LANCZOS", threads=1
        )
        larger = resized.to_ndarray().astype(np.float32)
        luma = self._backend(to_luma(pixels * np.float32(1 / 255)))
        now = 16 + np.float32(219 / 255) * (larger @ np.array([0.299, 0.587, 0.114], np.float32))
        larger += ((luma - now) * np.float32(255 / 219))[:, :, None]
        return np.clip(np.rint(larger), 0, 255).astype(np.uint8)


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    strength: float | None = None,
    backend: str = "auto",
    precision: str = "auto",
    device: str | None = None,
    threads: int | None = None,
    bits: int = 8,
) -> Upscaler:
    """Load a network to call it with arrays and frames.

    Args:
        model: a bundled model's name or a weights file; None is the default model.
        strength: 0…1, from the fidelity model to the GAN model of a pair; None is the model itself.
        backend: one of `upscale.available()`, or "auto": the fastest here, which the first call on a machine
            finds out in about a second and remembers.
        precision: one of `upscale.backends.variants.PRECISIONS`, or "auto": the fastest that is near enough
            to fp32.
        device: "cpu", "cuda", "mps", …; None is the backend's own choice.
        threads: of the runtime; None is all cores.
        bits: of the samples that will come; with more than 8 no integers are used.

    Raises:
        UsageError: no such model, backend or precision.
        ModelError: the model is damaged.
        BackendError: no installed backend runs it.
    """
    from upscale.model.weights import find_model

    found = find_model(None if model is None else os.fspath(model), strength)
    options = Options(backend=backend, precision=precision, device=device, threads=threads)
    return _load(found, options, _USUAL, bits)


def frames(path: str | os.PathLike[str], options: Options | None = None) -> Iterator[TimedFrame]:
    """Enlarge a video frame by frame, without writing a file.

    Frames come in display order, deinterlaced and of constant size, as `upscale.upscale_file` would encode
    them; decoding and the network run a few frames ahead in threads of their own, which end when the
    iterator is closed.

    Args:
        path: as the input of `upscale.upscale_file`.
        options: those that concern reading, size, model and runtime.

    Raises:
        UsageError, MediaError, ModelError, BackendError: as `upscale.upscale_file`, when the first frame is
            asked for, or where the input turns out to be damaged.
    """
    from av import VideoFormat, VideoFrame

    from upscale.frame.upscaler import FrameUpscaler
    from upscale.job.prepare import find_model, open_source
    from upscale.job.sizing import target_size
    from upscale.media.pixels.planes import bit_depth

    options = replace(options or Options(), audio=False, subtitles=False)
    with ExitStack() as stack:
        source = open_source(os.fspath(path), options)
        stack.callback(source.close)
        video, model = source.info_video, find_model(options)
        size = target_size(video, options)
        workers = 1
        if isinstance(model, str):
            upscaler = FrameUpscaler(None, size, model)
        else:
            bits = bit_depth(VideoFormat(source.frame_format))
            loaded = stack.enter_context(_load(model, options, (video.height, video.width), bits))
            workers = loaded._workers
            upscaler = FrameUpscaler(loaded._backend, size, reuse=model.config if options.reuse else None)
        pictures = (item for item in source if isinstance(item, VideoFrame))
        stages = OrderedMap(pictures, upscaler, workers=workers, depth=workers + 2)
        try:
            with stages:
                for frame in stages:
                    yield TimedFrame(float(frame.time or 0), frame)
        finally:
            if not stages.finished:
                source.abandon()


def _load(model: ModelFiles, options: Options, size: tuple[int, int], bits: int) -> Upscaler:
    from upscale import backends
    from upscale.backends import auto
    from upscale.system.cores import plan_threads

    chosen, _ = auto.choose(
        model, *size, backend=options.backend, precision=options.precision, bits=bits,
        device=options.device, threads=options.threads,
    )  # fmt: skip
    backend = backends.load(
        chosen.backend, model, precision=chosen.precision, device=chosen.device, threads=options.threads
    )
    return Upscaler(backend, plan_threads(options.threads).workers)
