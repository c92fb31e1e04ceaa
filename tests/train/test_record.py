"""The log of a run: JSON lines, TensorBoard's event files, and both after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from upscale.errors import OutputError
from upscale.train.record import Logbook


def _events(run: Path) -> list[Event]:
    """Every event, read from the record format by hand; the checksums must fit."""
    found = []
    for path in sorted((run / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            body = data[12 : 12 + length]
            assert int.from_bytes(data[8:12], "little") == masked_crc32c(data[:8])
            assert int.from_bytes(data[12 + length : 16 + length], "little") == masked_crc32c(body)
            found.append(Event.FromString(body))
            data = data[16 + length :]
    return found


def _lines(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_lines_and_curves(tmp_path: Path) -> None:
    log = Logbook(tmp_path)
    log.scalars(1, {"stage": "gan", "losses": {"pixel": 0.5, "adversarial": float("nan")}, "rate": 2})
    log.picture(1, "crops", np.zeros((4, 6, 3), np.uint8))
    log.close()
    assert _lines(tmp_path) == [
        {"step": 1, "stage": "gan", "losses": {"pixel": 0.5, "adversarial": None}, "rate": 2}
    ]
    values = {v.tag: v for e in _events(tmp_path) for v in e.summary.value}
    assert set(values) == {"losses/pixel", "rate", "crops"}
    assert values["losses/pixel"].simple_value == 0.5
    assert values["crops"].image.width == 6
    assert values["crops"].image.encoded_image_string.startswith(b"\x89PNG")


def test_resume_takes_back_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    """After kill -9 the log is ahead of the checkpoint, and its last line may be torn."""
    log = Logbook(tmp_path)
    for step in (10, 20, 30):
        log.scalars(step, {"loss": 1.0})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as f:
        f.write('{"step": 40, "lo')
    log = Logbook(tmp_path, resume_step=20)
    log.scalars(30, {"loss": 2.0})
    log.close()
    assert [(e["step"], e["loss"]) for e in _lines(tmp_path)] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    # TensorBoard drops older events from the step of a START on.
    assert [e.step for e in _events(tmp_path) if e.HasField("session_log")] == [21]


def test_a_new_run_starts_empty(tmp_path: Path) -> None:
    for _ in range(2):
        log = Logbook(tmp_path)
        log.scalars(10, {"loss": 1.0})
        log.close()
    assert len(_lines(tmp_path)) == 1
    assert sum(bool(e.summary.value) for e in _events(tmp_path)) == 1


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="exists"):
        Logbook(tmp_path / "run")
