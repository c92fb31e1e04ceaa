"""Threads for the pipeline: a parallel map that keeps order and bounds what is in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: How long `close` waits for a producer that hangs in a read that nothing can interrupt.
_PRODUCER_GRACE = 2.0


def in_thread(function: Callable[[], R], name: str) -> Future[R]:
    """Call `function` in a daemon thread of its own, which does not keep the process alive.

    Waiting for the result can be interrupted by a signal, whatever the function hangs in; the thread is
    left to itself then.
    """
    future: Future[R] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=call, name=name, daemon=True).start()
    return future


def interruptible(function: Callable[[], R]) -> R:
    """The result of `function`, called in a thread so that a signal gets through while it blocks."""
    return in_thread(function, "upscale-open").result()


class OrderedMap(Generic[T, R]):
    """Iterate `source` in a thread, apply `work` in others, and yield results in source order.

    Items for which `passes` is true are yielded as they are, in their place between the results::

        source's thread                worker threads           consumer's thread
        next(source) ── slot ───────────> work(item) ──┐
             │                                         ├─ queue, in source order ──> yield, free the slot
             └── passes(item) ── passing slot ─────────┘

    At most `depth` worked items exist at once between the source and the consumer, and at most
    `passing_depth` passed ones, so memory does not grow with the length of the source. Each working thread
    calls `prepare` first.

    Iterate it once, inside ``with``::

        new ──enter──> running ──source ends or fails──> draining ──last item yielded──> exhausted
                          │                                 │                                │
                          └──────── leave the block ────────┴────────────────────────────────┘
                                          │
                   no new item is begun, those in work are waited for
                                          ├── the source's thread has ended ──> closed, `finished`
                                          └── it hangs in a read ─────────────> closed, not `finished`

    An exception of the source or of `work` is raised to the consumer at its place in the order.

    Attributes:
        finished: after the block: the source's thread has ended. False means that it hangs in a
            read (a pipe on which nothing arrives), so what it uses must not be closed.
    """

    def __init__(
        self,
        source: Iterable[T],
        work: Callable[[T], R],
        *,
        workers: int,
        depth: int,
        passes: Callable[[T], bool] = lambda item: False,
        passing_depth: int = 256,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        if workers < 1 or depth < 1 or passing_depth < 1:
            raise ValueError("workers, depth and passing_depth must be at least 1")
        self._source = source
        self._work = work
        self._passes = passes
        self._slots = threading.Semaphore(depth)
        self._passing_slots = threading.Semaphore(passing_depth)
        self._queue: SimpleQueue[Future[R] | _Passed[T] | None] = SimpleQueue()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="upscale-work", initializer=prepare)
        # A daemon: a read from a dead pipe must not keep the process alive.
        self._producer = threading.Thread(target=self._produce, name="upscale-read", daemon=True)
        self.finished = False

    def __enter__(self) -> OrderedMap[T, R]:
        self._producer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all threads; see the class."""
        self._stop.set()
        self._slots.release()
        self._passing_slots.release()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._producer.join(_PRODUCER_GRACE)
        self.finished = not self._producer.is_alive()

    def __iter__(self) -> Iterator[T | R]:
        while (entry := self._queue.get()) is not None:
            if isinstance(entry, _Passed):
                self._passing_slots.release()
                yield entry.item
            else:
                result = entry.result()
                del entry  # it holds the result: let the consumer decide how long that lives
                yield result
                del result
                self._slots.release()

    def _produce(self) -> None:
        try:
            for item in self._source:
                if not self._hand_over(item):
                    return
        except BaseException as error:  # raised again in the consumer's thread
            failure: Future[R] = Future()
            failure.set_exception(error)
            self._queue.put(failure)
        self._queue.put(None)

    def _hand_over(self, item: T) -> bool:
        passed = self._passes(item)
        (self._passing_slots if passed else self._slots).acquire()
        if self._stop.is_set():
            return False
        if passed:
            self._queue.put(_Passed(item))
        else:
            with suppress(RuntimeError):  # the pool was shut down meanwhile: the next turn stops
                self._queue.put(self._pool.submit(self._work, item))
        return True


class _Passed(Generic[T]):
    """Marks an item that no worker touches."""

    __slots__ = ("item",)

    def __init__(self, item: T) -> None:
        self.item = item
