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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from upscale.job.parallel import OrderedMap

if TYPE_CHECKING:
    import av

    from upscale.job.live import LiveJob
    from upscale.job.prepare import Network

    Item = av.VideoFrame | av.Packet | Callable[[], None]

#: How much nicer than the others the network's threads are.
NICE_INCREMENT = 10

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class FrameSink(Protocol[R_co]):
    """Where the loop's results go; all calls come from one thread."""

    def frame(self, frame: av.VideoFrame) -> None: ...

    def finish(self) -> R_co: ...


@dataclass(slots=True, kw_only=True)
class RunStats:
    """What one run of a job did.

    Attributes:
        frames: handed to the sink.
        media_seconds: from the first frame's time to the end of the last one.
        seconds: wall-clock seconds from the first frame asked for to the end of `Loop.finish`.
        cpu_seconds: processor time of the process in that time.
        busy: seconds of work by stage, summed over its threads.
        reused: see `upscale.events.Result`.
    """

    frames: int = 0
    media_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    reused: float = 0.0


class Loop(Generic[R]):
    """Moves everything from a source to a sink.

    Attributes:
        stats: whole after `finish`.
    """

    def __init__(
        self,
        network: Network,
        sink: FrameSink[R],
        report: Callable[[int, float], None],
        live: LiveJob | None = None,
    ) -> None:
        """
        Args:
            network: its upscaler is called in `network.workers` threads.
            sink: gets the upscaled frames, and packets (``sink.packet``) if the source gives any, in the
                source's order.
            report: told (frames, seconds of video) so far after every frame.
            live: what is different with inputs that do not wait.
        """
        self._network = network
        self._sink: Any = sink
        self._report = report
        self._live = live
        self._lock = threading.Lock()
        self._begun, self._cpu_begun = time.perf_counter(), time.process_time()
        self.stats = RunStats(busy={"decode": 0.0, "network": 0.0, "encode": 0.0})

    def run(self, source: Iterable[Item], abandon: Callable[[], None]) -> None:
        """Move everything; the sink is not finished yet.

        Args:
            source: gives frames and packets; is iterated in a thread of its own. A function that it gives
                is called in its place between them, in this thread.
            abandon: called if that thread hangs in a read: what it uses must not be closed.
        """
        from av import VideoFrame

        self._begun, self._cpu_begun = time.perf_counter(), time.process_time()
        items: Any = self._timed(source)
        live, workers = self._live, self._network.workers
        queue = live.queue(items) if live is not None and live.needs_queue else None
        stages: OrderedMap[Any, Any] = OrderedMap(
            queue or items,
            self._upscale,
            workers=workers,
            # One more being decoded, one waiting, one in the encoder; what waits in real time is late.
            depth=workers + (1 if live is not None and live.realtime else 3),
            passes=lambda item: not isinstance(item, VideoFrame),
            prepare=lower_thread_priority,
        )
        try:
            with stages, queue or nullcontext():
                self._consume(stages)
        finally:
            if not stages.finished or (queue is not None and not queue.finished):
                abandon()

    def _consume(self, items: Iterable[Item]) -> None:
        from av import Packet, VideoFrame

        first: float | None = None
        for item in items:
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
                self.stats.frames += 1
                self.stats.media_seconds = end - first
                self._report(self.stats.frames, self.stats.media_seconds)
            self._add("encode", before)

    def finish(self) -> R:
        """Finish the sink; returns what it returns."""
        before = time.perf_counter()
        result: R = self._sink.finish()
        self._add("encode", before)
        self.stats.seconds = time.perf_counter() - self._begun
        self.stats.cpu_seconds = time.process_time() - self._cpu_begun
        self.stats.reused = self._network.upscaler.reused
        return result

    def _upscale(self, frame: av.VideoFrame) -> av.VideoFrame:
        before = time.perf_counter()
        result = self._network.upscaler(frame)
        self._add("network", before)
        return result

    def _timed(self, source: Iterable[Item]) -> Iterator[Item]:
        before = time.perf_counter()
        for item in source:
            self._add("decode", before)
            yield item
            before = time.perf_counter()

    def _add(self, stage: str, before: float) -> None:
        with self._lock:
            self.stats.busy[stage] += time.perf_counter() - before


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
