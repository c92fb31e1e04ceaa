"""The bench: its content, its child processes and its figures.

Covers content, machine, measure, peers, predict and stages.
"""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MakeClip
from foreign_onnx import write_rgb_network
from networks import FULL, write_model

from upscale import Options, UpscaleError, UsageError
from upscale.bench import content, machine, measure, peers, stages
from upscale.bench.peers import PeerConfig, compare_peers
from upscale.bench.predict import predict
from upscale.cli.bench import bench as command
from upscale.cli.bench import bench_table, peers_table, prediction_text
from upscale.errors import MediaError


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
    for one in (base, row):
        assert one["times_floor"] == pytest.approx(one["floor_fps"] / one["pipeline_fps"])
    assert row["times_baseline"] == pytest.approx(base["pipeline_fps"] / row["pipeline_fps"])
    assert row["peak_memory"] > 20e6
    assert "nonsense" in wrong["error"]
    assert len(seen) == 3
    json.dumps(report)
    text = bench_table(report["rows"])
    assert "lanczos" in text
    assert "failed" in text
    assert text.splitlines()[0].endswith("x floor")


def test_the_floor_is_the_same_frames_in_plain_threads(tmp_path: Path) -> None:
    """Issue 17: what our own threads cost on top of decoder, swscale and encoder stays seen."""
    clip = tmp_path / "clip.mkv"
    content.write_clip(clip, 128, 96, 30)
    assert stages.floor_fps(str(clip), (256, 192), 1) > 1
    (tmp_path / "no.mkv").write_text("no video")
    with pytest.raises(UpscaleError):
        stages.floor_fps(str(tmp_path / "no.mkv"), (256, 192), 1)


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
    """Ours come first and the first is the measure of the others; networks of RGB are fed RGB."""
    write_model(tmp_path, FULL)
    write_rgb_network(tmp_path / "rgb.onnx")
    config = PeerConfig(folder=tmp_path, models=("gan", "fast"), size=(160, 90), rounds=3)
    rows = compare_peers(config)["rows"]
    assert [(r["name"], r["runtime"]) for r in rows if r["runtime"] == "onnx fp32"] == [
        ("gan", "onnx fp32"), ("fast", "onnx fp32"), ("net", "onnx fp32"), ("rgb", "onnx fp32"),
    ]  # fmt: skip
    assert {r["name"] for r in rows if "int8" in r["runtime"]} == {"gan", "fast"}
    assert rows[0]["times_ours"] == 1
    assert all(r["cpu_seconds"] > 0 and r["milliseconds"] > 0 for r in rows)
    assert {r["psnr"] for r in rows} == {None}


def test_times_are_medians_and_their_ratios_those_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another load in the second round slows all networks of that round, and changes no ratio."""
    clock = {"now": 0.0, "round": 0}

    def run(seconds: float) -> None:
        clock["now"] += seconds * (5 if int(clock["round"]) == peers._WARM_UP + 1 else 1)

    def last(seconds: float) -> None:
        run(seconds)
        clock["round"] += 1 / 4  # of the four pictures of a turn

    monkeypatch.setattr(peers, "cores", lambda: 1)
    monkeypatch.setattr(peers.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(peers.time, "process_time", lambda: 2 * clock["now"])
    other = peers._Contender("other", "onnx fp32", None, last, [0.25])
    first, second = peers._timed([peers._Contender("gan", "onnx fp32", None, run, [0.5]), other], rounds=3)
    assert (first.milliseconds, first.cpu_seconds, first.times_ours) == (500, 1, 1)
    assert (second.milliseconds, second.cpu_seconds, second.times_ours) == (250, 0.5, 0.5)


def test_peers_are_scored_on_a_clip(tmp_path: Path, samples: Path) -> None:
    """Every network sees the same compressed frames; a network of RGB makes its own colour."""
    write_rgb_network(tmp_path / "rgb.onnx")
    config = PeerConfig(
        folder=tmp_path,
        models=("fidelity",),
        precision="fp32",
        backend="onnx",
        clip=samples / "bee_360p.mp4",
        frames=3,
        rounds=1,
    )
    seen: list[str] = []
    report = compare_peers(config, ["psnr", "ssim"], seen.append)
    assert seen == ["times", "fidelity (onnx fp32)", "lanczos (swscale)", "rgb (onnx fp32)"]
    scores = {r["name"]: r["psnr"] for r in report["rows"]}
    assert scores["fidelity"] > scores["lanczos"] > scores["rgb"] + 0.5
    assert all(0.5 < r["ssim"] < 1 and r["lpips"] is None for r in report["rows"])
    text = peers_table(json.loads(json.dumps(report))["rows"])
    assert text.splitlines()[0].split()[-2:] == ["PSNR-Y", "SSIM"]


def test_peers_need_files(tmp_path: Path, make_clip: MakeClip) -> None:
    with pytest.raises(UsageError, match=r"no \*\.onnx"):
        compare_peers(PeerConfig(folder=tmp_path))
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(MediaError, match="moov atom not found"):
        compare_peers(PeerConfig(folder=tmp_path, clip=tmp_path / "text.mp4"))


def test_a_peer_called_like_one_of_ours_is_refused(tmp_path: Path) -> None:
    """It once ended in an internal error where a clip was scored."""
    write_rgb_network(tmp_path / "fast.onnx")
    with pytest.raises(UsageError, match="another method here is called fast: rename this file"):
        compare_peers(PeerConfig(folder=tmp_path, models=("fast",), backend="onnx", precision="fp32"))


def test_clip_without_peers_is_refused() -> None:
    result = CliRunner().invoke(command, ["--clip", "x.mp4"], standalone_mode=False)
    assert isinstance(result.exception, UsageError)
