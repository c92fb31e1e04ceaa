"""Fault 75: a checkpoint that is being written when the power goes. 72 to 74 are in test_train_cli.py."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from upscale.model.config import GeneratorConfig
from upscale.model.generator import Generator
from upscale.train import checkpoint

pytestmark = pytest.mark.timeout(90)

CONFIG = GeneratorConfig(1, 8, 1)
_SCRIPT = """
import os, signal, sys
from pathlib import Path
from upscale.model.config import GeneratorConfig
from upscale.model.generator import Generator
from upscale.system import safe_file
from upscale.train import checkpoint

def torn(file):
    if {half}:
        os.truncate(file.path, os.path.getsize(file.path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)

safe_file.SafeFile.commit = torn
checkpoint.save(Path({path!r}), {{"generator": Generator(GeneratorConfig(1, 8, 1))}}, {{}}, {{"step": 2}})
"""


@pytest.mark.parametrize("half", [True, False])
def test_75_kill_9_while_a_checkpoint_is_written(half: bool, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    torch.manual_seed(0)
    before = Generator(CONFIG)
    checkpoint.save(path, {"generator": before}, {}, {"step": 1})
    data = path.read_bytes()
    script = _SCRIPT.format(half=half, path=str(path))
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == data
    after = Generator(CONFIG)
    assert checkpoint.load(path, {"generator": after})["step"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    checkpoint.save(path, {"generator": after}, {}, {"step": 2})  # what was left behind is in nobody's way
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]
