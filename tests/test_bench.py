"""The bench: its content, its child processes and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import MakeClip
from networks import FULL, write_model
from onnx import TensorProto, helper

from upscale import Options, UpscaleError, UsageError
from upscale.bench import content, machine, measure
from upscale.bench.peers import time_peers
from upscale.bench.predict import predict
from upscale.cli.bench import bench_table, prediction_text


def test_content_is_the_same_every_time_and_moves() -> None:
    first, second = ([f.to_ndarray() for f in content.pictures(128, 96, 3)] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)
    assert np.abs(first[0].astype(int) - first[2]).mean() > 1


def test_content_is_about_as_hard_to_code_as_a_filmed_clip(tmp_path: Path, samples: Path) -> None:
    """Black or still frames would make the decoder and the encoder look faster than they are."""
    clip = tmp_path / "clip.mkv"
    content.write_clip(clip, 640, 360, 60)
    with av.open(str(samples / "bee_360p.mp4")) as container:
        real = sum(p.size for p in container.demux(video=0)) / 90
    assert 0.3 < clip.stat().st_size / 60 / real < 3


def test_a_child_is_measured(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    content.write_clip(clip, 128, 96, 30)
    done = machine.measure(["upscale.bench.stages", "decode", json.dumps([str(clip), 1])])
    assert done.output > 1
    assert done.peak_memory is not None
    assert 10e6 < done.peak_memory < 1e9


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(UpscaleError, match="No such file"):
        machine.measure(["upscale", "nowhere.mp4", "--model", "lanczos"])


@pytest.mark.slow
def test_bench_compares_a_backend_with_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SIZES", {(128, 96): (256, 192)})
    monkeypatch.setattr(measure, "_TARGET", ["--scale", "2"])
    seen: list[measure.Row] = []
    config = measure.BenchConfig(backends=("onnx", "nonsense"), threads=(1,), frames=30, runs=1)
    report = measure.bench(config, seen.append)
    base, row, wrong = report["rows"]
    assert base["model"] == "lanczos"
    assert base["times_baseline"] == 1
    assert row["backend"] == "onnx"
    for name in ("decode_fps", "network_fps", "encode_fps", "pipeline_fps", "cpu_seconds_per_frame"):
        assert row[name] > 0
    assert row["times_baseline"] == pytest.approx(base["pipeline_fps"] / row["pipeline_fps"])
    assert row["peak_memory"] > 20e6
    assert "nonsense" in wrong["error"]
    assert len(seen) == 3
    json.dumps(report)
    text = bench_table(report["rows"])
    assert "lanczos" in text
    assert "failed" in text


def test_a_prediction_for_a_short_file_is_the_whole_job(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    found = predict(str(clip), Options(model="lanczos"))
    assert found.frames == found.measured_frames == 10
    assert found.seconds is not None
    assert "10 frames would take about" in prediction_text(found)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_prediction_for_a_long_file_stops_early(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale.bench.predict._WARM_UP", 0.2)
    monkeypatch.setattr("upscale.bench.predict._COUNTED", 0.4)
    clip = make_clip(tmp_path / "clip.mp4", size=(320, 240), frames=600)
    found = predict(str(clip), Options(model="lanczos", target="2160p"))
    assert found.frames == 600
    assert 0 < found.measured_frames < 600
    assert found.seconds is not None
    assert found.seconds > found.frames / found.fps


def test_peers_are_timed_beside_ours(tmp_path: Path) -> None:
    """Ours comes first and is the measure of the others; three-channel networks are fed three channels."""
    write_model(tmp_path, FULL)
    rgb = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "rgb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "h", "w"])],
    )
    opset = [helper.make_opsetid("", 13)]
    (tmp_path / "rgb.onnx").write_bytes(
        helper.make_model(rgb, ir_version=7, opset_imports=opset).SerializeToString()
    )
    ours, peer, identity = time_peers(tmp_path, size=(320, 180), rounds=3)
    assert (ours.times_ours, peer.name, identity.name) == (1.0, "net", "rgb")
    assert identity.times_ours < 0.5


def test_peers_need_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \*\.onnx"):
        time_peers(tmp_path)
