"""Small files of a run: whole, or as they were."""

from __future__ import annotations

from pathlib import Path

from upscale.system.safe_file import SafeFile, write_error


def write_whole(path: Path, data: bytes | str) -> None:
    """Replace a file; text is UTF-8.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    with SafeFile(str(path), overwrite=True) as file:
        try:
            Path(file.path).write_bytes(data.encode() if isinstance(data, str) else data)
        except OSError as error:
            raise write_error(error, str(path)) from error
        file.commit()
