"""Crops for training: kernels, codecs, moving sequences, the memory-mapped file and batches.

Covers upscale/train/{material,degrade,codecs,dataset,held_out,batches}.py.
"""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.conftest import write_clip
from upscale.errors import TrainError
from upscale.media.pixels.planes import plane_view
from upscale.metrics.psnr_ssim import psnr
from upscale.train import dataset, material
from upscale.train.batches import Sampler, make_batch, prefetch
from upscale.train.codecs import OTHERS, Coding, degrade, draw, draw_other, draw_x264, encode_decode
from upscale.train.config import DEGRADATIONS, HELD_OUT, SIX, Stage, TrainConfig
from upscale.train.degrade import KERNELS, LENSES, halve, halve_frame

SAMPLES = Path(__file__).parents[2] / "samples"
EVENLY = (1 / 6,) * 6


def imresize_half(picture: np.ndarray) -> np.ndarray:
    """MATLAB's imresize(x, 0.5) written down from its definition, one output sample at a time."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def one_axis(rows: np.ndarray) -> np.ndarray:
        n = len(rows)
        out = []
        for k in range(n // 2):
            centre = 2 * k + 0.5
            at = range(int(centre) - 4, int(centre) + 6)
            weights = np.array([0.5 * cubic(0.5 * (centre - j)) for j in at])
            mirrored = [(-j - 1) if j < 0 else (2 * n - 1 - j) if j >= n else j for j in at]
            out.append(np.tensordot(weights / weights.sum(), rows[mirrored], 1))
        return np.array(out)

    return one_axis(one_axis(picture.astype(float)).T).T


def test_halve_is_matlab_bicubic() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 44), dtype=np.uint8)
    expected = np.clip(np.rint(imresize_half(picture)), 0, 255)
    assert np.abs(halve(picture) - expected).max() <= 1  # rounding of exact halves
    assert np.mean(halve(picture) != expected) < 0.01


def _still(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG or JPEG, by the name."""
    codec, form = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj444p")
    with av.open(str(path), "w", format="image2") as out:
        stream = out.add_stream(codec, rate=1, options={"qmin": "2", "qmax": "2"} if codec == "mjpeg" else {})
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], form
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=form)
        frame.time_base, frame.pts = Fraction(1), 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _frame(luma: np.ndarray) -> av.VideoFrame:
    chroma = np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)
    return av.VideoFrame.from_ndarray(np.concatenate([luma, chroma]), format="yuv420p")


@pytest.mark.parametrize("kernel", ["matlab", *KERNELS, *LENSES])
def test_halving_keeps_position(kernel: str) -> None:
    """A ramp stays where it is: a kernel that is off by half a pixel would train a shift."""
    ramp = np.tile(np.arange(20, 220, 2, dtype=np.uint8), (40, 1))
    small = plane_view(halve_frame(_frame(ramp), kernel))[:, 10:-10].astype(int)
    assert np.abs(small - (np.arange(20, 220, 4) + 1)[10:-10]).max() <= 1


def _moving(count: int = 8, side: int = 128) -> list[av.VideoFrame]:
    rng = np.random.default_rng(1)
    texture = halve(rng.integers(0, 256, (2 * side, 2 * side), dtype=np.uint8), "soft")
    return [_frame(np.roll(texture, 2 * i, axis=1)) for i in range(count)]


def _error(frames: list[av.VideoFrame], decoded: list[av.VideoFrame]) -> float:
    return float(np.mean([psnr(plane_view(a), plane_view(b)) for a, b in zip(frames, decoded, strict=True)]))


def test_x264_degrades_more_at_higher_crf() -> None:
    frames = _moving()
    coded = (encode_decode(frames, Coding("libx264", {"crf": crf})) for crf in ("18", "36"))
    light, heavy = (_error(frames, decoded) for decoded in coded)
    assert light > heavy + 6


@pytest.mark.parametrize("name", OTHERS)
def test_other_codecs_give_back_every_frame_damaged(name: str) -> None:
    if name not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {name}")
    key, low, _, more = OTHERS[name]
    frames = _moving()
    decoded = encode_decode(frames, Coding(name, {key: str(low), **more}))
    assert 15 < _error(frames, decoded) < 42
    assert all((f.width, f.height, f.format.name) == (128, 128, "yuv420p") for f in decoded)


CODED = sorted(set(DEGRADATIONS) - {"bicubic", "kernel", "camera"})


