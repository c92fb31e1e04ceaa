"""A short soak; the figures come from the long one, ``python tests/soak.py``."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import soak

from upscale import Options


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_is_left_behind_by_opens_jobs_and_a_long_video() -> None:
    """Descriptors, threads and memory in all; a slope over so short a run would be noise."""
    reports: list[dict[str, Any]] = []
    size = soak.Size(opens=200, jobs=16, seconds=240)
    options = Options(model="fast", backend="onnx", scale=2)
    found = soak.soak(size, options, lambda line: reports.append(json.loads(line)))
    assert [f for f in found if "per 10 minutes" not in f] == []
    assert [r["phase"] for r in reports] == ["opens", "jobs", "video"]
    assert reports[0]["refused"] > 100
    assert reports[1]["damaged"] == 3
    assert reports[2]["frames"] == 240 * soak.RATE
    assert reports[2]["growth_MB"] < soak.GROWTH_LIMIT
