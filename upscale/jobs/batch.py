"""A directory in, a directory out."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from upscale.errors import OutputError, UsageError
from upscale.events import BatchResult, BatchStart, Failed, OnEvent, Result, Skipped, Warned, ignore
from upscale.job import naming
from upscale.job.prepare import find_model, with_fixed_backend
from upscale.jobs.resume.local import Outcome, Task, attempt, outcome_of
from upscale.jobs.resume.work_folder import is_work_folder
from upscale.media.input.address import as_file
from upscale.options import Options
from upscale.system.cores import cores


def upscale_directory(
    input: str, output: str | None = None, options: Options | None = None, on_event: OnEvent = ignore
) -> BatchResult:
    """Upscale every video of a directory, `options.jobs` at a time.

    Files are chosen by their extension (`upscale.job.naming.VIDEO_EXTENSIONS`).
    Outputs get their input's own name; those that exist already are skipped unless
    `options.overwrite` is set or `options.skip_existing` is not. With `options.recursive`,
    subfolders are mirrored. Symbolic links to directories are not followed. What is no regular file
    is left out, and files without video and those that are large enough are skipped. One bad file
    does not stop the others.

    With more than one job, processes are started, as `multiprocessing` does with "spawn": a script
    that calls this must have its ``if __name__ == "__main__"``.

    Args:
        input: a directory.
        output: a directory, made if missing; None is ``<input>_720p`` beside it.
        on_event: called with `BatchStart`, all events of each file, `Skipped` and `Failed`, and at
            the end with the `BatchResult`.

    Raises:
        UsageError: input is no directory, or output is one and the same, or a file; no such model or
            strength.
        ModelError: the weights are damaged.
        OutputError: the output directory cannot be made.
        KeyboardInterrupt: handed on; finished files stay.
    """
    options = options or Options()
    started = time.perf_counter()
    root, target = _folders(input, output, options)
    find_model(options)  # what would fail for every file is said once

    found = sorted(_videos(root, target.resolve(), options.recursive))
    jobs = 0 if options.cluster is not None else _usable_jobs(options, len(found))
    on_event(BatchStart(input=input, output=str(target), files=len(found), jobs=jobs))
    if jobs and jobs < min(options.jobs, len(found)):
        on_event(Warned(input=input, message=f"{jobs} files at once: there are no more cores"))
    outcomes = _Outcomes(on_event)
    folders = _Folders(target)
    tasks = _tasks(_output_paths(found, root, target, options), options, folders, outcomes)
    try:
        for outcome in _run(tasks, jobs, options, on_event):
            outcomes.add(outcome)
    finally:
        folders.remove_empty()
    results, skipped, failed = outcomes.sorted()
    summary = BatchResult(
        input=input,
        output=str(target),
        results=results,
        skipped=skipped,
        failed=failed,
        seconds=time.perf_counter() - started,
    )
    on_event(summary)
    return summary


def _folders(input: str, output: str | None, options: Options) -> tuple[Path, Path]:
    """The directory to read and the one to write."""
    root = Path(input)
    if not root.is_dir():
        raise UsageError("not a directory", path=input)
    target = Path(output) if output is not None else _default_folder(root, options)
    if target.exists() and not target.is_dir():
        raise UsageError("the input is a directory, so the output must be one", path=str(target))
    if target.exists() and target.samefile(root):
        raise UsageError("input and output are the same directory", path=input)
    return root, target


def _default_folder(root: Path, options: Options) -> Path:
    named = root.resolve()  # so that "." and ".." have a name
    if not named.name:
        raise UsageError("name an output directory", path=str(root))
    return (root.parent if root.name else named.parent) / f"{named.name}{naming.suffix(options)}"


def _videos(root: Path, target: Path, recursive: bool) -> Iterator[Path]:
    """Regular files with a video's extension, the output directory left out."""
    for folder, subfolders, names in os.walk(root, followlinks=False):
        here = Path(folder)
        subfolders[:] = sorted(
            s for s in subfolders if recursive and (here / s).resolve() != target and not is_work_folder(s)
        )
        for name in names:
            path = here / name
            ending = path.suffix[1:].lower()
            if ending in naming.VIDEO_EXTENSIONS and not name.startswith(".") and path.is_file():
                yield path


