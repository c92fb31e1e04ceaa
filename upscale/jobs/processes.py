"""Several files at once on this machine, each in a process of its own.

PyAV and the runtimes would run in threads as well, but a process that dies of one file (a crash of a
decoder, no memory left) takes no other file with it. The processes stay for further files. They ignore
Ctrl-C: the terminal sends it to all, and only the parent decides what it means.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue

from upscale.errors import Interrupted
from upscale.events import Event, Failed, OnEvent
from upscale.job import stopping
from upscale.jobs.resume.local import Outcome, Task, attempt
from upscale.jobs.resume.segments import KEPT
from upscale.options import Options
from upscale.system.cores import cores

#: Seconds that a process whose parent is gone has to remove what is unfinished.
_ORPHAN_GRACE = 2.0
_HELD = (signal.SIGINT, signal.SIGTERM)
#: Asks a process to stop as after Ctrl-C.
_STOP = "stop"


def run_processes(
    tasks: Iterator[Task], count: int, options: Options, on_event: OnEvent
) -> Iterator[Outcome]:
    """Work on up to `count` tasks at once; yields what became of each, as they end.

    Args:
        tasks: read in this thread, one whenever a process is free.
        options: `threads` (None: all cores) are divided between the processes.
        on_event: gets the events of all files, in this thread.

    Raises:
        KeyboardInterrupt, or what else a signal raises here: handed on after every process has
            stopped as a single job does.
    """
    total = options.threads if options.threads is not None else cores()
    pool = _Pool(replace(options, jobs=1, threads=max(1, total // count)), on_event)
    try:
        for task in tasks:
            if pool.busy == count:
                yield pool.wait()
            pool.give(task)
        while pool.busy:
            yield pool.wait()
    except BaseException as error:
        if pool.stop():
            error.add_note(KEPT)
        raise
    finally:
        pool.close()


class _Pool:
    """Processes, started as they are needed."""

    def __init__(self, options: Options, on_event: OnEvent) -> None:
        self._options = options
        self._on_event = on_event
        self._children: list[_Child] = []

    @property
    def busy(self) -> int:
        """Tasks that are being worked on."""
        return sum(child.task is not None for child in self._children)

    def give(self, task: Task) -> None:
        """Hand a task to an idle process, or to a new one."""
        child = next((c for c in self._children if c.task is None), None)
        if child is None:
            child = _Child(self._options)
            self._children.append(child)
        child.begin(task)

    def wait(self) -> Outcome:
        """Pass events on until one task has ended."""
        while True:
            child, message = self._receive()
            match message:
                case None:
                    reason = child.reap()
                    if child.task is not None:
                        return Failed(input=child.task.input, message=child.paused or reason, exit_code=1)
                case _Paused(reason):
                    child.paused = reason
                case _Finished(outcome):
                    child.task = None
                    return outcome
                case _:
                    self._on_event(message)

    def stop(self) -> bool:
        """Stop all at once, and wait until unfinished files are gone; whether finished segments are kept."""
        kept = False
        for child in self._children:
            child.stop()
        while self._children:
            child, message = self._receive()
            if message is None:
                child.reap()
            elif isinstance(message, _Paused):
                kept = True
            elif not isinstance(message, _Finished):
                with suppress(Exception):  # a listener that fails must not stop the others' clean-up
                    self._on_event(message)
        return kept

    def _receive(self) -> tuple[_Child, _Message | None]:
        """The next message of any process; None for one that has ended, which is forgotten."""
        ready = wait([child.connection for child in self._children])
        child = next(c for c in self._children if c.connection in ready)
        message: _Message | None = None
        with suppress(Exception):  # what a process that was killed has sent half is no message
            message = child.connection.recv()
        if message is None:
            self._children.remove(child)
        return child, message

    def close(self) -> None:
        """End idle processes, and kill those that are not."""
        for child in self._children:
            child.end()


@dataclass(frozen=True, slots=True)
class _Finished:
    """The last message about a task."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Paused:
    """A long job has ended early, and can be continued."""

    reason: str


_Message = Event | _Finished | _Paused


class _Child:
    """The parent's end of one process.

    Attributes:
        task: what it works on, None while it is idle.
        paused: why it is about to end, if it reported that.
        connection: to it.
    """

    def __init__(self, options: Options) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
        self.task: Task | None = None
        self.paused = ""
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, options), name="upscale-job")
        with stopping.signals_held(*_HELD):  # until the process has its own handlers
            self._process.start()
        theirs.close()  # so that its death ends what is read here

    def begin(self, task: Task) -> None:
        self.task = task
        self._send(task)

    def stop(self) -> None:
        self._send(_STOP)

    def end(self) -> None:
        if self.task is not None:
            self._process.kill()
        self._send(None)
        self.reap()

    def reap(self) -> str:
        """Wait for the end of the process; returns why it ended, human-readable."""
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        self.connection.close()
        with suppress(ValueError):
            return f"its process was stopped by {signal.Signals(-code).name}"
        return f"its process ended with code {code}"

    def _send(self, message: Task | str | None) -> None:
        with suppress(OSError):  # it is gone, which shows when its connection is read
            self.connection.send(message)


def _serve(connection: Connection, options: Options) -> None:
    """What a process runs: one task after the other, until None comes or the parent is gone."""
    tasks: SimpleQueue[Task | None] = SimpleQueue()
    interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        # A long job finishes its segment. A group's SIGTERM is followed by the parent's: the second one
        # must not break into the removal of unfinished files.
        if not stopping.request(number) and not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    def say(message: _Message) -> None:
        with suppress(OSError):  # the parent is gone: the listening thread deals with that
            connection.send(message)

    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, interrupt)
        threading.Thread(target=_obey, args=(connection, tasks), daemon=True).start()
        _release_signals()
        try:
            while (task := tasks.get()) is not None:
                say(_Finished(attempt(task, options, say)))
        except Interrupted as reason:
            say(_Paused(str(reason)))


def _obey(connection: Connection, tasks: SimpleQueue[Task | None]) -> None:
    """Read what the parent sends; a thread of its own, because the main one works."""
    with suppress(EOFError, OSError):
        while True:
            match connection.recv():
                case Task() as task:
                    tasks.put(task)
                case None:
                    tasks.put(None)
                    return
                case _:
                    tasks.put(None)
                    _interrupt_main()
    tasks.put(None)
    _interrupt_main()
    time.sleep(_ORPHAN_GRACE)
    os._exit(1)


def _interrupt_main() -> None:
    """Raise in the main thread, also out of a wait."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


def _release_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
