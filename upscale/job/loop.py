"""The streaming loop: decode → network → encode, everything else passes by.

Three stages overlap. A thread reads and decodes, as many threads as the network can use upscale
one frame each, and the calling thread encodes and writes, so that Ctrl-C reaches it. What is in
flight is bounded, so memory does not depend on the length of the video.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from upscale.job.parallel import OrderedMap

if TYPE_CHECKING:
    import av

    from upscale.job.live import LiveJob

    Item = av.VideoFrame | av.Packet | Callable[[], None]

#: How much nicer than the others the network's threads are.
NICE_INCREMENT = 10

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class FrameSink(Protocol[R_co]):
    """Where the loop's results go; all calls come from one thread."""

    def frame(self, frame: av.VideoFrame) -> None: ...

    def packet(self, packet: av.Packet) -> None: ...

    def finish(self) -> R_co: ...


class Loop(Generic[R]):
    """Moves everything from a source to a sink.

    Attributes:
        frames: frames handed to the sink.
        media_seconds: from the first frame's time to the end of the last one.
        seconds: wall-clock seconds from the first frame asked for to the end of `finish`.
        cpu_seconds: processor time of the process in that time.
        busy: seconds of work by stage, summed over its threads.
        hangs: the reading thread could not be stopped.
    """

    def __init__(
        self,
        source: Iterable[Item],
        upscaler: Callable[[av.VideoFrame], av.VideoFrame],
        sink: FrameSink[R],
        report: Callable[[int, float], None],
        workers: int,
        live: LiveJob | None = None,
    ) -> None:
        """
        Args:
            source: gives frames and packets; is iterated in a thread of its own. A function that it gives
                is called in its place between them, in the thread that calls `run`.
            upscaler: called in `workers` threads.
            sink: gets the upscaled frames and the packets, in the source's order.
            report: told (frames, seconds of video) so far after every frame.
            workers: frames that are upscaled at once.
            live: what is different with inputs that do not wait.
        """
        self._source = source
        self._upscaler = upscaler
        self._sink = sink
        self._report = report
        self._workers = workers
        self._live = live
        self._lock = threading.Lock()
        self.frames = 0
        self.media_seconds = 0.0
        self.seconds = 0.0
        self._begun, self.cpu_seconds = time.perf_counter(), -time.process_time()
        self.busy = {"decode": 0.0, "network": 0.0, "encode": 0.0}
        self.hangs = False

    def run(self) -> None:
        """Move everything; the sink is not finished yet."""
        from av import Packet, VideoFrame

        self._begun, self.cpu_seconds = time.perf_counter(), -time.process_time()
        first: float | None = None
        items: Any = self._timed_source()
        live = self._live
        gate = live.gate(items) if live is not None and live.gated else None
        stages: OrderedMap[Any, Any] = OrderedMap(
            gate or items,
            self._upscale,
            workers=self._workers,
            # One more being decoded, one waiting, one in the encoder; what waits in real time is late.
            depth=self._workers + (1 if live is not None and live.realtime else 3),
            passes=lambda item: not isinstance(item, VideoFrame),
            prepare=lower_thread_priority,
        )
        try:
            with stages, gate or nullcontext():
                for item in stages:
                    before = time.perf_counter()
                    if isinstance(item, Packet):
                        self._sink.packet(item)
                    elif not isinstance(item, VideoFrame):
                        item()
                    else:
                        # Taken before: the sink may change the frame's time base.
                        start = _seconds(item.pts, item.time_base)
                        end = _seconds((item.pts or 0) + (item.duration or 0), item.time_base)
                        first = start if first is None else first
                        self._sink.frame(item)
                        self.frames += 1
                        self.media_seconds = end - first
                        self._report(self.frames, self.media_seconds)
                    self._add("encode", before)
        finally:
            self.hangs = not stages.finished or (gate is not None and not gate.finished)

    def finish(self) -> R:
        """Finish the sink; gives what it gives."""
        before = time.perf_counter()
        report = self._sink.finish()
        self._add("encode", before)
        self.seconds = time.perf_counter() - self._begun
        self.cpu_seconds += time.process_time()
        return report

    def _upscale(self, frame: av.VideoFrame) -> av.VideoFrame:
        before = time.perf_counter()
        result = self._upscaler(frame)
        self._add("network", before)
        return result

    def _timed_source(self) -> Iterator[Item]:
        before = time.perf_counter()
        for item in self._source:
            self._add("decode", before)
            yield item
            before = time.perf_counter()

    def _add(self, stage: str, before: float) -> None:
        with self._lock:
            self.busy[stage] += time.perf_counter() - before


def lower_thread_priority() -> None:
    """Let the encoder's threads go before the calling thread where both want a core.

    Each frame of an encoder waits for the one before it, so what delays one of its threads delays all. The
    network loses nothing by it: it works ahead of the encoder, in the time that the encoder leaves.
    """
    # Elsewhere threads have no niceness of their own.
    if sys.platform.startswith(("linux", "android")):
        with suppress(OSError):
            thread = threading.get_native_id()
            nice = min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE_INCREMENT)
            os.setpriority(os.PRIO_PROCESS, thread, nice)


def _seconds(ticks: int | None, time_base: Any) -> float:
    return float((ticks or 0) * time_base) if time_base else 0.0