def _output_paths(found: list[Path], root: Path, target: Path, options: Options) -> dict[Path, Path]:
    """Input → ``target/sub/name.ext``.

    Where the extension had to change and the name is then another input's, the input's whole name
    goes before the new extension, so that no output depends on the order of the inputs.
    """
    wanted = {}
    for path in found:
        ending, _ = naming.extension(path.name, options)
        wanted[path] = target / path.parent.relative_to(root) / f"{path.stem}.{ending}"
    keepers = {output for path, output in wanted.items() if output.name == path.name}
    counts = Counter(wanted.values())
    for path, output in wanted.items():
        if output.name != path.name and (output in keepers or counts[output] > 1):
            wanted[path] = output.with_name(f"{path.name}{output.suffix}")
    return wanted


def _usable_jobs(options: Options, files: int) -> int:
    """Files at once: no more than there are, nor than cores, which a second file could not use."""
    return max(1, min(options.jobs, files, cores()))


def _run(tasks: Iterator[Task], jobs: int, options: Options, on_event: OnEvent) -> Iterator[Outcome]:
    """Work on the tasks, which are read one by one; yields the outcome of each, as they end."""
    if options.cluster is not None:
        from upscale.jobs.cluster.client import run_cluster

        answers = run_cluster(tasks, options, on_event)
        return (outcome_of(a, t.input) if isinstance(a, Exception) else a for t, a in answers)
    if jobs == 1:
        return (attempt(task, options, on_event) for task in tasks)
    from upscale.jobs.processes import run_processes

    return run_processes(tasks, jobs, with_fixed_backend(options), on_event)


def _tasks(
    outputs: dict[Path, Path], options: Options, folders: _Folders, outcomes: _Outcomes
) -> Iterator[Task]:
    """The files that need work; each is checked just before its turn."""
    for path, output in outputs.items():
        name = as_file(str(path))
        if options.skip_existing and not options.overwrite and output.exists():
            outcomes.add(Skipped(input=name, reason="done already"))
            continue
        try:
            folders.make(output.parent)
        except OutputError as error:
            outcomes.add(outcome_of(error, name))
        else:
            yield Task(name, str(output))


class _Outcomes:
    """The outcome of each file."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._all: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Keep it, and send it as an event, as which results have been sent already."""
        self._all.append(outcome)
        if not isinstance(outcome, Result):
            self._on_event(outcome)

    def sorted(self) -> tuple[tuple[Result, ...], tuple[Skipped, ...], tuple[Failed, ...]]:
        """By kind, each in the order of the names."""
        every = sorted(self._all, key=lambda outcome: Path(outcome.input))
        return (
            tuple(o for o in every if isinstance(o, Result)),
            tuple(o for o in every if isinstance(o, Skipped)),
            tuple(o for o in every if isinstance(o, Failed)),
        )


class _Folders:
    """Output folders that were made here, so that those that stay empty can go again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: list[Path] = []

    def make(self, folder: Path) -> None:
        """Make a folder and those above it.

        Raises:
            OutputError: it cannot be made, or a link leads out of the tree of outputs.
        """
        if not folder.resolve().is_relative_to(self._root.resolve()):
            raise OutputError("a link leads out of the output folder", path=str(folder))
        missing = [f for f in (folder, *folder.parents) if not f.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(error.strerror or str(error), path=str(folder)) from error
        finally:
            self._made += reversed(missing)

    def remove_empty(self) -> None:
        for folder in reversed(self._made):
            with suppress(OSError):  # not empty
                folder.rmdir()
