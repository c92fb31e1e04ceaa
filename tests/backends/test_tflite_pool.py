"""LiteRT's interpreters: each size has its own, and there are not too many (tflite)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from networks import TINY, write_model

from upscale import backends
from upscale.backends import tflite as module
from upscale.backends.tflite import TfliteBackend


@pytest.fixture
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TfliteBackend]:
    if backends.available()["tflite"] is not None:
        pytest.skip("needs LiteRT")
    model = write_model(tmp_path_factory.mktemp("tiny"), TINY)
    with backends.load("tflite", model, threads=1) as loaded:
        assert isinstance(loaded, TfliteBackend)
        yield loaded


@pytest.fixture
def resized(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes to which interpreters were set anew."""
    sizes: list[tuple[int, int]] = []
    original = module._Interpreter.resize

    def resize(self: module._Interpreter, size: tuple[int, int]) -> None:
        if self.size != size:
            sizes.append(size)
        original(self, size)

    monkeypatch.setattr(module._Interpreter, "resize", resize)
    return sizes


def test_sizes_that_come_again_are_prepared_once(
    backend: TfliteBackend, resized: list[tuple[int, int]]
) -> None:
    """Regression: a large crop took the interpreter of the whole picture; both were set up anew each time,
    half as long again as they took to compute."""
    for _ in range(5):
        for size in ((360, 640), (300, 400), (48, 56), (64, 48)):
            backend(np.zeros(size, np.uint8))
    assert len(resized) == 4


def test_what_is_kept_is_bounded(backend: TfliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE_PIXELS", 10_000)
    for height in range(16, 96, 4):
        backend(np.zeros((height, 100), np.uint8))
    kept = [one.pixels for one in backend._idle]
    assert sum(kept) <= 92 * 100 + 10_000
    assert backend._idle[-1].size == (92, 100)


def test_a_smaller_video_after_a_large_one_is_kept_too(
    backend: TfliteBackend, resized: list[tuple[int, int]]
) -> None:
    for size in ((180, 320), (90, 160), (90, 160)):
        backend(np.zeros(size, np.uint8))
    assert resized == [(180, 320), (90, 160)]
