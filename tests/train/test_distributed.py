"""Several processes train as one does with their batches together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from upscale.errors import TrainError
from upscale.train.config import Stage, TrainConfig
from upscale.train.distributed import Group, joined, launched
from upscale.train.loop import Hooks, Progress, train_stages
from upscale.train.recipe import override, to_toml
from upscale.train.record import run_step

TINY = TrainConfig(
    channels=8, body=1, expand=2, threads=1, bf16=False, validate_every=6, checkpoint_every=100,
    stages=(
        Stage(name="near", iterations=18, batch=4, patch=32, warm_up=5),
        Stage(
            name="look", iterations=12, batch=4, patch=16, warm_up=5, adversarial="hinge",
            losses={"pixel": 1.0, "adversarial": 0.01},
        ),
    ),
)  # fmt: skip


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _losses(run: Path) -> list[tuple[int, str, float]]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(e["step"], name, value) for e in entries[1:] for name, value in e["losses"].items()]


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one_with_twice_the_batch(tmp_path: Path, crops: Path) -> None:
    """The command under torchrun, gloo on the CPU; every loss here is a mean over crops."""
    (tmp_path / "tiny.toml").write_text(to_toml(TINY))
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--master-addr", "127.0.0.1", "--master-port", str(_free_port()),
        "-m", "upscale", "train", str(crops.parent / "clips"), "-o", str(tmp_path / "two"),
        "--crops", str(crops), "--recipe", str(tmp_path / "tiny.toml"),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1, "only one process prints the result"
    alone, one = override(TINY, {"batch": 8}), []

    def keep(report: Progress) -> None:
        step = run_step(alone, report.number, report.step)
        one.extend((step, name, value) for name, value in report.losses.items())

    train_stages(crops, tmp_path / "one", alone, hooks=Hooks(progress=keep))
    two = _losses(tmp_path / "two.run")
    assert [entry[:2] for entry in two] == [entry[:2] for entry in one]
    assert {name for _, name, _ in two} == {"pixel", "adversarial", "discriminator"}
    assert [e[2] for e in two] == pytest.approx([e[2] for e in one], abs=1e-5)
    first, last = (next(e[2] for e in part if e[1] == "pixel") for part in (one, reversed(one)))
    assert abs(first - last) > 1e-3, "nothing was learned: the curves would agree anyway"


OTHER = """
import os, torch
from upscale.train.distributed import joined
with joined() as group:
    p, q = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))
    p.grad = torch.tensor([3.0, 5.0, 7.0])
    group.average_gradients([p, q])
    assert p.grad.tolist() == [2.0, 3.0, 4.0]
    assert group.mean({"loss": 3.0}) == {"loss": 2.0}
    assert group.any(True)
    group.wait()
    try:
        group.check_same(7, "steps")
    except Exception as e:
        assert "different steps" in str(e)
    os._exit(9)
"""


def test_exchange_and_the_loss_of_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    for name, value in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    environment = os.environ | shared | {"RANK": "1", "LOCAL_RANK": "1"}
    with subprocess.Popen([sys.executable, "-c", OTHER], env=environment) as other, joined() as group:
        p, q = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))
        p.grad = torch.ones(3)
        group.average_gradients([p, q])
        assert p.grad.tolist() == [2.0, 3.0, 4.0]
        assert q.grad is None
        assert group.mean({"loss": 1.0}) == {"loss": 2.0}
        assert group.any(False)
        group.wait()
        with pytest.raises(TrainError, match="different steps"):
            group.check_same(8, "steps")
        assert other.wait(60) == 9
        with pytest.raises(TrainError, match="another process of this run was lost") as caught:
            group.average_gradients([p])
        assert "\n" not in str(caught.value)


def test_one_process_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined() as group:
        assert group == Group()
        assert group.writes
        assert group.mean({"loss": 3.0}) == {"loss": 3.0}
        assert not group.any(False)
        group.wait()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("a", "2"), ("-1", "2")])
def test_a_senseless_launch_is_refused(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(TrainError, match="RANK"):
        launched()
