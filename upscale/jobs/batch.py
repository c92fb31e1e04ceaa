"""Many files in, a directory out: all videos and pictures of a directory, or files that were named."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from upscale.errors import OutputError, UsageError
from upscale.events import BatchResult, BatchStart, Failed, OnEvent, Result, Skipped, Warned, ignore
from upscale.job import naming
from upscale.job.prepare import find_model, with_fixed_backend
from upscale.jobs.resume.local import Outcome, Task, attempt, outcome_of
from upscale.jobs.resume.work_folder import is_work_folder
from upscale.media.input.address import as_file, is_live
from upscale.media.input.stills import picture_format
from upscale.options import Options
from upscale.system.cores import cores


def upscale_directory(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    on_event: OnEvent = ignore,
) -> BatchResult:
    """Upscale every video and picture of a directory, `options.jobs` at a time.

    Files are chosen by their extension (`upscale.job.naming.EXTENSIONS`).
    Outputs get their input's own name; those that exist already are skipped unless
    `options.overwrite` is set or `options.skip_existing` is not. With `options.recursive`,
    subfolders are mirrored; one that cannot be read counts as failed. Symbolic links to directories are not
    followed. What is no regular file is left out, and files without video and those that are large enough
    are skipped. One bad file does not stop the others.

    With more than one job, processes are started, as `multiprocessing` does with "spawn": a script
    that calls this must have its ``if __name__ == "__main__"``.

    Args:
        input: a directory.
        output: a directory, made if missing; None is ``<input>_720p`` beside it.
        on_event: called with `BatchStart`, all events of each file, `Skipped` and `Failed`, and at
            the end with the `BatchResult`.

    Raises:
        UsageError: input is no directory; output is one and the same, a file, or named like one; an output
            would replace an input; no such model or strength.
        ModelError: the weights are damaged.
        OutputError: the output directory cannot be made.
        KeyboardInterrupt: handed on; finished files stay.
    """
    options = options or Options()
    input = os.fspath(input)
    root, target = _folders(input, output, options)
    batch = _Batch(input, target, options, on_event)
    found = sorted(_sources(root, target.resolve(), options.recursive, batch))
    folders = {path: target / path.parent.relative_to(root) for path in found}
    outputs = _output_paths(folders, options)
    return batch.run({as_file(str(path)): output for path, output in outputs.items()})


def upscale_files(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: Options | None = None,
    on_event: OnEvent = ignore,
) -> BatchResult:
    """Upscale several files into one directory, as `upscale_directory` does: with the same names, skipping
    what is there, `options.jobs` at a time, and to the end whatever becomes of one of them.

    Args:
        inputs: paths of files. Directories among them are skipped; a file that is named twice is done once.
        output: a directory, made if missing.
        on_event: as of `upscale_directory`; ``input`` of `BatchStart` and `BatchResult` is the folder that
            all inputs have in common.

    Raises:
        UsageError: no input, or one that is no file: "-", a URL or a device; output is a file; an output
            would replace an input, or two inputs would have the same output; no such model or strength.
        ModelError, OutputError, KeyboardInterrupt: as `upscale_directory`.
    """
    options = options or Options()
    names: dict[str, str] = {}
    for name in [os.fspath(path) for path in inputs]:
        if name == "-" or is_live(name):
            raise UsageError("of several inputs, each must be a file", path=name)
        names.setdefault(os.path.realpath(name), name)
    if not names:
        raise UsageError("no input")
    paths = {Path(name): name for name in names.values()}
    target = Path(output)
    if target.exists() and not target.is_dir():
        raise UsageError("there are several inputs, so the output must be a directory", path=str(target))
    folders = list({str(path.parent) for path in paths})
    with suppress(ValueError):  # on several drives, or absolute and relative
        folders = [os.path.commonpath(folders)]
    batch = _Batch(folders[0] if len(folders) == 1 else ".", target, options, on_event)
    for path in [path for path in paths if path.is_dir()]:
        batch.add(Skipped(input=paths.pop(path), reason="a directory; give it alone"))
    outputs = _output_paths(dict.fromkeys(paths, target), options)
    return batch.run({paths[path]: output for path, output in outputs.items()})


class _Batch:
    """One call of `upscale_directory` or `upscale_files`."""

    def __init__(self, input: str, target: Path, options: Options, on_event: OnEvent) -> None:
        find_model(options)  # what would fail for every file is reported once
        self._started = time.perf_counter()
        self._input = input
        self._target = target
        self._options = options
        self._on_event = on_event
        self._outcomes: list[Outcome] = []
        self._running = False

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, and send it as an event once it has begun; results were sent by their jobs."""
        self._outcomes.append(outcome)
        if self._running and not isinstance(outcome, Result):
            self._on_event(outcome)

    def run(self, outputs: dict[str, Path]) -> BatchResult:
        """Upscale every input to its output."""
        _check_outputs(outputs)
        options, on_event, count = self._options, self._on_event, len(outputs)
        # No more than there are files, nor than cores, which a second file could not use.
        jobs = 0 if options.cluster is not None else max(1, min(options.jobs, count, cores()))
        on_event(BatchStart(input=self._input, output=str(self._target), files=count, jobs=jobs))
        if jobs and jobs < min(options.jobs, count):
            message = f"{jobs} files at once: there are no more cores"
            on_event(Warned(input=self._input, message=message))
        self._running = True
        for outcome in self._outcomes:
            on_event(outcome)
        folders = _Folders(self._target)
        try:
            for outcome in self._work(self._tasks(outputs, folders), jobs):
                self.add(outcome)
        finally:
            folders.remove_empty()
        every = sorted(self._outcomes, key=lambda outcome: Path(outcome.input))
        summary = BatchResult(
            input=self._input,
            output=str(self._target),
            results=tuple(o for o in every if isinstance(o, Result)),
            skipped=tuple(o for o in every if isinstance(o, Skipped)),
            failed=tuple(o for o in every if isinstance(o, Failed)),
            seconds=time.perf_counter() - self._started,
        )
        on_event(summary)
        return summary

    def _work(self, tasks: Iterator[Task], jobs: int) -> Iterator[Outcome]:
        """Work on the tasks, which are read one by one; yields the outcome of each, as they end."""
        options, on_event = self._options, self._on_event
        if options.cluster is not None:
            from upscale.jobs.cluster.client import run_cluster

            pictures: list[Task] = []  # not worth a way over the network

            def videos() -> Iterator[Task]:
                for task in tasks:
                    if picture_format(task.input) is None:
                        yield task
                    else:
                        pictures.append(task)

            answers = run_cluster(videos(), options, on_event)
            outcomes = (outcome_of(a, t.input) if isinstance(a, Exception) else a for t, a in answers)
            return chain(outcomes, (attempt(task, options, on_event) for task in pictures))
        if jobs == 1:
            return (attempt(task, options, on_event) for task in tasks)
        from upscale.jobs.processes import run_processes

        return run_processes(tasks, jobs, with_fixed_backend(options), on_event)

    def _tasks(self, outputs: dict[str, Path], folders: _Folders) -> Iterator[Task]:
        """The files that need work; each is checked just before its turn."""
        for name, output in outputs.items():
            if self._options.skip_existing and not self._options.overwrite and output.exists():
                self.add(Skipped(input=name, reason="done already"))
                continue
            try:
                folders.make(output.parent)
            except OutputError as error:
                self.add(outcome_of(error, name))
            else:
                yield Task(name, str(output))


