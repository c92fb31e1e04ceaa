"""Each stage of the pipeline alone. Run in a process of its own: ``python -m upscale.bench.stages``.

A process of its own keeps one runtime's threads and memory out of another's figures.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

from av import VideoFrame
from av.video.frame import PictureType

#: Frames that are upscaled before and while measuring the network.
_WARM_UP, _FRAMES = 4, 24
#: Upscaled frames that are held for measuring the encoder: 1.4 MB each at 1280×720.
_HELD = 60


def decode_fps(clip: str, runs: int) -> float:
    """Median frames per second of reading and decoding `clip`."""
    from upscale.media.input.source import Source

    def once() -> float:
        begun = time.perf_counter()
        with Source(clip) as source:
            frames = sum(isinstance(item, VideoFrame) for item in source)
        return frames / (time.perf_counter() - begun)

    return _median(once, runs)


def encode_fps(clip: str, size: tuple[int, int], runs: int) -> float:
    """Median frames per second of the default encoder and muxer on frames that are ready."""
    from upscale.frame.upscaler import FrameUpscaler
    from upscale.media.input.source import Source
    from upscale.media.output.plan import make_plan
    from upscale.media.output.sink import Sink
    from upscale.options import Options

    upscaler = FrameUpscaler(None, size)
    options = Options(overwrite=True)

    def once() -> float:
        with TemporaryDirectory() as folder, Source(clip) as source:
            output = str(Path(folder) / "out.mp4")
            plan = make_plan(source.info, output, options, size, source.frame_format)
            frames = []
            for item in source:
                if isinstance(item, VideoFrame):
                    frames.append(upscaler(item))
                if len(frames) == _HELD:
                    break
            begun = time.perf_counter()
            with Sink(source, output, plan, options) as sink:
                for frame in frames:
                    sink.frame(frame)
                sink.finish()
                return len(frames) / (time.perf_counter() - begun)

    return _median(once, runs)


def floor_fps(clip: str, size: tuple[int, int], runs: int) -> float:
    """Median frames per second of decoder, swscale's lanczos and the default encoder in three plain threads.

    Nothing but these works, so no job with the same encoder can be much faster.
    """
    import av

    from upscale.media.input.source import Source
    from upscale.media.output.plan import make_plan
    from upscale.options import Options

    with Source(clip) as source:
        choice = make_plan(source.info, "out.mp4", Options(), size, source.frame_format).encoder

    def once() -> float:
        decoded: Queue[VideoFrame | None] = Queue(4)
        scaled: Queue[VideoFrame | None] = Queue(4)
        begun = time.perf_counter()
        with ThreadPoolExecutor(2) as pool, TemporaryDirectory() as folder:
            stages = [pool.submit(_decode, clip, decoded), pool.submit(_scale, decoded, scaled, size)]
            with av.open(str(Path(folder) / "out.mp4"), "w") as out:
                stream: Any = out.add_stream(choice.codec, rate=choice.rate, options=choice.options)
                stream.width, stream.height, stream.pix_fmt = *size, choice.pix_fmt
                stream.codec_context.thread_type = "AUTO"
                frames = 0
                while (frame := scaled.get()) is not None:
                    frame.pict_type = PictureType.NONE
                    out.mux(stream.encode(frame))
                    frames += 1
                out.mux(stream.encode(None))
            for stage in stages:
                stage.result()
        return frames / (time.perf_counter() - begun)

    return _median(once, runs)


def _decode(clip: str, decoded: Queue[VideoFrame | None]) -> None:
    import av

    try:
        with av.open(clip) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                decoded.put(frame)
    finally:
        decoded.put(None)


def _scale(
    decoded: Queue[VideoFrame | None], scaled: Queue[VideoFrame | None], size: tuple[int, int]
) -> None:
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    try:
        while (frame := decoded.get()) is not None:
            scaled.put(reformatter.reformat(frame, *size, interpolation="LANCZOS", threads=1))
    finally:
        scaled.put(None)


def network_fps(
    clip: str, model_name: str | None, backend_name: str, precision: str, threads: int, runs: int
) -> tuple[float, float, str]:
    """Frames per second with all threads busy, milliseconds for one frame on its own (both medians), and the
    precision that was chosen."""
    from upscale.backends import load
    from upscale.backends.auto import choose
    from upscale.media.input.source import Source
    from upscale.media.pixels.planes import plane_view
    from upscale.model.weights import find_model
    from upscale.system.cores import plan_threads

    with Source(clip) as source:
        frame = next(item for item in source if isinstance(item, VideoFrame))
    luma = plane_view(frame, 0)
    workers = plan_threads(threads).workers
    model = find_model(model_name)
    found, _ = choose(model, *luma.shape, backend=backend_name, precision=precision, threads=threads)
    with (
        load(backend_name, model, precision=found.precision, device=found.device, threads=threads) as backend,
        ThreadPoolExecutor(workers) as pool,
    ):

        def many() -> float:
            begun = time.perf_counter()
            list(pool.map(lambda _: backend(luma), range(_FRAMES)))
            return _FRAMES / (time.perf_counter() - begun)

        def one() -> float:
            begun = time.perf_counter()
            backend(luma)
            return 1000 * (time.perf_counter() - begun)

        list(pool.map(lambda _: backend(luma), range(_WARM_UP)))
        return _median(many, runs), _median(one, 5 * runs), backend.precision


def _median(once: Callable[[], float], runs: int) -> float:
    """Median of `runs` after one that is not counted."""
    once()
    return statistics.median(once() for _ in range(runs))


_STAGES: dict[str, Callable[..., object]] = {
    "decode": decode_fps,
    "encode": encode_fps,
    "floor": floor_fps,
    "network": network_fps,
}


def main() -> None:
    """``stages NAME ARGUMENTS-AS-JSON``; prints the result as JSON."""
    name, given = sys.argv[1:]
    arguments = [tuple(a) if isinstance(a, list) else a for a in json.loads(given)]
    sys.stdout.write(json.dumps(_STAGES[name](*arguments)) + "\n")


if __name__ == "__main__":
    main()
