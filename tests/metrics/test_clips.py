"""Scoring: sets of pairs, compressed clips, and the command. Covers clips and meter."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from upscale.cli.score import score as command
from upscale.errors import MediaError, UsageError
from upscale.metrics.clips import lanczos, score_clip, score_set
from upscale.metrics.meter import Meter
from upscale.train.degrade import halve

SAMPLES = Path(__file__).parents[2] / "samples"


def _png(path: Path, gray: np.ndarray) -> None:
    rgb = np.repeat(gray[:, :, None], 3, axis=2)
    with av.open(str(path), "w", format="image2") as out:
        stream = out.add_stream("png")
        stream.height, stream.width = gray.shape
        stream.pix_fmt = "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two real luma pictures of the samples as *_HR.png and *_LR.png."""
    with av.open(str(SAMPLES / "bee_360p.mp4")) as container:
        for n, frame in zip(range(2), container.decode(video=0), strict=False):
            high = np.ascontiguousarray(frame.to_ndarray(format="gray")[: 180 + n, :260])
            _png(tmp_path / f"{n}_HR.png", high)
            even = high[: high.shape[0] // 2 * 2]
            _png(tmp_path / f"{n}_LR.png", halve(even))
    return tmp_path


def test_set_scores_rank_methods(pairs: Path) -> None:
    def nearest(luma: np.ndarray, max_value: int) -> np.ndarray:
        return np.repeat(np.repeat(luma, 2, 0), 2, 1)

    good, bad = score_set(pairs, lanczos), score_set(pairs, nearest)
    assert len(good) == 2
    assert all(g.psnr > b.psnr + 1 and g.ssim > b.ssim for g, b in zip(good, bad, strict=True))


def test_empty_set(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no pairs"):
        score_set(tmp_path, lanczos)


def test_clip_scores_fall_with_crf() -> None:
    light, heavy = (
        score_clip(SAMPLES / "bee_360p.mp4", {"lanczos": lanczos}, crfs=(crf,), frames=4)[crf]["lanczos"]
        for crf in (12, 40)
    )
    assert light.psnr > heavy.psnr + 1


def test_command_ends_with_json(pairs: Path) -> None:
    """The bundled fidelity network beats lanczos on clean halves of a real clip."""
    result = CliRunner().invoke(command, ["fidelity", "--sets", str(pairs)], standalone_mode=False)
    assert result.exception is None
    means = json.loads(result.output.splitlines()[-1])[str(pairs)]
    assert means["fidelity"]["psnr"] > means["lanczos"]["psnr"] + 0.5


def test_clip_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several qualities, steadiness, and LPIPS of whole frames in colour on every n-th frame only."""

    class Distance:
        """Stands in for LPIPS: the mean of the picture is its only feature."""

        def eval(self) -> Distance:
            return self

        def features(self, rgb: torch.Tensor) -> list[torch.Tensor]:
            seen.append(tuple(rgb.shape))
            return [rgb.mean((2, 3))]

        def distance(self, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
            return (a[0] - b[0]).abs().sum(1)

    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr("upscale.metrics.meter.load_lpips", Distance)
    meter = Meter(["psnr", "lpips", "flicker"], every=2)
    methods = {"lanczos": lanczos, "dark": lambda luma, limit: lanczos(luma, limit) // 2}
    found = score_clip(SAMPLES / "bee_360p.mp4", methods, crfs=(20, 35), frames=4, meter=meter)
    assert list(found) == [20, 35]
    assert len(seen) == 2 + 2 * 2 * 2  # the truth once for all methods and qualities
    assert set(seen) == {(1, 3, 360, 640)}
    for scores in found.values():
        assert scores["dark"].lpips > scores["lanczos"].lpips
        assert scores["lanczos"].flicker is not None
        assert scores["lanczos"].ssim is None
    assert found[20]["lanczos"].psnr > found[35]["lanczos"].psnr


def test_unknown_measure() -> None:
    with pytest.raises(UsageError, match="no measure 'beauty'"):
        Meter(["beauty"])


def test_command_scores_clips(tmp_path: Path) -> None:
    """Means by quality on the last line, every clip's figures in the file."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "bee.mp4").write_bytes((SAMPLES / "bee_360p.mp4").read_bytes())
    args = ["bicubic", "--clips", str(tmp_path / "clips"), "--frames", "2", "--crf", "20", "--crf", "30"]
    args += ["--measure", "psnr", "--measure", "flicker", "-o", str(tmp_path / "all.json")]
    result = CliRunner().invoke(command, args, standalone_mode=False)
    assert result.exception is None
    means = json.loads(result.output.splitlines()[-1])
    assert [title.split()[-1] for title in means] == ["20", "30"]
    details = json.loads((tmp_path / "all.json").read_text())
    for title, by_name in means.items():
        assert set(by_name) == {"lanczos", "bicubic"}
        assert details[title]["bicubic"]["bee.mp4"] == by_name["bicubic"]
        assert set(by_name["lanczos"]) == {"psnr", "flicker"}