@pytest.mark.parametrize("name", CODED)
def test_every_codec_of_a_mix_gives_back_every_frame_damaged(name: str) -> None:
    """Also in sizes that are multiples of 4 only, and where two codecs follow one another."""
    frames = [f.reformat(132, 76) for f in _moving()]
    sizes = []

    def sized(share: float) -> list[av.VideoFrame]:
        sizes.append(share)
        width, height = (int(side * share) // 4 * 4 for side in (132, 76))
        return [f.reformat(width, height) for f in frames]

    for seed in range(8):
        decoded = degrade(name, np.random.default_rng(seed), sized)
        assert all((f.width, f.height, f.format.name) == (132, 76, "yuv420p") for f in decoded)
        assert 10 < _error(frames, decoded) < (60 if name == "x264_8_14" else 42)
    assert len(set(sizes)) > 1 if name == "twice" else set(sizes) == {1.0}


def test_old_files_vary() -> None:
    drawn = [draw(name, np.random.default_rng(n)) for name in ("divx", "h263", "wmv") for n in range(40)]
    assert {c.options.get("bf") for c in drawn[:40]} == {"0", "1", "2"}
    assert {int(c.options["qmin"]) for c in drawn[:40]} > {8, 12, 16}
    assert {c.codec for c in drawn} >= {"mpeg4", "flv", "h263p", "wmv2", "msmpeg4"} & av.codecs_available


def test_codings_vary_and_repeat() -> None:
    def draw(seed: int) -> list[Coding]:
        rng = np.random.default_rng(seed)
        return [draw_x264(rng, 18, 24) for _ in range(30)] + [draw_other(rng) for _ in range(30)]

    first = draw(1)
    assert first == draw(1) != draw(2)
    assert all(18 <= float(c.options["crf"]) <= 24 for c in first[:30])
    assert len({c.options["preset"] for c in first[:30]}) > 1
    assert len({c.interval for c in first[:30]}) > 1
    assert len({c.codec for c in first[30:]}) > 1


def test_p_and_b_frames_are_harvested() -> None:
    """A frame that keeps the type it was decoded with would force a key frame each time."""
    frames = encode_decode(_moving(), Coding("libx264", {"crf": "20"}, interval=1))  # decoded as I frames
    again = encode_decode(frames, Coding("libx264", {"crf": "20", "preset": "medium"}))
    kinds = {int(f.pict_type) for f in again}
    assert {int(av.video.frame.PictureType.P), int(av.video.frame.PictureType.B)} <= kinds


def test_a_still_pans_by_whole_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pixel of the small picture, and the sharp one stays sharp."""
    monkeypatch.setattr(material, "SOFTENED", 0.0)
    monkeypatch.setattr(material, "GRAINY", 0.0)
    monkeypatch.setattr(material, "COMPRESSED", 0.0)
    picture = np.random.default_rng(3).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    _still(tmp_path / "still.png", picture)
    for seed in range(6):
        (sequence,) = material.read_sequences(tmp_path / "still.png", np.random.default_rng(seed))
        lumas = [plane_view(f).astype(int) for f in sequence.frames]
        assert len(lumas) == material.SEQUENCE
        assert lumas[0].shape == (272, 376)
        inner = (slice(8, -8), slice(8, -8))
        shifts = [
            (dy, dx) for dy in range(-3, 4) for dx in range(-3, 4)
            if np.array_equal(np.roll(lumas[1], (dy, dx), (0, 1))[inner], lumas[0][inner])
        ]  # fmt: skip
        assert len(shifts) == 1


@pytest.mark.parametrize("name", ["photo.jpg", "PHOTO.JPEG", "photo.png"])
def test_large_photographs_are_read(tmp_path: Path, name: str) -> None:
    """By its name FFmpeg opens larger JPEGs with a demuxer that reads other files, too."""
    picture = np.random.default_rng(3).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    _still(tmp_path / name, picture)
    assert (tmp_path / name).stat().st_size > 60_000
    assert material.find_sources(tmp_path) == [tmp_path / name]
    (sequence,) = material.read_sequences(tmp_path / name, np.random.default_rng(0))
    assert (sequence.frames[0].width, sequence.frames[0].height) == (376, 272)


def test_crisp_originals_are_reduced_and_not_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(frames: list[av.VideoFrame], rng: np.random.Generator) -> list[av.VideoFrame]:
        raise AssertionError("degraded")

    monkeypatch.setattr(material, "degrade_original", refuse)
    _still(tmp_path / "still.png", np.random.default_rng(3).integers(0, 256, (600, 800, 3), dtype=np.uint8))
    sizes = set()
    for seed in range(8):
        (found,) = material.read_sequences(tmp_path / "still.png", np.random.default_rng(seed), crisp=True)
        sizes.add((found.frames[0].width, found.frames[0].height))
    assert len(sizes) > 1
    assert all(376 <= width <= 640 - 24 and 272 - 24 <= height <= 480 - 24 for width, height in sizes)


def test_a_cache_holds_what_its_recipe_draws(tmp_path: Path, crops: Path) -> None:
    mix = {"bicubic": 0.5, "twice": 0.25, "divx": 0.25, "vp8": 0.0}
    config = TrainConfig(stages=(Stage(name="a", iterations=1, mix=mix),), held_out=HELD_OUT)
    dataset.build(crops.parent / "clips", tmp_path / "c", config)
    found = dataset.load(tmp_path / "c")
    assert found.versions == ("bicubic", "divx", "twice")
    assert found.train["degraded"].shape[1:] == (3, dataset.CROP // 2, dataset.CROP // 2)
    assert found.clips.qualities == HELD_OUT
    clip = found.clips.clips[0]
    assert len(clip.low_luma) == len(HELD_OUT)
    errors = [psnr(clip.low_luma[0, -1], low[-1]) for low in clip.low_luma[1:]]
    assert errors[:4] == sorted(errors[:4], reverse=True)
    assert errors[4] < errors[1]


def test_grain_is_new_in_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "SOFTENED", 0.0)
    monkeypatch.setattr(material, "GRAINY", 1.0)
    flat = [_frame(np.full((64, 64), 120, np.uint8)) for _ in range(3)]
    lumas = [plane_view(f).astype(int) for f in material._grainy(flat, np.random.default_rng(0))]
    assert all(0.5 < luma.std() < 6 and abs(luma.mean() - 120) < 0.5 for luma in lumas)
    assert np.abs(lumas[0] - lumas[1]).mean() > 0.5
    assert plane_view(flat[0]).std() == 0, "the original is left alone"


@pytest.mark.parametrize(
    ("count", "longest", "lengths"),
    [(60, 24, [24, 24, 12]), (60, 8, [8] * 7), (31, 24, [24]), (7, 24, []), (8, 24, [8])],
)
def test_a_clip_is_divided_into_long_runs(count: int, longest: int, lengths: list[int]) -> None:
    """In eight frames an encoder hardly looks ahead, as it does in films."""
    frames = _moving(count)
    runs = list(material._runs(frames, longest, longest))
    assert [len(run) for run in runs] == lengths
    for n, run in enumerate(runs):
        first = plane_view(frames[n * longest])
        assert np.array_equal(plane_view(run[0]), first)


def test_runs_begin_where_they_should() -> None:
    """Of long clips a part is taken every so many frames."""
    assert [len(run) for run in material._runs(_moving(100), 40, 24)] == [24, 24, 20]


def test_large_frames_come_in_shorter_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 frames of 8K would be 2.4 GB."""
    path = tmp_path / "clip.mp4"
    write_clip(path, frames=30, size=(64, 48))
    monkeypatch.setattr(material, "MOST_PIXELS", 64 * 48 * 10)
    lengths = [len(s.frames) for s in material.read_sequences(path, np.random.default_rng(1))]
    assert lengths == [10, 10, 10]


def test_long_sequences_give_crops_of_several_moments() -> None:
    rng = np.random.default_rng(1)
    sequence = material.Sequence("x", _moving(24, 208))
    records = dataset.crops_of(sequence, rng)
    sharp = {record["sharp"].tobytes() for record in records}
    assert (
        len(records) == len(sharp) == 2 * len(dataset.crops_of(material.Sequence("x", _moving(12, 208)), rng))
    )


def test_two_of_three_runs_of_a_clip_are_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real originals are soft and compressed; a network that only saw halved ones sharpens all of them."""
    monkeypatch.setattr(material, "LONGEST", 8)
    write_clip(tmp_path / "clip.mkv", frames=48, size=(640, 544), codec="ffv1")
    found = list(material.read_sequences(tmp_path / "clip.mkv", np.random.default_rng(1), per_clip=6))
    assert [s.native for s in found] == [False, True, True] * 2
    assert [s.frames[0].width for s in found] == [320, 640, 640] * 2
    with av.open(str(tmp_path / "clip.mkv")) as clip:
        picture = list(clip.decode(video=0))[9]
    assert psnr(plane_view(picture), plane_view(found[1].frames[1])) > 50
    records = dataset.crops_of(found[1], np.random.default_rng(1))
    assert records
    assert all(record["native"] for record in records)


def test_native_crops_are_drawn_as_often_as_asked(crops: Path) -> None:
    found = np.array(dataset.load(crops).train[:40])
    found["native"] = np.arange(40) < 4
    found["sharp"] = np.where(found["native"], 200, 50)[:, None, None]
    for share, native in ((0.0, 0), (1.0, 64), (None, 64 * 0.1), (0.5, 32)):
        how = Sampler(seed=1, batch=64, patch=16, mix=EVENLY, native=share)
        batch = make_batch(found, 1, how)
        drawn = int((batch.high[:, 0, 0, 0] > 0.5).sum())
        assert drawn == native if share in (0, 1) else abs(drawn - native) < 12
        (again,) = prefetch(found, how, first=1, last=2)
        assert torch.equal(again.high, batch.high)


def test_a_share_of_native_crops_where_there_are_none(crops: Path) -> None:
    """A folder of stills trains with a recipe that asks for clips."""
    found = np.array(dataset.load(crops).train[:8])
    for native in (False, True):
        found["native"] = native
        assert len(make_batch(found, 1, Sampler(seed=1, batch=4, patch=16, mix=EVENLY, native=0.5)).low) == 4


def test_a_cut_ends_a_sequence(tmp_path: Path) -> None:
    """Two scenes in one sequence would have the codec predict one from the other."""
    path = tmp_path / "cut.mp4"
    rng = np.random.default_rng(0)
    scenes = [halve(rng.integers(lo, lo + 60, (384, 384), dtype=np.uint8), "soft") for lo in (20, 180)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width = stream.height = 192
        stream.pix_fmt = "yuv420p"
        for n in range(40):
            frame = _frame(scenes[n >= 20])
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    found = list(material.read_sequences(path, np.random.default_rng(0), per_clip=5))
    assert found
    for sequence in found:
        means = [plane_view(f).mean() for f in sequence.frames]
        assert max(means) - min(means) < 20


def test_crops_pair_up(crops: Path) -> None:
    """The clean low-resolution patch is the halved sharp patch, at the same place and orientation."""
    found = dataset.load(crops)
    assert len(found.train) >= dataset.MIN_CROPS
    assert len(found.held_out) > 0
    assert len(found.clips) > 0
    how = Sampler(seed=1, batch=16, patch=48, mix=(1, 0, 0, 0, 0, 0))
    batch = make_batch(found.train, 3, how)
    inner = (slice(6, -6), slice(6, -6))
    for a, b in zip(batch.low[:, 0], batch.high[:, 0], strict=True):
        small = halve((b * 255).round().byte().numpy())
        assert psnr(small[inner], (a * 255).round().byte().numpy()[inner]) > 45
    shrunk = torch.nn.functional.avg_pool2d(batch.high_chroma, 2)
    assert (shrunk - batch.low_chroma).abs().mean() < 0.01


def test_every_degradation_is_worse_than_the_one_before(crops: Path) -> None:
    errors = {}
    for version, name in enumerate(SIX):
        mix = tuple(float(k == version) for k in range(len(SIX)))
        batch = make_batch(dataset.load(crops).train, 0, Sampler(seed=1, batch=64, patch=48, mix=mix))
        up = torch.nn.functional.interpolate(batch.low, scale_factor=2, mode="bicubic")
        errors[name] = float((up - batch.high).square().mean())
    clean, light, clear, heavy = (errors[SIX[k]] for k in (0, 2, 3, 4))
    assert clean < light < clear < heavy
    assert errors["other"] > clean


def test_batches_repeat_and_differ(crops: Path) -> None:
    found = dataset.load(crops).train
    how = Sampler(seed=1, batch=4, patch=32, mix=EVENLY, levels=0.5)
    first, again, other = (make_batch(found, s, how) for s in (5, 5, 6))
    assert torch.equal(first.low, again.low)
    assert torch.equal(first.high, again.high)
    assert not torch.equal(first.high, other.high)


def test_a_batch_does_not_depend_on_who_shares_it(crops: Path) -> None:
    found = dataset.load(crops).train
    whole = make_batch(found, 7, Sampler(seed=1, batch=4, patch=32, mix=EVENLY, levels=0.5))
    half = make_batch(found, 7, Sampler(seed=1, batch=2, patch=32, mix=EVENLY, levels=0.5, first=2))
    assert torch.equal(whole.low[2:], half.low)
    assert torch.equal(whole.high_chroma[2:], half.high_chroma)


def test_levels_change_both_pictures_alike(crops: Path) -> None:
    found = dataset.load(crops).train
    plain, changed = (
        make_batch(found, 1, Sampler(seed=1, batch=32, patch=32, mix=EVENLY, levels=v)) for v in (0.0, 1.0)
    )
    assert set(plain.gain.flatten().tolist()) == {1.0}
    gains = changed.gain.flatten()
    assert (gains > 1.16).any(), "full range"
    assert (gains < 1.1).any()
    torch.testing.assert_close((changed.high - changed.offset) / changed.gain, plain.high, atol=1e-5, rtol=0)
    torch.testing.assert_close((changed.low - changed.offset) / changed.gain, plain.low, atol=1e-5, rtol=0)


def test_the_frame_before_lies_under_the_frame(crops: Path) -> None:
    """Two neighbouring frames differ less than two crops do, and take the same augmentation."""
    found = dataset.load(crops).train
    batch = make_batch(found, 2, Sampler(seed=1, batch=16, patch=48, mix=EVENLY, levels=0.5, before=True))
    assert batch.low_before.shape == batch.low.shape
    change = (batch.high - batch.high_before).abs().mean()
    assert 0 < change < 0.5 * (batch.high - batch.high.roll(1, 0)).abs().mean()
    assert (batch.low - batch.low_before).abs().mean() < 0.5 * (batch.low - batch.low.roll(1, 0)).abs().mean()
    assert make_batch(found, 2, Sampler(seed=1, batch=2, patch=48, mix=EVENLY)).low_before.shape[0] == 0


def test_prefetching_passes_errors_on_and_ends(crops: Path) -> None:
    found = dataset.load(crops).train
    how = Sampler(seed=1, batch=2, patch=32, mix=EVENLY)
    assert len(list(prefetch(found, how, first=3, last=6))) == 3
    with pytest.raises(ValueError, match="Probabilities"):
        next(prefetch(found, Sampler(seed=1, batch=2, patch=32, mix=(1, 1, 1, 1, 1, 1)), first=0, last=9))


def test_a_cache_is_made_once_and_alike(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same places and frames; x264 itself may differ by a little from call to call."""
    monkeypatch.setattr(material, "COMPRESSED", 0.0)
    monkeypatch.setattr(material, "GRAINY", 0.0)
    for name in ("a", "b"):
        dataset.build(crops.parent / "clips", tmp_path / name)
    first, second = (dataset.load(tmp_path / name).train for name in ("a", "b"))
    assert np.array_equal(first["sharp"], second["sharp"])
    assert np.array_equal(first["degraded"][:, :2], second["degraded"][:, :2])
    before = (tmp_path / "a" / "crops.u8").stat().st_mtime_ns
    dataset.build(crops.parent / "clips", tmp_path / "a")
    assert (tmp_path / "a" / "crops.u8").stat().st_mtime_ns == before


def test_too_little_material(tmp_path: Path) -> None:
    (tmp_path / "not a clip.mp4").write_bytes(b"text")
    write_clip(tmp_path / "tiny.mp4")
    skipped: dict[str, str | None] = {}
    with pytest.raises(TrainError, match="too little material"):
        dataset.build(
            tmp_path, tmp_path / "cache", on_source=lambda d, t, name, error: skipped.update({name: error})
        )
    assert skipped["not a clip.mp4"]
    assert skipped["tiny.mp4"] is None, "read, but too small for a crop"
    with pytest.raises(TrainError, match="no videos or pictures"):
        dataset.build(tmp_path / "cache", tmp_path / "other")


@pytest.mark.parametrize("damage", ["versions", "short"])
def test_foreign_or_damaged_caches_are_errors(crops: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(crops, tmp_path / "c")
    if damage == "short":
        (tmp_path / "c" / "crops.u8").write_bytes(b"")
    else:
        index = tmp_path / "c" / "index.json"
        index.write_text(index.read_text().replace('"bicubic"', '"something else"'))
    with pytest.raises(TrainError, match="crops"):
        dataset.load(tmp_path / "c")
