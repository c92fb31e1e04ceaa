"""Files, and the segments of long ones, made by the workers of a Dask scheduler.

Dask decides which worker does what, and repeats the work of lost workers; here is what is submitted to it,
and what is done with the answers. All machines see the same files under the same paths; pictures pass
through the shared folder only. This process keeps the journals of long jobs, so that it can be killed as
well.
"""

from __future__ import annotations

import os
import pickle
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from upscale.backends.variants import Variant
from upscale.errors import ClusterError, MediaError, UpscaleError, UsageError, first_line
from upscale.events import Event, OnEvent, Result, Skipped, Warned
from upscale.job import stopping
from upscale.job.naming import resolve_output
from upscale.job.prepare import Prepared, choose_runtime, find_model, prepare
from upscale.job.report import Reporter
from upscale.jobs.cluster.connect import ANSWER, answer_of, connected
from upscale.jobs.cluster.spread import SpreadJob
from upscale.jobs.cluster.worker import Requirements, WorkItem, run_work_item, versions
from upscale.jobs.resume.fingerprint import weights_hash
from upscale.jobs.resume.journal import Segment
from upscale.jobs.resume.local import Task
from upscale.jobs.resume.segments import KEPT, Piece, add_advice, segment_length
from upscale.jobs.resume.work_folder import remove_joined
from upscale.options import Options

if TYPE_CHECKING:
    from distributed import Client

#: Work items submitted for each thread of the workers, so that none is ever idle.
_AHEAD = 2
#: Seconds between two requests for the list of workers.
_UPDATE_EVERY = 1.0
#: Seconds that cancelled work has to remove its unfinished files.
_CLEANUP = 10.0
#: How often work is repeated on another worker after a disk or a runtime failed.
_RETRIES = 2

Answer = Result | Skipped | Exception


def run_cluster(tasks: Iterator[Task], options: Options, on_event: OnEvent) -> Iterator[tuple[Task, Answer]]:
    """Work on all tasks; yields what became of each, as they end.

    Args:
        tasks: read in this thread, as there is room for them.
        options: with `cluster`.
        on_event: gets the events of all files, in this thread.

    Raises:
        ClusterError: the scheduler cannot be reached, or its workers cannot do the work.
        Interrupted: a signal asked to stop; segments that were being made were finished.
        UsageError, ModelError: no such model.
    """
    find_model(options)
    with connected(str(options.cluster)) as client:
        yield from _Run(client, options, on_event).run(tasks)


def upscale_on_cluster(input: str, output: str | None, options: Options, on_event: OnEvent) -> Result:
    """`upscale.upscale_file` with `options.cluster`."""
    for _, answer in run_cluster(iter([Task(input, output)]), options, on_event):
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Skipped):
            raise UsageError(answer.reason, path=input)
        return answer
    raise AssertionError("one task, one answer")


@dataclass(eq=False, kw_only=True)
class _File:
    """One file that is being worked on; `spread` if it is in segments."""

    task: Task
    job: Prepared
    reporter: Reporter
    stack: ExitStack
    spread: SpreadJob | None = None
    open_pieces: int = 0


@dataclass(eq=False, kw_only=True)
class _Submission:
    """A work item that Dask has, or will get."""

    file: _File
    item: WorkItem
    future: Any = None
    begun: bool = False
    unfit: set[str] = field(default_factory=set)


