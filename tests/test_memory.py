"""Memory that jobs leave behind."""

from __future__ import annotations

import gc
from pathlib import Path

import av
import pytest
from conftest import MakeClip

from upscale import Options, memory, upscale_file


@pytest.mark.skipif(memory._trim() is None, reason="only glibc keeps memory and has malloc_trim")
def test_a_job_gives_memory_back(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: 40 jobs in one process left 360 MB resident, of which 130 MB were in use."""
    calls: list[int] = []
    trim = memory._trim()
    assert trim is not None
    monkeypatch.setattr(memory, "_trim", lambda: lambda keep: calls.append(trim(keep)))
    clip = make_clip(tmp_path / "in.mp4")
    upscale_file(str(clip), str(tmp_path / "out.mp4"), Options(model="lanczos"))
    assert calls


@pytest.mark.parametrize("model", ["lanczos", "fast"])
def test_nothing_of_a_finished_job_waits_for_the_garbage_collector(
    model: str, tmp_path: Path, make_clip: MakeClip
) -> None:
    """Guards: circles of references kept decoder, network and frames of a dozen jobs, and of a long one
    every frame whose side data somebody had looked at."""
    clip = make_clip(tmp_path / "in.mp4")
    gc.collect()
    gc.disable()
    try:
        upscale_file(str(clip), str(tmp_path / "out.mp4"), Options(model=model, backend="onnx"))
        objects = gc.get_objects()
        kept = {type(o).__name__ for o in objects}
        pictures = [o.width for o in objects if isinstance(o, av.VideoFrame)]
    finally:
        gc.enable()
    assert not kept & {"Source", "Reader", "Sink", "FrameUpscaler", "_Job", "_Loop"}
    assert [w for w in pictures if w > 16] == []
