"""Stopping a job gracefully: nothing more is read, and what was read is finished.

A signal handler must not raise into work that can end well by itself. It calls `request` first,
and raises only if no job takes stop requests.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from upscale.errors import Interrupted, UpscaleError


class StopRequest:
    """Whether a job shall end early, and why. Set from any thread or a signal handler, once.

    Attributes:
        reason: what the job raises when it has ended; None while it may continue.
    """

    def __init__(self) -> None:
        self.reason: UpscaleError | None = None

    def request(self, reason: UpscaleError) -> None:
        """Ask for the end; later reasons are ignored."""
        self.reason = self.reason or reason


_targets: list[StopRequest] = []


@contextmanager
def stop_requests_to(stop_request: StopRequest) -> Iterator[StopRequest]:
    """While the block runs, `request` reaches `stop_request`."""
    _targets.append(stop_request)
    try:
        yield stop_request
    finally:
        _targets.remove(stop_request)


def request(number: int) -> bool:
    """Ask all jobs that take stop requests to end because of a signal; False if there are none."""
    for stop_request in _targets:
        stop_request.request(Interrupted("stopped", signal=number))
    return bool(_targets)


@contextmanager
def signals_held(*numbers: int) -> Iterator[None]:
    """Block signals; threads and processes that are started meanwhile keep them blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it would let signals through when it is started later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
