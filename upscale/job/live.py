"""Inputs that do not wait, and jobs that end when the user says so.

Between the decoder and the network is a `LiveFrameQueue`: a thread that reads as the data comes, and a
short queue. In real time, frames that the machine cannot process are dropped there, before they cost
anything. A job whose input is live runs in a thread of its own (`run_in_thread`), so that Ctrl-C reaches
the caller at once, whatever hangs, and the recording is finished properly.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from upscale.errors import Interrupted, UsageError
from upscale.job.parallel import in_thread
from upscale.media.input.address import check_options, parse

if TYPE_CHECKING:
    import av

    from upscale.events import Event, OnEvent, Result
    from upscale.media.input.source import Source
    from upscale.media.output.plan import Plan
    from upscale.options import Options

#: Decoded frames that wait for the network at most: what a hiccup of a third of a second needs at 25
#: frames/s. In real time this, and the frames in flight behind it, are all that a frame can be late.
WAITING_FRAMES = 8

#: What came while the job was opened and set up does not mean that the machine is slow: so many may wait
#: at first, and fewer and fewer in these seconds.
FIRST_FRAMES, FIRST_SECONDS = 32, 4.0

#: Packets of other streams that wait at most, about a minute and a half of sound: they are never dropped.
WAITING_PACKETS = 4096

#: After the end was asked for, seconds for a read from which nothing comes.
_LAST_READ = 1.0


class LiveJob:
    """What a job with a live input, or one in real time, does differently.

    Attributes:
        live: the input is a URL or a device: no segments, no second reading, Ctrl-C ends the recording.
        realtime: frames that the machine cannot process in time are dropped.
        stopped: the user asked for the end.
    """

    def __init__(self, input: str, options: Options) -> None:
        """
        Raises:
            UsageError: input options for a file, or unknown ones.
        """
        address = parse(input)
        self.live = address.live
        # Files and pipes wait for their reader: they are read at the pace at which they would be shown.
        self.realtime = not address.waits if options.realtime is None else options.realtime
        self._pace = self.realtime and address.waits
        self.stopped = False
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._queue: LiveFrameQueue | None = None
        check_options(options.input_options)
        if options.input_options and not address.live:
            raise UsageError("input options are for URLs and capture devices")

    @property
    def needs_queue(self) -> bool:
        """Whether a `LiveFrameQueue` is needed."""
        return self.live or self.realtime

    def opened(self, source: Source) -> None:
        """The input is open: from here on, stopping means to finish what there is.

        Raises:
            Interrupted: the user asked for the end meanwhile.
        """
        with self._lock:
            if self.stopped:
                raise Interrupted("stopped")
            self._source = source

    def check(self, source: Source, plan: Plan) -> None:
        """Refuse containers that cannot be read until their index is written.

        Raises:
            UsageError: such a container for an input without an end.
        """
        from upscale.media.output.formats import CONTAINERS

        fragments = "frag_keyframe" in plan.muxer_options.get("movflags", "")
        endless = self.live and source.info.duration is None
        if endless and not fragments and not CONTAINERS[plan.container].pipe:
            raise UsageError(
                f"a recording as {plan.container} is lost if anything stops it: "
                "write .mkv or .ts, or --container fmp4"
            )

    def queue(self, items: Iterable[av.VideoFrame | av.Packet]) -> LiveFrameQueue:
        """The queue for `items`, which iterates over the opened source."""
        assert self._source is not None
        queue = LiveFrameQueue(items, self._source.end, drop=self.realtime, pace=self._pace)
        with self._lock:
            self._queue = queue
            if self.stopped:
                queue.end()
        return queue

    @property
    def dropped(self) -> int:
        """Frames dropped so far."""
        return 0 if self._queue is None else self._queue.dropped

    def stop(self) -> bool:
        """End the input; from any thread. False if it was not open yet: then nothing will be written."""
        with self._lock:
            self.stopped = True
            if self._source is not None:
                self._source.end()
            if self._queue is not None:
                self._queue.end()
            return self._source is not None


class LiveFrameQueue:
    """Reads a source in a thread of its own into a short queue, and yields it in order.

    With `drop`, a frame that finds `limit` others waiting replaces the second oldest: the oldest is
    next in line and is shown during the time of the one that is dropped. Without, reading waits.
    Packets keep their place.

    Iterate it once, inside ``with``::

        new ──enter──> reading ──the source ends, fails──────────────> done: what waits still comes out
                          │ └─end()──> ending ──the read returns───────> done
                          │               └─nothing comes for 1 s──────> done, the thread is left behind
                          └── leave the block, in any state ──────────> closed: what waits is dropped

    Attributes:
        dropped: frames dropped so far.
        finished: after the block: the reading thread has ended. False means that it hangs in a read.
    """

    def __init__(
        self,
        source: Iterable[av.VideoFrame | av.Packet],
        end_source: Callable[[], None],
        *,
        drop: bool,
        pace: bool,
        limit: int = WAITING_FRAMES,
    ) -> None:
        """
        Args:
            source: read in the thread.
            end_source: makes the iteration over `source` end soon; called from any thread.
            drop: see the class.
            pace: no frame comes out earlier than its time after the first one.
            limit: frames that wait, at least 2.
        """
        self._source = source
        self._end_source = end_source
        self._drop, self._pace, self._limit = drop, pace, limit
        self._changed = threading.Condition()
        self._items: deque[Any] = deque()
        self._frames = 0
        self._begun = 0.0
        self._first: tuple[float, float] | None = None  # the moment and the time of the first frame
        self._reading_since: float | None = None
        self._ending: float | None = None
        self._done = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="upscale-live", daemon=True)
        self.dropped = 0
        self.finished = False

    def __enter__(self) -> LiveFrameQueue:
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            hangs = self._hangs()
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        self._end_source()
        self._thread.join(0.1 if hangs else _LAST_READ)
        self.finished = not self._thread.is_alive()

    def end(self) -> None:
        """Read no more than what is under way; what waits still comes out. From any thread."""
        self._end_source()
        with self._changed:
            self._ending = time.monotonic()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[av.VideoFrame | av.Packet]:
        while (item := self._take()) is not None:
            yield item
        if self._error is not None:
            raise self._error

    def _take(self) -> Any:
        with self._changed:
            while not self._items and not self._done and not self._closed and not self._hangs():
                self._changed.wait(None if self._ending is None else 0.1)
            if self._closed or not self._items:
                self._done = True  # what a read that hangs may yet return is not taken
                return None
            item = self._items.popleft()
            self._frames -= _is_frame(item)
            self._changed.notify_all()
            return item

    def _hangs(self) -> bool:
        """Whether the end was asked for and the last read does not return."""
        if self._ending is None or self._reading_since is None:
            return False
        return time.monotonic() - max(self._ending, self._reading_since) > _LAST_READ

    def _read(self) -> None:
        try:
            items = iter(self._source)
            while (item := self._next(items)) is not None and self._put(item):
                pass
        except BaseException as error:  # raised again in the consumer's thread
            self._error = error
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _next(self, items: Iterator[Any]) -> Any:
        self._reading_since = time.monotonic()
        item = next(items, None)
        self._reading_since = None
        return item

    def _put(self, item: Any) -> bool:
        frame = _is_frame(item)
        with self._changed:
            if frame and self._pace:
                self._wait_for_its_time(item)
            if frame and self._drop:
                while self._frames >= self._frame_limit():
                    self._drop_second()
            self._changed.wait_for(lambda: self._is_closed() or self._has_room(frame))
            if self._is_closed():
                return False
            self._items.append(item)
            self._frames += frame
            self._changed.notify_all()
        return True

    def _is_closed(self) -> bool:
        return self._closed or self._done

    def _has_room(self, frame: bool) -> bool:
        if frame:
            return self._frames < self._frame_limit()
        return len(self._items) - self._frames < WAITING_PACKETS

    def _frame_limit(self) -> int:
        """Frames that may wait now."""
        left = 1 - (time.monotonic() - self._begun) / FIRST_SECONDS
        if left <= 0 or self._pace:
            return self._limit
        return self._limit + round(left * max(0, FIRST_FRAMES - self._limit))

    def _wait_for_its_time(self, frame: av.VideoFrame) -> None:
        now, at = time.monotonic(), float((frame.pts or 0) * (frame.time_base or 0))
        if self._first is None:
            self._first = now, at
        due = self._first[0] + at - self._first[1]
        self._changed.wait_for(lambda: self._is_closed() or self._ending is not None, max(0.0, due - now))

    def _drop_second(self) -> None:
        """Drop the frame behind the first one, which is shown until the frame after it."""
        places = (n for n, item in enumerate(self._items) if _is_frame(item))
        head = self._items[next(places)]
        place = next(places)
        victim = self._items[place]
        head.duration = victim.pts + (victim.duration or 0) - head.pts
        del self._items[place]
        self._frames -= 1
        self.dropped += 1


def _is_frame(item: Any) -> bool:
    from av import VideoFrame

    return isinstance(item, VideoFrame)


def run_in_thread(job: Callable[[OnEvent], Result], stop: Callable[[], bool], on_event: OnEvent) -> Result:
    """Run a job in a thread; an interruption here stops its input and waits for the finished file.

    Args:
        job: takes a listener and returns the result.
        stop: ends the job's input; False if the job has nothing to finish.
        on_event: called in this thread.

    Raises:
        UpscaleError: of the job.
        KeyboardInterrupt: or what else was raised here, by a signal or by `on_event`; re-raised after the
            job has finished its file, and then with a note that says so (``__notes__``).
    """
    events: SimpleQueue[Event | None] = SimpleQueue()
    future = in_thread(lambda: job(events.put), "upscale-job")
    future.add_done_callback(lambda _: events.put(None))
    try:
        for event in iter(events.get, None):
            on_event(event)
    except BaseException as interruption:
        if not stop():
            raise
        future.add_done_callback(lambda _: events.put(None))  # the other one may have been taken just now
        for event in iter(events.get, None):
            with suppress(Exception):  # the first exception counts
                on_event(event)
        if (error := future.exception()) is not None:
            raise error from interruption
        interruption.add_note("the recording up to here is complete")
        raise
    return future.result()
