"""A directory in, a directory out."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from upscale import naming
from upscale.errors import Interrupted, LargeEnough, NoVideo, OutputError, UpscaleError, UsageError
from upscale.events import BatchResult, BatchStart, Failed, OnEvent, Result, Skipped, ignore
from upscale.jobs.workfolder import is_work_folder
from upscale.options import Options
from upscale.pipeline import find_model, upscale_file


def upscale_directory(
    input: str, output: str | None = None, options: Options | None = None, on_event: OnEvent = ignore
) -> BatchResult:
    """Upscale every video of a directory, one after the other.

    Which files are looked at is decided by their extension (`upscale.naming.VIDEO_EXTENSIONS`).
    Outputs get their input's own name; those that are there already are skipped unless
    `options.overwrite` is set or `options.skip_existing` is not. With `options.recursive`,
    subfolders are mirrored. Symbolic links to directories are not followed. What is no regular file
    is left out, and files without video and those that are large enough are skipped. One bad file
    does not stop the others.

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
    on_event(BatchStart(input=input, output=str(target), files=len(found)))
    results: list[Result] = []
    skipped: list[Skipped] = []
    failed: list[Failed] = []
    for path, place in _output_paths(found, root, target, options).items():
        outcome = _one(path, place, options, on_event)
        match outcome:
            case Result():
                results.append(outcome)
            case Skipped():
                skipped.append(outcome)
                on_event(outcome)
            case Failed():
                failed.append(outcome)
                on_event(outcome)
    summary = BatchResult(
        input=input,
        output=str(target),
        results=tuple(results),
        skipped=tuple(skipped),
        failed=tuple(failed),
        seconds=time.perf_counter() - started,
    )
    on_event(summary)
    return summary


def _folders(input: str, output: str | None, options: Options) -> tuple[Path, Path]:
    """The directory to read and the one to write, if they can be meant."""
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


def _one(path: Path, output: Path, options: Options, on_event: OnEvent) -> Result | Skipped | Failed:
    name = str(path)
    if options.skip_existing and not options.overwrite and output.exists():
        return Skipped(input=name, reason="done already")
    outcome: Skipped | Failed
    made = not output.parent.exists()
    try:
        _make_folder(output.parent)
        return upscale_file(name, str(output), options, on_event)
    except Interrupted:
        raise
    except (LargeEnough, NoVideo) as error:
        outcome = Skipped(input=name, reason=str(error))
    except UpscaleError as error:
        outcome = Failed(input=name, message=str(error), exit_code=error.exit_code)
    except Exception as error:  # a fault of ours in one file must not cost the user the others
        outcome = Failed(input=name, message=f"internal error: {error!r}", exit_code=1)
    if made:
        with suppress(OSError):  # not empty
            output.parent.rmdir()
    return outcome


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or str(error), path=str(folder)) from error
