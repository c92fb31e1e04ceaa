"""Locks end with their process, and files that we open are plain ones (`upscale.system.locks`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from upscale.system.locks import is_still, open_plain, try_lock


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = open_plain(path, os.O_CREAT | os.O_RDWR)
    second = open_plain(path, os.O_RDWR)
    assert try_lock(first)
    assert not try_lock(second)
    os.close(first)
    assert try_lock(second)
    os.close(second)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="Too many levels"):
        open_plain(str(tmp_path / "link"), os.O_RDWR)


def test_files_are_opened_as_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: on Windows the journal of a long job was opened as text, which makes "\\r\\n" of "\\n"."""
    given: list[int] = []
    monkeypatch.setattr(os, "O_BINARY", 1 << 40, raising=False)
    monkeypatch.setattr(os, "open", lambda path, flags, mode: given.append(flags) or 3)
    open_plain(str(tmp_path / "x"), os.O_RDWR)
    assert given[0] & (1 << 40)


def test_a_removed_file_is_not_still_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    handle = open_plain(str(path), os.O_CREAT | os.O_RDWR)
    assert is_still(handle, str(path))
    path.unlink()
    assert not is_still(handle, str(path))
    os.close(handle)
