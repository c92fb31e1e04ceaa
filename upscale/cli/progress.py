"""What a running job shows on stderr, or prints as JSON on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from upscale.cli.text import bytes_text, clean, json_text, on_terminal, say, table
from upscale.cli.timecode import format_time
from upscale.events import (
    JSON_VERSION,
    BatchResult,
    BatchStart,
    Event,
    Failed,
    OnEvent,
    Progress,
    Result,
    Resumed,
    Skipped,
    Start,
    Warned,
)

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

#: Seconds between two progress lines where there is no terminal.
_LINE_EVERY = 5.0


@contextmanager
def listener(
    *, quiet: bool, verbose: bool, progress: bool, as_json: bool, to_stderr: bool
) -> Iterator[OnEvent]:
    """The function that a job's events go to.

    Args:
        progress: False leaves out the display, not the results.
        as_json: print every event as one line of JSON on stdout instead.
        to_stderr: stdout carries the video, so JSON goes to stderr.
    """
    if as_json:
        yield _JsonLines(sys.stderr if to_stderr else sys.stdout, progress and not quiet)
        return
    terminal = on_terminal()
    lines = _PlainDisplay(quiet=quiet, verbose=verbose, progress=progress and not terminal)
    if quiet or not progress or not terminal:
        yield lines
        return
    with _LiveDisplay(lines) as display:
        yield display


class _JsonLines:
    """One object per line, the first with the version of all; nothing else goes to that stream."""

    def __init__(self, stream: TextIO, progress: bool) -> None:
        self._stream = stream
        self._progress = progress
        self._version = {"version": JSON_VERSION}

    def __call__(self, event: Event) -> None:
        if self._progress or not isinstance(event, Progress):
            print(json_text(event.as_json() | self._version), file=self._stream, flush=True)
            self._version = {}


class _PlainDisplay:
    """Plain lines on stderr."""

    def __init__(self, *, quiet: bool, verbose: bool, progress: bool) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._progress = progress
        self._last: dict[str, float] = {}
        self._batch = 0
        self._begun = 0

    def __call__(self, event: Event) -> None:
        match event:
            case Failed():
                say(event.message, event.input)
            case Result() if self._quiet and event.damaged:  # exit code 3 needs its reason
                say(f"the input is damaged: {', '.join(event.damage)}", event.input)
            case _ if self._quiet:
                return
            case BatchStart():
                self._batch = event.files
                if not event.files:
                    say("no video or picture found", event.input)
            case Start():
                self._begun += 1
                self._start(event)
            case Warned():
                say(f"warning: {event.message}", event.input)
            case Resumed():
                of = f" of {event.total}" if event.total > event.frames else ""
                say(f"continuing at frame {event.frames}{of}", event.input)
            case Progress() if self._due(event):
                say(progress_text(event), event.input)
            case Result():
                say(result_text(event), event.input)
                if self._verbose:
                    say(busy_text(event), event.input)
            case Skipped() if self._verbose or not self._batch:
                say(f"skipped: {event.reason}", event.input)
            case BatchResult() if self._batch:
                print(summary_text(event), file=sys.stderr)

    def _due(self, event: Progress) -> bool:
        now = time.monotonic()
        if not self._progress or now - self._last.get(event.input, 0.0) < _LINE_EVERY:
            return False
        self._last[event.input] = now
        return True

    def _start(self, event: Start) -> None:
        self._last[event.input] = time.monotonic()
        if self._verbose:
            from upscale.backends.auto import pop_reasons

            w, h = event.source_size
            out_w, out_h = event.size
            model = event.model if event.strength is None else f"{event.model} at strength {event.strength:g}"
            what = f"{w}x{h} to {out_w}x{out_h} with {model} on {event.backend}"
            say(f"{what}, then {event.encoder} {event.pix_fmt}, into {event.output}", event.input)
            for reason in pop_reasons():
                say(reason, event.input)


class _LiveDisplay:
    """Bars at the bottom of the terminal, one for each running file; lines scroll above them."""

    def __init__(self, lines: _PlainDisplay) -> None:
        self._lines = lines
        self._files = 0
        self._number = 0
        self._tasks: dict[str, TaskID] = {}
        self._batch: TaskID | None = None
        self._bar: Bar

    def __enter__(self) -> _LiveDisplay:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.fields[file]}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[state]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,  # stdout may carry the video
        )
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case BatchStart():
                self._files = event.files
                if event.jobs != 1:
                    self._batch = self._bar.add_task(
                        "", total=event.files, file="all files", state=f"0 of {event.files} files"
                    )
            case Start():
                self._number += 1
                self._drop(event)
                number = f"[{self._number}/{self._files}] " if self._files else ""
                name = clean(event.input).rpartition("/")[2]
                self._tasks[event.input] = self._bar.add_task(
                    "", total=event.frames or None, file=number + name, state="starting"
                )
            case Progress() if event.input in self._tasks:
                # An estimate that was too low must not show more than all.
                total = max(event.total, event.frames) if event.total else None
                self._bar.update(
                    self._tasks[event.input], completed=event.frames, total=total, state=progress_text(event)
                )
            case Result() | Failed():
                self._ended(event)
            case Skipped():
                self._number += 1
                self._ended(event)
            case BatchResult():
                self._bar.stop()
        self._lines(event)

    def _ended(self, event: Event) -> None:
        self._drop(event)
        if self._batch is not None:
            self._bar.advance(self._batch)
            done = int(self._bar.tasks[0].completed)
            self._bar.update(self._batch, state=f"{done} of {self._files} files")

    def _drop(self, event: Event) -> None:
        task = self._tasks.pop(event.input, None)
        if task is not None:
            self._bar.remove_task(task)


def progress_text(event: Progress) -> str:
    """``120/900 frames, 34.1 fps, 1.14x real time, 0:23 left``."""
    frames = f"{event.frames}/{event.total}" if event.total else str(event.frames)
    if event.passed:
        return f"{frames} frames; {event.passed} of the finished ones read again"
    left = f", {format_time(event.eta)} left" if event.eta is not None else ""
    dropped = f", {event.dropped} dropped" if event.dropped else ""
    return f"{frames} frames, {event.fps:.1f} fps, {event.speed:.2f}x real time{left}{dropped}"


def result_text(event: Result) -> str:
    """What came out and how fast, on one line."""
    width, height = event.size
    size = f", {bytes_text(event.bytes)}" if event.bytes is not None else ""
    name = "stdout" if event.output == "-" else event.output
    if event.frames == 1 and not event.duration:  # a picture
        return f"{name}: {width}x{height}{size}, {event.seconds:.1f} s"
    return (
        f"{name}: {width}x{height}, {event.frames} frames, {format_time(event.duration)}{size}, "
        f"{event.fps:.1f} fps, {event.speed:.2f}x real time"
    )


def busy_text(event: Result) -> str:
    """Where the time went (the stages overlap), and what needed none."""
    busy = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in event.busy.items())
    reused = f"; {event.reused:.0%} of the picture repeated" if event.reused else ""
    return f"{event.seconds:.1f} s in all; at work: {busy}{reused}"


def summary_text(event: BatchResult) -> str:
    """A table of all files and one line of counts."""

    def name(file: Event) -> str:
        return os.path.relpath(file.input, event.input)

    rows = [
        [
            name(r),
            "damaged" if r.damaged else "done",
            str(r.frames),
            bytes_text(r.bytes or 0),
            f"{r.fps:.1f}",
            "",
        ]
        for r in event.results
    ]
    rows += [[name(s), "skipped", "", "", "", s.reason] for s in event.skipped]
    rows += [[name(f), "failed", "", "", "", f.message] for f in event.failed]
    counts = f"{len(event.results)} done, {len(event.skipped)} skipped, {len(event.failed)} failed"
    shown = table(sorted(rows), ["file", "result", "frames", "size", "fps", "why"])
    return f"{shown}\n{counts}, {format_time(event.seconds)}, in {clean(event.output)}"
