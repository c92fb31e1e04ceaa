"""Entry point: dispatch, signals, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from importlib import import_module
from threading import Timer
from types import FrameType
from typing import NoReturn

import click

from upscale.cli.arguments import COMMANDS
from upscale.cli.text import say
from upscale.errors import Interrupted, UpscaleError
from upscale.job import stopping

#: What may stand before a command's name: `upscale --json info FILE`.
_FLAGS = {"-q", "--quiet", "-v", "--verbose", "-y", "--overwrite", "--json", "--no-progress"}
#: Seconds in which a second signal counts as the first one.
_SAME_SIGNAL = 0.5
#: Seconds after which a signal that came at a bad moment is sent again.
_RETRY = 0.01
#: The command that has no name.
_MAIN = "run"


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. No KeyboardInterrupt: click would turn that into its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line; returns the exit code and never raises for expected faults."""
    command, args = _command(args or ["--help"])
    program = "upscale" if command == _MAIN else f"upscale {command}"
    _catch_signals()
    try:
        function: click.Command = getattr(import_module(f"upscale.cli.{command}"), command)
        code = function.main(args, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        return _report(error, verbose=any(a in ("-v", "--verbose") for a in args))
    return code if isinstance(code, int) else 0


def _command(args: list[str]) -> tuple[str, list[str]]:
    """The command, and its own arguments."""
    for n, word in enumerate(args):
        if word in COMMANDS:
            return word, args[:n] + args[n + 1 :]
        if word not in _FLAGS:
            break
    return _MAIN, args


def _catch_signals() -> None:
    """First SIGINT or SIGTERM: stop cleanly. A later one: the default, which kills."""
    first: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            if _logs(frame):
                # FFmpeg called Python from C to log: an exception there is printed and lost.
                Timer(_RETRY, os.kill, (os.getpid(), number)).start()
                return
            first = time.monotonic()
            if stopping.request(number):  # a long job ends in good order
                return
            raise Stopped(number)
        # `timeout` and shells send one signal twice, to the process and to its group.
        if time.monotonic() - first > _SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _logs(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("logging"):
            return True
        frame = frame.f_back
    return False


def _report(error: BaseException, *, verbose: bool) -> int:
    """Say what happened on one line of stderr; returns the exit code."""
    match error:
        case Stopped():
            notes = getattr(error, "__notes__", ["unfinished files were removed"])
            say(f"stopped; {notes[0]}")
            return 128 + error.number
        case Interrupted():
            say(str(error), error.path)
            return error.exit_code
        case UpscaleError():
            say(str(error), error.path)
            code = error.exit_code
        case click.exceptions.Exit():
            return error.exit_code
        case click.ClickException():
            say(f"{error.format_message()} (see upscale --help)")
            return 2
        case BrokenPipeError():
            _silence_stdout()
            return 1
        case SystemExit():  # click's answer to a closed stdout
            return error.code if isinstance(error.code, int) else 1
        case _:
            say(f"internal error: {type(error).__name__}: {error}", getattr(error, "upscale_path", None))
            code = 1
    if verbose:
        traceback.print_exception(error)
    return code


def _silence_stdout() -> None:
    """The reader is gone; what is still buffered must not raise again at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