class _Run:
    """One call of `run_cluster`."""

    def __init__(self, client: Client, options: Options, on_event: OnEvent) -> None:
        from distributed import as_completed

        self._client = client
        self._options = options
        self._on_event = on_event
        self._topic = f"upscale-{secrets.token_hex(8)}"
        self._count = 0
        self._inbox: SimpleQueue[tuple[float, dict[str, Any]]] = SimpleQueue()
        self._done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self._waiting: deque[_Submission] = deque()
        self._running: dict[str, _Submission] = {}
        self._cancelled: set[str] = set()
        self._files: list[_File] = []
        self._answers: deque[tuple[Task, Answer]] = deque()
        self._workers: dict[str, int] = {}
        self._updated = 0.0
        self._unfit: set[tuple[str, str]] = set()
        self._stop_request = stopping.StopRequest()

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Answer]]:
        self._client.subscribe_topic(self._topic, self._inbox.put)
        try:
            with stopping.stop_requests_to(self._stop_request):
                while self._stop_request.reason is None:
                    self._update_workers()
                    self._fill(tasks)
                    self._receive(0.1)
                    while self._answers:
                        yield self._answers.popleft()
                    if not self._running and not self._waiting:
                        self._updated = 0.0
                        self._update_workers()
                        return
                self._end(keep_segments=True)
                raise self._stop_request.reason
        except BaseException as error:
            if self._running:
                self._end(keep_segments=False)
            if any(file.spread and file.spread.long_job.journal.segments for file in self._files):
                add_advice(error, KEPT)
            raise
        finally:
            for file in self._files:
                file.stack.close()
            with suppress(Exception):
                self._client.unsubscribe_topic(self._topic)

    def _update_workers(self) -> None:
        """Notice workers that come and go.

        Raises:
            ClusterError: the scheduler is gone.
        """
        if time.monotonic() - self._updated < _UPDATE_EVERY:
            return
        self._updated = time.monotonic()
        try:
            workers = dict(self._client.nthreads(callback_timeout=ANSWER))
        except Exception as error:  # Dask raises many kinds
            raise ClusterError(
                f"the scheduler is gone: {first_line(error)}", path=self._options.cluster
            ) from error
        for address in self._workers.keys() - workers.keys():
            self._warn(address, "the worker is gone; its work is repeated elsewhere")
        if self._workers and not workers:
            self._warn(str(self._options.cluster), "no worker is left; waiting for one")
        self._workers = workers

    def _warn(self, who: str, message: str) -> None:
        self._on_event(Warned(input=who, message=message))

    def _fill(self, tasks: Iterator[Task]) -> None:
        """Submit work for all workers, and a little more."""
        room = _AHEAD * max(1, sum(self._workers.values()))
        while len(self._running) < room:
            if self._waiting:
                self._submit(self._waiting.popleft())
                continue
            task = next(tasks, None)
            if task is None:
                return
            self._open(task)

    def _open(self, task: Task) -> None:
        """Open a file, and decide whether it is submitted whole or in segments."""
        stack = ExitStack()
        try:
            if not os.path.isfile(task.input) or task.output == "-":
                raise UsageError("only files that all machines see can be given to a cluster")
            if self._options.realtime:
                raise UsageError("--realtime is the pace of this machine, not that of a cluster")
            path, _ = resolve_output(task.input, task.output, self._options)
            remove_joined(path)
            job = prepare(stack, task.input, task.output, self._options)
            file = _File(task=task, job=job, reporter=Reporter(task.input, self._on_event), stack=stack)
            for note in job.notes:
                file.reporter.warn(note)
            if segment_length(job):
                file.spread = spread = SpreadJob(stack, job, file.reporter, str(self._options.cluster))
                runtime, folder = spread.long_job.runtime, spread.long_job.folder.path
                found = [self._work(file, runtime, folder, piece) for piece in spread.pieces]
            else:
                found = [self._work(file, choose_runtime(job), os.path.dirname(job.output) or ".")]
                stack.close()
        except BaseException as error:
            stack.close()
            if not isinstance(error, Exception):
                raise
            self._answer(task, error)
            return
        self._files.append(file)
        self._waiting += found
        if not found:
            self._finish(file)

    def _work(
        self, file: _File, runtime: Variant | None, folder: str, piece: Piece | None = None
    ) -> _Submission:
        job, o = file.job, self._options
        model = o.model if o.model is None or not os.path.isfile(o.model) else os.path.abspath(o.model)
        fixed = {} if runtime is None else asdict(runtime)
        requirements = Requirements(
            versions=versions(),
            weights=weights_hash(job.model),
            runtime=runtime,
            codecs=(job.source.video.codec_context.name, job.plan.encoder.codec),
            input_bytes=os.path.getsize(job.input),
            folder=os.path.abspath(folder),
        )
        self._count += 1
        item = WorkItem(
            key=f"{self._topic}-{self._count}",
            topic=self._topic,
            requirements=requirements,
            input=os.path.abspath(job.input),
            output=os.path.abspath(job.output),
            # A thread of a worker stands for a core, so the network gets one too.
            options=replace(o, cluster=None, jobs=1, threads=o.threads or 1, model=model, **fixed),
            piece=piece,
        )
        file.open_pieces += 1
        return _Submission(file=file, item=item)

    def _submit(self, submission: _Submission) -> None:
        submission.future = self._client.submit(
            run_work_item, submission.item, key=submission.item.key, retries=_RETRIES, pure=False
        )
        self._running[submission.item.key] = submission
        self._done.add(submission.future)

    def _receive(self, patience: float) -> None:
        """Handle messages of the workers and finished work; waits a moment if there is nothing."""
        with suppress(Empty):
            message = self._inbox.get(timeout=patience)
            while True:
                self._handle(message[1])
                message = self._inbox.get_nowait()
        for future, result in self._done.next_batch(block=False):
            submission = self._running.pop(future.key, None)
            if submission is not None:
                self._resolve(submission, answer_of(future, result))

    def _handle(self, message: dict[str, Any]) -> None:
        if message.get("state") == "ended":
            self._cancelled.discard(message["key"])
        submission = self._running.get(message["key"])
        if submission is None:
            return
        match message:
            case {"unfit": reason, "worker": address}:
                self._exclude(submission, str(address), str(reason))
            case {"state": state}:
                submission.begun = state == "begun"
            case {"frames": frames, "seconds": seconds} if submission.file.spread and submission.item.piece:
                submission.file.spread.progress(submission.item.piece, frames, seconds)
            case {"event": event}:
                self._forward(submission.file, pickle.loads(event))

    def _exclude(self, submission: _Submission, address: str, reason: str) -> None:
        """A worker has returned work undone. If all have, it cannot be done."""
        submission.unfit.add(address)
        if self._workers.keys() <= submission.unfit:
            self._cancel([submission])
            self._resolve(submission, ClusterError(f"no worker can do it: {address}: {reason}"))
        elif (address, reason) not in self._unfit:
            self._unfit.add((address, reason))
            self._warn(address, f"the worker is left out: {reason}")

    def _forward(self, file: _File, event: Event) -> None:
        """Send a worker's event as if it had occurred here."""
        if isinstance(event, Warned):
            if event.message not in file.reporter.warnings:
                file.reporter.warn(event.message)
            return
        self._on_event(self._with_paths_here(file, event))

    def _with_paths_here(self, file: _File, event: Any) -> Any:
        names = {"input": file.task.input, "output": file.job.output}
        return replace(event, **{k: v for k, v in names.items() if hasattr(event, k)})

    def _resolve(self, submission: _Submission, value: Result | Segment | Exception) -> None:
        """Work has ended."""
        file = submission.file
        file.open_pieces -= 1
        try:
            match value:
                case Segment() if file.spread is not None and submission.item.piece is not None:
                    file.spread.add(submission.item.piece, value)
                case MediaError() if file.spread is not None and submission.item.piece is not None:
                    file.spread.add(submission.item.piece, None)
                case Result():
                    self._accept(file, value)
                    return
                case UsageError() if submission.begun and os.path.exists(file.job.output):
                    # The first worker was lost between writing the output and reporting it.
                    self._close(file, Skipped(input=file.task.input, reason="done already"))
                    return
                case Exception():
                    raise value
        except Exception as error:
            self._fail(file, error)
            return
        if not file.open_pieces:
            self._finish(file)

    def _accept(self, file: _File, result: Result) -> None:
        if not os.path.exists(file.job.output):
            self._fail(
                file, ClusterError("the worker wrote it, but not into the folder that this machine sees")
            )
            return
        warnings = dict.fromkeys([*file.reporter.warnings, *result.warnings])
        result = replace(self._with_paths_here(file, result), warnings=tuple(warnings))
        self._on_event(result)
        self._close(file, result)

    def _finish(self, file: _File) -> None:
        """All segments of a file are there."""
        spread = file.spread
        assert spread is not None
        if spread.damaged:
            file.reporter.warn("the input is damaged: one worker reads it from its beginning")
            folder = os.path.dirname(spread.long_job.folder.path)
            self._waiting.append(self._work(file, spread.long_job.runtime, folder))
            file.spread = None
            file.stack.close()  # unlocks the work folder
            return
        try:
            self._close(file, spread.finish())
        except Exception as error:
            self._fail(file, error)

    def _fail(self, file: _File, error: Exception) -> None:
        """A file has failed; the rest of its work is dropped."""
        self._cancel([submission for submission in self._running.values() if submission.file is file])
        self._waiting = deque(submission for submission in self._waiting if submission.file is not file)
        if file.spread is not None and isinstance(error, UpscaleError):
            file.spread.long_job.advise(error)
        self._close(file, error)

    def _cancel(self, items: list[_Submission]) -> None:
        """Cancel work; what has begun notices within a second."""
        for submission in items:
            del self._running[submission.item.key]
            if submission.begun:
                self._cancelled.add(submission.item.key)
        with suppress(Exception):  # the scheduler may be gone
            self._client.cancel([submission.future for submission in items])

    def _close(self, file: _File, answer: Answer) -> None:
        file.stack.close()
        if file in self._files:
            self._files.remove(file)
            self._answer(file.task, answer)

    def _answer(self, task: Task, answer: Answer) -> None:
        if isinstance(answer, UpscaleError):
            answer.path = answer.path or task.input
        self._answers.append((task, answer))

    def _end(self, *, keep_segments: bool) -> None:
        """Cancel all but, if wanted, segments that are being made; wait until unfinished files are gone."""
        self._waiting.clear()
        self._cancel([w for w in self._running.values() if not (keep_segments and w.begun and w.item.piece)])
        deadline = time.monotonic() + _CLEANUP
        while (self._running and self._workers) or (self._cancelled and time.monotonic() < deadline):
            self._update_workers()
            self._receive(0.1)
