"""The processor's name, its cores, and their division (`upscale.system.cores`)."""

from __future__ import annotations

import os

import pytest

from upscale.system.cores import MAX_WORKERS, cores, plan_threads, processor


def test_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_the_processor_has_a_name_on_one_line() -> None:
    assert processor() == processor().strip()
    assert "\n" not in processor()


@pytest.mark.parametrize(
    ("threads", "workers", "per_call"), [(1, 1, 1), (3, 3, 1), (0, 1, 1), (64, MAX_WORKERS, 8)]
)
def test_threads_go_to_frames_first(threads: int, workers: int, per_call: int) -> None:
    plan = plan_threads(threads)
    assert (plan.workers, plan.per_call) == (workers, per_call)
