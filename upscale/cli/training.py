"""What a running training shows on stderr, and how Ctrl-C stops it between two steps."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from upscale.cli.text import clean, say
from upscale.cli.timecode import format_time

if TYPE_CHECKING:
    from upscale.train.loop import Hooks, Progress
    from upscale.train.validate import Scores

#: Seconds between two lines where there is no terminal.
_LINE_EVERY = 20.0
#: Seconds in which a second signal counts as the first one.
_SAME_SIGNAL = 0.5


class StopFlag:
    """Turns the first SIGINT or SIGTERM into a flag, so that the state is saved between two steps.

    Attributes:
        number: of the signal that came, 0 before.
    """

    def __init__(self, speaks: bool = True) -> None:
        self.number = 0
        self._speaks = speaks
        self._since = 0.0

    @contextmanager
    def installed(self) -> Iterator[Callable[[], bool]]:
        """While training steps run; gives the function that tells whether to stop."""
        before = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield lambda: self.number != 0
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._since = number, time.monotonic()
            if self._speaks:
                say("stopping after this step; once more stops at once, without saving")
        elif time.monotonic() - self._since > _SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def display(quiet: bool) -> Iterator[PlainDisplay]:
    """A live display on a terminal, else plain lines; with `quiet` only what went wrong."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield PlainDisplay(quiet)
        return
    with _Live() as live:
        yield live


class PlainDisplay:
    """Plain lines on stderr."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._last = time.monotonic()
        self._skipped: list[tuple[str, str]] = []

    def hooks(self, flag: StopFlag) -> Hooks:
        """What the loop calls."""
        from upscale.train.loop import Hooks

        stopping: Callable[[], AbstractContextManager[Callable[[], bool]]] = flag.installed
        return Hooks(progress=self.progress, stopping=stopping)

    def source(self, done: int, total: int, name: str, error: str | None) -> None:
        """One file of the material was read; the last one names all that were skipped."""
        if error:
            self._skipped.append((name, error))
        if done == total:
            self._total(total)
        elif self._due():
            self._say(f"crops: {done} of {total} files")

    def _total(self, total: int) -> None:
        for name, error in self._skipped:
            self._say(f"skipped: {error}", name)
        if not self._quiet:
            self._say(f"crops: {total - len(self._skipped)} of {total} files read")

    def progress(self, report: Progress) -> None:
        """Some steps were taken."""
        if report.scores is not None and not self._quiet:
            self._say(f"{step_text(report)}, {losses_text(report)}; {scores_text(report.scores)}")
        elif self._due():
            self._say(f"{step_text(report)}, {losses_text(report)}")

    def _say(self, text: str, path: str | None = None) -> None:
        say(text, path)

    def _due(self) -> bool:
        if self._quiet or time.monotonic() - self._last < _LINE_EVERY:
            return False
        self._last = time.monotonic()
        return True


class _Live(PlainDisplay):
    """A bar at the bottom of the terminal with the losses and the last validation under it."""

    def __enter__(self) -> _Live:
        from rich.console import Console
        from rich.live import Live

        self._scores = ""
        self._began = time.monotonic()
        self._live = Live(
            "", console=Console(stderr=True), refresh_per_second=4, transient=True, redirect_stdout=False
        )
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def source(self, done: int, total: int, name: str, error: str | None) -> None:
        if error:
            self._skipped.append((name, error))
        self._show(done, total, [f"crops: {done} of {total} files, {clean(name)}"])
        if done == total:
            self._total(total)

    def progress(self, report: Progress) -> None:
        if report.scores is not None:
            self._scores = f"{report.stage} {report.step}: {scores_text(report.scores)}"
            self._say(f"{step_text(report)}; {scores_text(report.scores)}")
        lines = [step_text(report), losses_text(report)]
        if self._scores:
            lines.append(f"held out, {self._scores}")
        self._show(report.step, report.iterations, lines)

    def _say(self, text: str, path: str | None = None) -> None:
        where = f"{clean(path)}: " if path else ""
        self._live.console.print(f"upscale: {where}{clean(text)}", markup=False, highlight=False)

    def _show(self, done: int, total: int, lines: list[str]) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = Table.grid(expand=True)  # a bar that is in no table does not end its line
        rows.add_row(ProgressBar(total, done))
        for line in [*lines, f"{format_time(time.monotonic() - self._began)} so far"]:
            rows.add_row(Text(line))
        self._live.update(rows)


def step_text(report: Progress) -> str:
    """``gan (2/2), step 50/200, 8.1 it/s, 0:18 left``."""
    left = (report.iterations - report.step) / max(report.steps_per_second, 1e-6)
    number = f" ({report.number}/{report.stages})" if report.stages > 1 else ""
    return (
        f"{report.stage}{number}, step {report.step}/{report.iterations}, "
        f"{report.steps_per_second:.1f} it/s, {format_time(left)} left"
    )


def losses_text(report: Progress) -> str:
    """``pixel 0.0123, adversarial 0.69``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())


def scores_text(scores: Scores) -> str:
    """Held-out scores, and what lanczos has on the same frames."""
    base = scores.lanczos
    parts = [f"PSNR {scores.psnr:.2f} dB (lanczos {base['psnr']:.2f})", f"SSIM {scores.ssim:.4f}"]
    if scores.lpips is not None:
        parts.append(f"LPIPS {scores.lpips:.4f} (lanczos {base['lpips']:.4f})")
    if scores.flicker is not None:
        parts.append(f"flicker {scores.flicker:.2f}")
    return ", ".join(parts)
