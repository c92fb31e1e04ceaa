"""The bounded ordered parallel map."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from upscale.job.parallel import OrderedMap


def test_results_come_in_source_order_though_later_items_finish_first() -> None:
    def work(n: int) -> int:
        time.sleep(0.02 if n % 2 == 0 else 0.0)
        return n * 10

    with OrderedMap(range(20), work, workers=4, depth=6) as stages:
        assert list(stages) == [n * 10 for n in range(20)]
    assert stages.finished


def test_passed_items_keep_their_place_and_are_not_worked_on() -> None:
    source = [1, "a", 2, "b", "c", 3]
    with OrderedMap(
        source, lambda n: n + 1, workers=2, depth=2, passes=lambda i: isinstance(i, str)
    ) as stages:
        assert list(stages) == [2, "a", 3, "b", "c", 4]


def test_a_slow_consumer_bounds_how_far_the_source_is_read() -> None:
    """Guards constant memory: frames must not pile up before a slow encoder."""
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for n in range(100):
            read = n + 1
            yield n

    with OrderedMap(source(), lambda n: n, workers=2, depth=4) as stages:
        for seen, _ in enumerate(stages):
            time.sleep(0.005)
            # depth items between source and consumer, and one that the source waits to hand over
            assert read <= seen + 4 + 1
            if seen == 20:
                break
    assert read < 30


def test_passed_items_are_bounded_too() -> None:
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for n in range(1000):
            read = n + 1
            yield "packet"

    with OrderedMap(
        source(), lambda n: n, workers=1, depth=1, passes=lambda i: True, passing_depth=8
    ) as stages:
        next(iter(stages))
        time.sleep(0.05)
    assert read <= 8 + 2


def test_an_error_in_work_is_raised_at_its_place() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        return n

    seen = []
    with pytest.raises(ValueError, match="three"), OrderedMap(range(10), work, workers=3, depth=5) as stages:
        for n in stages:
            seen.append(n)
    assert seen == [0, 1, 2]


def test_an_error_of_the_source_is_raised_after_what_came_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("read error")

    seen = []
    with (
        pytest.raises(OSError, match="read error"),
        OrderedMap(source(), lambda n: n, workers=2, depth=3) as stages,
    ):
        for n in stages:
            seen.append(n)
    assert seen == [1, 2]


def test_leaving_early_stops_every_thread() -> None:
    def source() -> Iterator[int]:
        n = 0
        while True:
            yield n
            n += 1

    before = threading.active_count()
    with OrderedMap(source(), lambda n: n, workers=3, depth=4) as stages:
        assert next(iter(stages)) == 0
    assert stages.finished
    assert threading.active_count() == before


def test_a_source_that_hangs_is_reported_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards Ctrl-C while stdin is silent: the source must not be closed under its thread."""
    monkeypatch.setattr("upscale.job.parallel._PRODUCER_GRACE", 0.05)
    release = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        release.wait(10)
        yield 2

    begun = time.monotonic()
    with OrderedMap(source(), lambda n: n, workers=1, depth=2) as stages:
        assert next(iter(stages)) == 1
    assert not stages.finished
    assert time.monotonic() - begun < 2
    release.set()


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"depth": 0}, {"passing_depth": 0}])
def test_bounds_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        OrderedMap([], lambda n: n, **{"workers": 1, "depth": 1, **wrong})
