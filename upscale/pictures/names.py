"""Names with a number in them: ``frames/%04d.png`` stands for 0001.png, 0002.png and so on."""

from __future__ import annotations

import os
import re

from upscale.errors import MediaError
from upscale.media.input.stills import PICTURE_EXTENSIONS

_NUMBER = re.compile(r"%(?:0(\d))?d")


def is_numbered(path: str) -> bool:
    """Whether a name stands for numbered pictures; a file that is really called so is meant itself."""
    name = os.path.basename(path)
    ending = os.path.splitext(name)[1][1:].lower()
    return ending in PICTURE_EXTENSIONS and len(_NUMBER.findall(name)) == 1 and not os.path.exists(path)


def numbered_name(pattern: str, number: int) -> str:
    """The name of one picture."""
    folder, name = os.path.split(pattern)
    return os.path.join(folder, _NUMBER.sub(lambda found: f"{number:0{found[1] or 1}d}", name))


def numbered_files(pattern: str) -> list[str]:
    """The files that a pattern stands for, by their numbers; gaps are allowed.

    Raises:
        MediaError: there are none, or the folder cannot be read.
    """
    folder, name = os.path.split(pattern)
    before, _, after = _NUMBER.split(name)
    wanted = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    try:
        matches = map(wanted.fullmatch, os.listdir(folder or os.curdir))
        numbers = {int(found[1]) for found in matches if found}
    except OSError as error:
        raise MediaError(error.strerror or str(error), path=folder) from None
    files = [numbered_name(pattern, number) for number in sorted(numbers)]
    files = [path for path in files if os.path.isfile(path)]
    if not files:
        raise MediaError(f"there are no pictures called so ({numbered_name(pattern, 1)}, ...)", path=pattern)
    return files
