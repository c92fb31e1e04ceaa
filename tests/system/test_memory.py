"""Memory that jobs leave behind."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import av
import pytest
from conftest import MakeClip

from upscale import Options, upscale_file
from upscale.system import memory


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
    before = held()
    gc.disable()
    try:
        upscale_file(str(clip), str(tmp_path / "out.mp4"), Options(model=model, backend="onnx"))
        assert held() - before == Counter()
    finally:
        gc.enable()


def held() -> Counter[str]:
    """How many objects of the kinds that a job is made of there are, pictures of some size among them."""
    kinds = {"Source", "PartSource", "Reader", "Sink", "FrameUpscaler", "Loop", "OrderedMap"}
    objects = gc.get_objects()
    # No isinstance: it would ask every object for its class, and some of other packages warn then.
    pictures = sum(type(o) is av.VideoFrame and o.width > 16 for o in objects)
    return Counter(n for n in (type(o).__name__ for o in objects) if n in kinds) + Counter(pictures=pictures)