def _folders(input: str, output: str | os.PathLike[str] | None, options: Options) -> tuple[Path, Path]:
    """The directory to read and the one to write."""
    root = Path(input)
    if not root.is_dir():
        raise UsageError("not a directory", path=input)
    target = Path(output) if output is not None else _default_folder(root, options)
    must = "the input is a directory, so the output must be one"
    if target.exists() and not target.is_dir():
        raise UsageError(must, path=str(target))
    if not target.exists() and target.suffix[1:].lower() in naming.EXTENSIONS:
        raise UsageError(f"{must}: {target.name} looks like a file", path=input)
    if target.exists() and target.samefile(root):
        raise UsageError("input and output are the same directory", path=input)
    return root, target


def _default_folder(root: Path, options: Options) -> Path:
    named = root.resolve()  # so that "." and ".." have a name
    if not named.name:
        raise UsageError("name an output directory", path=str(root))
    return (root.parent if root.name else named.parent) / f"{named.name}{naming.suffix(options)}"


def _sources(root: Path, target: Path, recursive: bool, batch: _Batch) -> Iterator[Path]:
    """Regular files with one of the extensions, the output directory left out; unreadable folders fail."""

    def unreadable(error: OSError) -> None:
        message = f"cannot be read: {error.strerror or error}"
        batch.add(Failed(input=as_file(str(error.filename)), message=message, exit_code=1))

    for folder, subfolders, names in os.walk(root, followlinks=False, onerror=unreadable):
        here = Path(folder)
        subfolders[:] = sorted(
            s for s in subfolders if recursive and (here / s).resolve() != target and not is_work_folder(s)
        )
        for name in names:
            path = here / name
            if path.suffix[1:].lower() not in naming.EXTENSIONS or name.startswith("."):
                continue
            try:
                if path.is_file():
                    yield path
            except OSError as error:  # a folder that may be listed, but not entered
                unreadable(error)


def _output_paths(folders: dict[Path, Path], options: Options) -> dict[Path, Path]:
    """Input → ``folder/name.ext``, of input → folder.

    Where the extension had to change and the name is then another input's, the input's whole name
    goes before the new extension, so that no output depends on the order of the inputs.
    """
    wanted = {}
    for path, folder in folders.items():
        ending, _ = naming.extension(str(path), options)
        wanted[path] = folder / f"{path.stem}.{ending}"
    keepers = {output for path, output in wanted.items() if output.name == path.name}
    counts = Counter(wanted.values())
    for path, output in wanted.items():
        if output.name != path.name and (output in keepers or counts[output] > 1):
            wanted[path] = output.with_name(f"{path.name}{output.suffix}")
    return wanted


def _check_outputs(outputs: dict[str, Path]) -> None:
    """Refuse outputs that would replace one of the inputs, or each other.

    Raises:
        UsageError: names both files.
    """
    inputs: dict[tuple[int, int], str] = {}
    for name in outputs:
        with suppress(OSError):
            inputs[_identity(name)] = name
    writers: dict[Path, str] = {}
    for name, output in outputs.items():
        if output in writers:
            raise UsageError(f"{name} and {writers[output]} would both be written to {output}")
        writers[output] = name
        with suppress(OSError):
            if (victim := inputs.get(_identity(output))) is not None:
                raise UsageError(
                    f"the output would replace {victim}, which is an input too", path=str(output)
                )


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


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
